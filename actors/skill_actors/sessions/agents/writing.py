"""What an agent says and does, as events of the session's log: those that a turn of a model has.

Every call gets its result, also if the agent tells of none; a call that the agent did not announce is announced here. A
message that comes while calls of the one before it have no result yet is marked as a part of the same answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from skill_actors.models.base import Block
from skill_actors.sessions.agents.tools import is_read_only
from skill_actors.sessions.engine import text_of
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.session_files import SessionFiles

__all__ = ["AgentLog"]

_KINDS: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that has no result yet. `began_s`: when it was started, by the monotonic clock; None before."""

    name: str
    input: Mapping[str, Any]
    began_s: float | None = None


class AgentLog:
    """Writes one turn of an agent.

    Args:
        files: told of what calls have changed in the session's folder.
        backend, place: as events name them.
        max_chars: of a result that is kept.

    """

    def __init__(
        self, log: SessionLog, turn: str, files: SessionFiles, *, backend: str, place: str, max_chars: int
    ) -> None:
        self._log = log
        self._turn = turn
        self._files = files
        self._where = {"backend": backend, "place": place}
        self._max_chars = max_chars
        self._blocks = 0
        self._open = False  # a block of deltas is
        self._text: list[str] = []  # of the block that is open, or that no message has repeated yet
        self._calls: dict[str, _Call] = {}
        self._done: set[str] = set()
        self.model = ""
        self.answers = 0  # messages so far
        self.said: list[str] = []  # texts of all messages of the turn
        self.acted = False  # some call was started

    async def delta(self, text: str) -> None:
        """The agent writes."""
        if not text:
            return
        if not self._open:
            await self._log.open_block(self._turn, {"block": self._blocks, "kind": "text"})
            self._open = True
            self._blocks += 1
        self._text.append(text)
        self._log.delta(text)

    async def message(self, content: Sequence[Block]) -> None:
        """An answer of the agent's model."""
        await self.pause()
        self._text = []
        kept = [dict(block) for block in content if block.get("type") in _KINDS and not _is_blank(block)]
        calls = {str(block.get("id")): block for block in kept if block.get("type") == "tool_use"}
        kept = [block for block in kept if block.get("type") != "tool_use" or self._is_new(str(block.get("id")))]
        if not kept:
            return
        self.answers += 1
        await self._write(kept)
        if text := text_of(kept):
            self.said.append(text)
        for id, block in calls.items():
            if self._is_new(id):
                given = block.get("input")
                self._calls[id] = _Call(str(block.get("name")), given if isinstance(given, Mapping) else {})

    async def began(self, id: str, name: str, input: Mapping[str, Any], *, approval: str | None = None) -> None:
        """A call runs from now on. Of one that was told before nothing happens."""
        known = self._calls.get(id)
        if id in self._done or (known is not None and known.began_s is not None):
            return
        await self.pause()
        if known is None:
            await self._write([{"type": "tool_use", "id": id, "name": name, "input": dict(input)}])
        data: dict[str, Any] = {"id": id, "name": name, "input": dict(input), **self._where}
        if approval is not None:
            data["approval"] = approval
        if is_read_only(name):
            data["read_only"] = True
        else:
            self.acted = True
        await self._log.append([Draft("tool.started", self._turn, data)])
        self._calls[id] = _Call(name, input, time.monotonic())

    async def ended(self, id: str, content: str, *, is_error: bool, outcome: str | None = None) -> None:
        """A call is done; of one that is unknown, or done already, nothing happens."""
        call = self._calls.pop(id, None)
        if call is None:
            return
        await self.pause()
        self._done.add(id)
        began_s = call.began_s
        data = {
            "id": id,
            "name": call.name,
            "outcome": outcome or ("error" if is_error else "ok"),
            "is_error": is_error,
            "exit_code": None,
            "content": self._cut(content),
            "duration_ms": 0 if began_s is None else int((time.monotonic() - began_s) * 1000),
            "output_file": None,
            "files": [],
        }
        finished = Draft("tool.finished", self._turn, data)
        await self._files.append(lambda: [finished], self._turn)

    async def note(self, data: Mapping[str, Any]) -> None:
        """Something that a person may want to know."""
        await self.pause()
        await self._log.append([Draft("agent.notice", self._turn, dict(data))])

    @property
    def is_writing(self) -> bool:
        """Whether there are deltas that no message has repeated yet."""
        return bool(self._text)

    async def rest(self, why: str, *, stop_reason: str) -> str:
        """At the end: keep what was being written, and give calls without a result one that says why; the text."""
        await self.pause()
        text, self._text = "".join(self._text), []
        if text.strip():
            await self._write([{"type": "text", "text": text}], stop_reason=stop_reason, partial=True)
            self.said.append(text)
        for id in tuple(self._calls):
            await self.ended(id, why, is_error=True, outcome="not_run" if self._never_began(id) else "error")
        return text

    def _never_began(self, id: str) -> bool:
        return self._calls[id].began_s is None

    def _is_new(self, id: str) -> bool:
        return id not in self._calls and id not in self._done

    def _cut(self, content: str) -> str:
        if len(content) <= self._max_chars:
            return content
        half = self._max_chars // 2
        return f"{content[:half]}\n[... {len(content) - 2 * half} characters are left out ...]\n{content[-half:]}"

    async def pause(self) -> None:
        """What is written next is shown at once: readers see nothing past a block that is open."""
        if self._open:
            self._open = False
            await self._log.close_block()

    async def _write(
        self, content: Sequence[Mapping[str, Any]], *, stop_reason: str | None = None, partial: bool = False
    ) -> None:
        calls = any(block.get("type") == "tool_use" for block in content)
        data: dict[str, Any] = {
            "model": self.model or self._where["backend"],
            "content": list(content),
            "stop_reason": stop_reason or ("tool_use" if calls else "end_turn"),
            "usage": None,
        }
        if self._calls:
            data["continued"] = True
        if partial:
            data["partial"] = True
        await self._log.append([Draft("model.message", self._turn, data)])


def _is_blank(block: Block) -> bool:
    return block.get("type") == "text" and not str(block.get("text", "")).strip()
