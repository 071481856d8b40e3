"""What hooks are told: ids, outcomes and figures, and nothing that was said."""

from __future__ import annotations

import json

from skilld.hooks import NoticeQueue, notice_of
from skilld.hooks.notice import Notice

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
    meta = {"session": "ses_a", "turn": "trn_b", "call": "toolu_1", "tool": "bash_tool"}
    told = json.loads(notice_of("approval.needed", {"count": 1}, meta, NOW).body)
    assert (told["event"], told["id"]) == ("approval.needed", "trn_b:toolu_1")
    assert (told["tool"], told["call"]) == ("bash_tool", "toolu_1")


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
