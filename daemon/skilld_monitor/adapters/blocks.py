"""The blocks of a streamed answer, put together from their pieces: text, thinking, the use of tools, and others."""

from __future__ import annotations

from skilld_monitor.adapters.answers import get
from skilld_monitor.adapters.content import as_values

__all__ = ["Blocks"]

_GROWING = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class Blocks:
    """What was said so far."""

    def __init__(self) -> None:
        self._blocks: dict[object, dict[str, object]] = {}
        self._parts: dict[object, list[str]] = {}

    def note(self, event: object) -> None:
        """A piece of the stream: others than those of blocks say nothing."""
        kind, index = get(event, "type"), get(event, "index")
        if kind == "content_block_start":
            begun = as_values(get(event, "content_block"))
            self._blocks[index] = begun if isinstance(begun, dict) else {}
            self._parts[index] = []
        elif kind == "content_block_delta":
            delta = get(event, "delta")
            name = _GROWING.get(str(get(delta, "type")))
            text = get(delta, name) if name else None
            if type(text) is str:
                self._parts.setdefault(index, []).append(text)
                self._blocks.setdefault(index, {"type": "text"})

    def whole(self) -> list[object]:
        """The blocks in their order. What a tool is to be called with is parsed, if all of it came."""
        return [_finished(block, "".join(self._parts.get(index, ()))) for index, block in self._blocks.items()]


def _finished(block: dict[str, object], said: str) -> dict[str, object]:
    kind = block.get("type")
    if not said:
        return block
    if kind in ("text", "thinking"):
        return {**block, str(kind): f"{block.get(str(kind)) or ''}{said}"}
    return {**block, "input": _parsed(said)}


def _parsed(text: str) -> object:
    from json import loads

    try:
        return loads(text)
    except ValueError:
        return text
