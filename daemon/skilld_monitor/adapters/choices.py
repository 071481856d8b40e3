"""The choices of a streamed chat completion, put together from their pieces: what was said, and calls of tools."""

from __future__ import annotations

from skilld_monitor.adapters.answers import get
from skilld_monitor.adapters.content import as_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Choices", "listed", "message_content"]


def listed(value: object) -> list[object]:
    """A list as it is; anything else has nothing in it."""
    return value if isinstance(value, list) else []


def message_content(message: object) -> dict[str, object]:
    """What is reported of a message: what was said or refused, and which tools it asks for."""
    found: dict[str, object] = {"content": get(message, "content")}
    refusal = get(message, "refusal")
    if type(refusal) is str:
        found["refusal"] = refusal
    found["tool_calls"] = [as_values(call) for call in listed(get(message, "tool_calls"))]
    return found


class Choices:
    """What was said so far, by the number of the choice."""

    def __init__(self) -> None:
        self._said: dict[object, list[str]] = {}
        self._refused: dict[object, list[str]] = {}
        self._tools: dict[object, dict[object, dict[str, Any]]] = {}
        self.reasons: dict[object, str] = {}

    def note(self, piece: object, *, content: bool) -> None:
        """A piece of the stream.

        Args:
            content: whether what is said is kept, and not only why it ended.

        """
        for choice in listed(get(piece, "choices")):
            index, delta = get(choice, "index"), get(choice, "delta")
            reason = get(choice, "finish_reason")
            if type(reason) is str:
                self.reasons[index] = reason
            if content:
                said = self._said.setdefault(index, [])
                for kept, text in ((said, get(delta, "content")), (said, get(choice, "text"))):
                    if type(text) is str:
                        kept.append(text)
                refused = get(delta, "refusal")
                if type(refused) is str:
                    self._refused.setdefault(index, []).append(refused)
                for part in listed(get(delta, "tool_calls")):
                    self._note_tool(index, part)

    def _note_tool(self, choice: object, part: object) -> None:
        call = self._tools.setdefault(choice, {}).setdefault(
            get(part, "index"), {"id": None, "type": "function", "function": {"name": None, "arguments": ""}}
        )
        call["id"] = get(part, "id") or call["id"]
        function = get(part, "function")
        call["function"]["name"] = get(function, "name") or call["function"]["name"]
        arguments = get(function, "arguments")
        if type(arguments) is str:
            call["function"]["arguments"] += arguments

    def whole(self) -> list[object]:
        """A message for each choice, in the shape of those of an answer that is not streamed."""
        found: list[object] = []
        for index in self._said:
            message: dict[str, object] = {"content": "".join(self._said[index]) or None}
            if index in self._refused:
                message["refusal"] = "".join(self._refused[index])
            found.append({**message, "tool_calls": list(self._tools.get(index, {}).values())})
        return found
