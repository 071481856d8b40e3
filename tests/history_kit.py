"""Events of a conversation as a log would number them, and blocks of its messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skill_actors.models.base import Message
from skill_actors.sessions.events import Event
from skill_actors.sessions.history import History


class Script:
    """Numbers events as a log would."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, type: str, turn: str | None = "t1", **data: Any) -> Script:
        seq = len(self.events) + 1
        self.events.append(
            Event(seq=seq, type=type, time="2026-01-01T00:00:00.000Z", session="s", turn=turn, data=data)
        )
        return self

    def ask(self, text: str, turn: str = "t1", **data: Any) -> Script:
        return self.add("turn.queued", turn, text=text, files=[], **data).add("turn.started", turn)

    def say(self, *content: dict[str, Any], turn: str = "t1") -> Script:
        return self.add("model.message", turn, content=list(content))

    def messages(self) -> Sequence[Message]:
        return History(self.events).messages()


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def use(id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "bash_tool", "input": {}}


def result(id: str, content: str, *, error: bool = False) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": id, "content": content}
    return {**block, "is_error": True} if error else block
