"""What a `claude` process says, line by line, as events of a turn. Pure: lines in, events out.

The order of keys is never relied on, and what is unknown is handed on as it is. A message of the model comes in several
lines, one a block, among the events of its stream; it is told as one `Said` when it is complete.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from skill_actors.backends.agents.base import (
    AgentEvent,
    Notice,
    Raw,
    Retrying,
    Said,
    SessionKnown,
    Spent,
    TextDelta,
    ToolBegan,
    ToolEnded,
)
from skill_actors.backends.agents.claude.metering import Seen, count, mapping
from skill_actors.models.base import Block

__all__ = ["TurnReader", "parse"]

_SYNTHETIC = "<synthetic>"  # the model of messages that the program wrote itself, such as those of errors
_MAX_NOTICE_CHARS = 500


def parse(line: bytes) -> dict[str, Any] | None:
    """The object in a line; None if there is none. Bytes that are not UTF-8 become U+FFFD."""
    try:
        message = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


class TurnReader:
    """What one turn has said so far."""

    def __init__(self, session_id: str | None = None) -> None:
        self.session_id = session_id
        self.model: str | None = None
        self.seen = Seen()
        self.acted = False
        self.limited_until_s: float | None = None  # since 1970, where the API has said that a limit is reached
        self._texts: list[str] = []  # of complete messages
        self._writing = ""  # of the one that is being written
        self._message_id: str | None = None
        self._blocks: list[Block] = []
        self._began: list[ToolBegan] = []

    @property
    def partial(self) -> str:
        """What the agent has said, as far as it came."""
        return "\n\n".join(text for text in (*self._texts, self._writing) if text)

    def take(self, line: bytes) -> Iterator[AgentEvent]:
        """The events of a line that is no object, and so of none of the kinds below."""
        text = line.decode(errors="replace").strip()
        if text:
            yield Notice(text[:_MAX_NOTICE_CHARS])

    def read(self, message: Mapping[str, Any]) -> Iterator[AgentEvent]:
        """The events of a message that is neither a result nor one of the control protocol."""
        yield from self._session(message)
        match message.get("type"):
            case "system":
                yield from self._system(message)
            case "stream_event":
                yield from self._stream(message)
            case "assistant":
                yield from self._assistant(message)
            case "user":
                yield from self._user(message)
            case "rate_limit_event":
                self._limit(mapping(message.get("rate_limit_info")))
                yield Raw(message)
            case _:
                yield Raw(message)

    def flush(self) -> Iterator[AgentEvent]:
        """What is complete now, since something else has begun."""
        if self._blocks:
            text = "".join(block["text"] for block in self._blocks if block.get("type") == "text")
            self._texts.append(text)
            self._writing = ""
            yield Said(tuple(self._blocks))
            yield from self._began
        self._blocks, self._began = [], []

    def _limit(self, told: Mapping[str, Any]) -> None:
        resets = told.get("resetsAt")
        known = told.get("status") == "rejected" and isinstance(resets, int | float) and not isinstance(resets, bool)
        self.limited_until_s = float(resets) if known and resets is not None and math.isfinite(resets) else None

    def _session(self, message: Mapping[str, Any]) -> Iterator[AgentEvent]:
        found = message.get("session_id")
        if isinstance(found, str) and found and found != self.session_id:
            self.session_id = found
            yield SessionKnown(found)

    def _system(self, message: Mapping[str, Any]) -> Iterator[AgentEvent]:
        if message.get("subtype") == "api_retry":
            delay_s = count(message.get("retry_delay_ms")) / 1000
            reason = f"{message.get('error_status') or ''} {message.get('error') or ''}".strip()
            yield Retrying(count(message.get("attempt")), delay_s, reason)
        else:
            yield Raw(message)

    def _stream(self, message: Mapping[str, Any]) -> Iterator[AgentEvent]:
        event = mapping(message.get("event"))
        main = message.get("parent_tool_use_id") is None
        match event.get("type"):
            case "message_start":
                begun = mapping(event.get("message"))
                if main:
                    yield from self.flush()
                self.seen.begin(str(begun.get("id")), str(begun.get("model")), mapping(begun.get("usage")))
            case "content_block_delta" if main:
                text = mapping(event.get("delta")).get("text")
                if isinstance(text, str) and text:
                    self._writing += text
                    yield TextDelta(text)
            case "message_delta":
                if self.seen.more(mapping(event.get("usage"))):
                    yield Spent(self.seen.usage, self.seen.by_model)
            case "message_stop":
                self.seen.end()
                if main:
                    yield from self.flush()

    def _assistant(self, message: Mapping[str, Any]) -> Iterator[AgentEvent]:
        said = mapping(message.get("message"))
        blocks = [dict(block) for block in _blocks(said)]
        calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
        self.acted = self.acted or bool(calls)
        if said.get("model") == _SYNTHETIC:
            yield Raw(message)
            return
        if message.get("parent_tool_use_id") is not None:  # of a helper: its words are not the agent's
            self.seen.whole(str(said.get("id")), str(said.get("model")), mapping(said.get("usage")))
            yield Raw(message)
            yield from calls
            return
        self.model = str(said.get("model") or "") or self.model
        if said.get("id") != self._message_id:
            yield from self.flush()
            self._message_id = said.get("id")
        self._blocks += blocks
        self._began += calls

    def _user(self, message: Mapping[str, Any]) -> Iterator[AgentEvent]:
        yield from self.flush()
        results = [block for block in _blocks(mapping(message.get("message"))) if block.get("type") == "tool_result"]
        for block in results:
            yield ToolEnded(str(block.get("tool_use_id")), _text(block.get("content")), block.get("is_error") is True)
        if not results:
            yield Raw(message)


def _blocks(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _call(block: Mapping[str, Any]) -> ToolBegan:
    return ToolBegan(str(block.get("id")), str(block.get("name")), mapping(block.get("input")))


def _text(content: object) -> str:
    """Of a result: its text, and a word for each block that is none."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [mapping(block) for block in content]
    return "\n".join(
        str(block.get("text")) if block.get("type") == "text" else f"[{block.get('type')}]" for block in blocks
    )
