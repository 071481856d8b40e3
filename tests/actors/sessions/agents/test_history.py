"""Answers that an agent tells in parts, and what the conversation knows of the agent's own session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from skill_actors.sessions.events import Event
from skill_actors.sessions.history import History

TIME = "2026-01-01T00:00:00.000Z"


def events(*told: tuple[str, Mapping[str, Any]]) -> list[Event]:
    """A turn with these events."""
    first: list[tuple[str, Mapping[str, Any]]] = [("turn.queued", {"text": "go"}), ("turn.started", {})]
    return [
        Event(seq=seq, type=type, time=TIME, session="ses_x", turn="trn_x", data=data)
        for seq, (type, data) in enumerate([*first, *told], 1)
    ]


def call(*ids: str, continued: bool = False) -> tuple[str, Mapping[str, Any]]:
    content = [{"type": "tool_use", "id": id, "name": "Bash", "input": {}} for id in ids]
    return "model.message", {
        "content": content,
        "stop_reason": "tool_use",
        **({"continued": True} if continued else {}),
    }


def result(id: str) -> tuple[str, Mapping[str, Any]]:
    return "tool.finished", {"id": id, "content": f"of {id}"}


def session_of(history: History) -> Mapping[str, Any] | None:
    """What is known of the session of the backend x."""
    return None if history.agents is None else history.agents.session("x")


def paired(history: History) -> list[tuple[str, list[str]]]:
    """Roles, and the ids in each message."""
    return [
        (message["role"], [str(block.get("id") or block.get("tool_use_id")) for block in message["content"]])
        for message in history.messages()[1:]
    ]


def test_parts_of_one_answer_are_one_message_whose_results_follow() -> None:
    history = History(events(call("a"), call("b", continued=True), result("b"), result("a")))
    assert paired(history) == [("assistant", ["a", "b"]), ("user", ["a", "b"])]


def test_a_part_that_comes_when_all_results_are_there_is_an_answer_of_its_own() -> None:
    history = History(events(call("a"), result("a"), call("b", continued=True), result("b")))
    assert paired(history) == [("assistant", ["a"]), ("user", ["a"]), ("assistant", ["b"]), ("user", ["b"])]


def test_calls_that_never_got_a_result_have_one_when_the_turn_ends() -> None:
    history = History(events(call("a"), call("b", continued=True), result("a"), ("turn.cancelled", {})))
    assert paired(history) == [("assistant", ["a", "b"]), ("user", ["a", "b"])]


@pytest.mark.parametrize("type", ["session.reset", "session.forked", "session.imported"])
def test_a_session_of_the_agent_belongs_to_one_conversation_and_one_life_of_it(type: str) -> None:
    known = ("agent.session", {"backend": "x", "session_id": "s-1", "totals": {}})
    history = History(events(known, ("turn.finished", {})))
    assert session_of(history) == known[1]
    history.add(Event(seq=9, type="session.restarted", time=TIME, session="ses_x", turn=None, data={}))
    assert session_of(history) == known[1]
    history.add(Event(seq=10, type=type, time=TIME, session="ses_x", turn=None, data={}))
    assert session_of(history) is None
