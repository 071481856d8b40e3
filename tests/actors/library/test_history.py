"""Which messages may stand in a conversation of a program, and what becomes of odd ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from loop_kit import MemoryExecutor, Script, says
from skill_actors.library import new_local
from skill_actors.models.base import Message
from support import run


def _use(id: object) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "x", "input": {}}]}


def _result(id: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": [{"type": "tool_result", "tool_use_id": id, "content": "r"}]}


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([1], "no object"),
        (["said"], "no object"),
        ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "has a text"),
        (
            [{"role": "user", "content": _use("a")["content"]}, _result("a")],
            "of the assistant, not of the user",
        ),
        ([_use("a"), _result("a", "assistant")], "of the user, not of the assistant"),
        ([{"role": "assistant", "content": 2 * _use("a")["content"]}, _result("a")], "id of its own"),
        ([_use(None), _result("None")], "id of its own"),
        ([_use("a"), _result("a"), _use("a"), _result("a")], "id of an earlier one"),
    ],
)
def test_a_history_that_the_api_would_refuse_is_refused(messages: list[Any], why: str) -> None:
    async def main() -> None:
        before = [{"role": "user", "content": "hi"}]
        with pytest.raises(ValueError, match=why):
            async with new_local(executor=MemoryExecutor(), messages=[*before, *messages]):
                raise AssertionError("it was opened")
        async with new_local(executor=MemoryExecutor(), messages=before) as session:
            with pytest.raises(ValueError, match=why):
                session.add_messages(messages)
            assert len(session.messages) == 1

    run(main)


@pytest.mark.parametrize("message", [_use("a")["content"], _result("a")["content"]], ids=["call", "result"])
def test_nobody_says_a_call_or_its_result_and_the_conversation_stays_good(message: Any) -> None:
    async def main() -> None:
        async with new_local(executor=MemoryExecutor()) as session:
            with pytest.raises(ValueError, match="add_messages"):
                await session.chat(message, Script(says("x")))
            assert session.messages == []

    run(main)


def test_half_a_surrogate_pair_does_not_keep_a_conversation_from_going_on() -> None:
    """An SDK cannot send it: each further turn would fail."""
    asked: list[bytes] = []

    async def ask(messages: Sequence[Message], request: Mapping[str, Any]) -> object:
        asked.append(json.dumps([messages, request], ensure_ascii=False).encode())
        return says("odd \ud83d answer")

    async def main() -> None:
        async with new_local(executor=MemoryExecutor()) as session:
            await session.chat("odd \ud800 question", ask)
            await session.chat("whole \U0001f600", ask)
            assert session.messages[0]["content"][0]["text"] == "odd \ud800 question"  # what was said, stays

    run(main)
    assert "odd \ufffd answer" in asked[1].decode()
    assert "whole \U0001f600" in asked[1].decode()
