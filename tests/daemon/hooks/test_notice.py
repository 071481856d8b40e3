"""What hooks are told: ids, outcomes and figures, and nothing that was said."""

from __future__ import annotations

import json

from skilld.config.hooks import HOOK_EVENTS
from skilld.hooks import NoticeQueue, notice_of
from skilld.hooks.notice import BUS_EVENTS, Notice

ENDED = {
    "session": "ses_a",
    "turn": "trn_b",
    "outcome": "failed",
    "stop_reason": "error",
    "code": "overloaded",
    "model": "claude-x",
}
NOW = "2026-11-21T19:50:04.113Z"


def test_an_ending_is_told_with_its_figures() -> None:
    notice = notice_of("turn.stop", {"duration": 1.5, "cost_usd": 0.25, "input_tokens": 7}, ENDED, NOW)
    assert (notice.event, notice.session, notice.turn) == ("turn.failed", "ses_a", "trn_b")
    told = json.loads(notice.body)
    assert told.pop("usage")["input_tokens"] == 7
    assert told == {
        "event": "turn.failed",
        "id": "trn_b:turn.failed",
        "time": NOW,
        "session": "ses_a",
        "turn": "trn_b",
        "stop_reason": "error",
        "code": "overloaded",
        "model": "claude-x",
        "duration_ms": 1500,
        "cost_usd": 0.25,
    }


def test_what_is_not_known_is_null_and_never_zero() -> None:
    told = json.loads(notice_of("turn.stop", {}, {**ENDED, "code": "", "model": ""}, NOW).body)
    assert [told[key] for key in ("code", "model", "duration_ms", "cost_usd")] == [None, None, None, None]


def test_a_needed_approval_names_the_tool_and_the_call() -> None:
    meta = {"session": "ses_a", "turn": "trn_b", "call": "toolu_1", "tool": "bash_tool", "id": "apr_c"}
    told = json.loads(notice_of("approval.requested", {"count": 1}, {**meta, "status": "pending"}, NOW).body)
    assert (told["event"], told["id"]) == ("approval.needed", "trn_b:approval.needed:apr_c")
    assert (told["approval"], told["tool"], told["call"], "status" in told) == ("apr_c", "bash_tool", "toolu_1", False)
    told = json.loads(notice_of("approval.resolved", {"count": 1}, {**meta, "status": "expired"}, NOW).body)
    assert (told["event"], told["id"]) == ("approval.resolved", "trn_b:approval.resolved:apr_c")
    assert (told["approval"], told["status"]) == ("apr_c", "expired")


def test_names_that_others_choose_are_cut() -> None:
    told = json.loads(notice_of("turn.stop", {}, {**ENDED, "model": "m" * 9000}, NOW).body)
    assert told["model"] == "m" * 200


def test_a_full_queue_lets_the_oldest_go_and_counts_it() -> None:
    dropped: list[int] = []
    queue = NoticeQueue(2, lambda: dropped.append(1))
    notices = [Notice(event="e", session="s", turn=str(n), body=b"{}") for n in range(4)]
    for notice in notices:
        queue.add(notice)
    assert len(dropped) == 2
    queue.give_back(notices[0])
    assert len(dropped) == 3, "what comes back has no room any more"
    assert [queue.take().turn, queue.take().turn] == ["2", "3"]
    queue.give_back(notices[1])
    assert queue.take().turn == "1"


def test_a_warning_and_a_refusal_of_a_budget_name_the_cap_and_its_figures() -> None:
    meta = {"session": "ses_a", "turn": "trn_b", "cap": "user/1000/day", "unit": "usd"}
    warned = json.loads(notice_of("budget.warning", {"used": 4.0, "limit": 5.0, "share": 0.8}, meta, NOW).body)
    assert warned == {
        "event": "budget.warning",
        "id": "trn_b:budget.warning:user/1000/day:usd:0.8",
        "time": NOW,
        "session": "ses_a",
        "turn": "trn_b",
        "cap": "user/1000/day",
        "unit": "usd",
        "used": 4.0,
        "limit": 5.0,
        "share": 0.8,
    }
    refused = json.loads(notice_of("budget.exceeded", {"used": 4.0, "limit": 5.0, "wanted": 2.0}, meta, NOW).body)
    assert (refused["event"], refused["wanted"]) == ("budget.exceeded", 2.0)
    assert refused["id"] == "trn_b:budget.exceeded:user/1000/day:usd"


def test_every_event_that_a_hook_may_be_told_is_one_that_it_may_ask_for() -> None:
    assert set(BUS_EVENTS) - {"approval.requested", "turn.stop"} <= set(HOOK_EVENTS)
