"""What a running call prints, as events of the session's log."""

from __future__ import annotations

import time
from typing import Final, Literal

import trio

from skill_actors.backends.base import OutputChunk, ToolCall, ToolResult
from skill_actors.backends.redaction import Redactor
from skill_actors.sessions.log import Draft, SessionLog

__all__ = ["ToolOutput", "cancelled_result"]

_STREAMS: Final[tuple[Literal["stdout", "stderr"], ...]] = ("stdout", "stderr")
_FLUSH_INTERVAL_S: Final = 0.02  # at most 50 output events a second and call: each is a durable commit


def cancelled_result(output: ToolOutput, began: float) -> ToolResult:
    """The processes are gone by now (the contract of `execute`); say so and keep what was printed."""
    said = output.text()
    content = "Cancelled while it ran; every process it started was killed."
    if said:
        content += f" Output until then:\n{said}"
    return ToolResult(content=content, outcome="cancelled", duration_ms=int((time.monotonic() - began) * 1000))


class ToolOutput:
    """What a running call prints, as tool.output events: bounded, and never more than 50 a second."""

    def __init__(self, log: SessionLog, turn: str, call: ToolCall, max_chars: int) -> None:
        self._log = log
        self._turn = turn
        self._call = call
        self._room = max_chars
        self._pending: list[OutputChunk] = []
        self._redacted = {stream: Redactor().stream() for stream in _STREAMS}
        self._flushed_at = -1.0
        self._said: list[str] = []

    def hide(self, redactor: Redactor) -> None:
        """From now on these values are hidden. To be called before anything is emitted."""
        self._redacted = {stream: redactor.stream() for stream in _STREAMS}

    async def emit(self, chunk: OutputChunk) -> None:
        """Take more output. Waits while the log is busy, so that a fast tool is slowed and nothing piles up."""
        if not self._take(chunk.stream, self._redacted[chunk.stream].feed(chunk.text)):
            return
        wait_s = self._flushed_at + _FLUSH_INTERVAL_S - trio.current_time()
        if wait_s > 0:
            await trio.sleep(wait_s)
        await self.flush()

    def _take(self, stream: Literal["stdout", "stderr"], text: str) -> bool:
        text = text[: self._room]
        if text:
            self._room -= len(text)
            self._said.append(text)
            self._pending.append(OutputChunk(stream, text))
        return bool(text)

    async def end(self) -> None:
        """There is no more: make events of the rest."""
        for stream in _STREAMS:
            self._take(stream, self._redacted[stream].end())
        await self.flush()

    async def flush(self) -> None:
        """Make events of what is pending, neighbours of one stream together."""
        pending, self._pending = self._pending, []
        drafts: list[Draft] = []
        for chunk in pending:
            if drafts and drafts[-1].data["stream"] == chunk.stream:
                merged = {**drafts[-1].data, "text": drafts[-1].data["text"] + chunk.text}
                drafts[-1] = Draft("tool.output", self._turn, merged)
            else:
                data = {"id": self._call.id, "stream": chunk.stream, "text": chunk.text}
                drafts.append(Draft("tool.output", self._turn, data))
        if drafts:
            await self._log.append(drafts)
            self._flushed_at = trio.current_time()

    def text(self) -> str:
        return "".join(self._said)
