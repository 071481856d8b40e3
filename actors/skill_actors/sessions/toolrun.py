"""One tool call of a turn: decided, journalled as intended, run, journalled as finished."""

from __future__ import annotations

import logging
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import trio

from skill_actors.backends.base import BackendUnavailable, OutputChunk, ToolCall, ToolContext, ToolResult, Workspace
from skill_actors.backends.native import NATIVE, NativeRoom
from skill_actors.backends.redaction import Redactor
from skill_actors.backends.tools import READ_ONLY_TOOLS
from skill_actors.sessions.active_skills import ActiveSkills
from skill_actors.sessions.grants import Grants
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.policy import Policy
from skill_actors.sessions.surroundings import PinnedSkill
from skill_actors.skills.activation import LOAD_SKILL
from skill_actors.skills.secrets import SecretUnavailable
from skill_actors.telemetry import Bus

__all__ = ["ToolRun", "finished_data"]

_log = logging.getLogger(__name__)
_STREAMS: Final[tuple[Literal["stdout", "stderr"], ...]] = ("stdout", "stderr")
_FLUSH_INTERVAL_S: Final = 0.02  # at most 50 output events a second and call: each is a durable commit


def finished_data(call: ToolCall, result: ToolResult) -> dict[str, Any]:
    """Data of a tool.finished event."""
    shown = [{"media_type": image.media_type, "base64": b64encode(image.data).decode()} for image in result.images]
    return {
        "id": call.id,
        "name": call.name,
        "outcome": result.outcome,
        "is_error": result.is_error,
        "exit_code": result.exit_code,
        "content": result.content,
        "duration_ms": result.duration_ms,
        "output_file": result.output_file,
        "files": list(result.files),
        **({"images": shown} if shown else {}),
    }


class ToolRun:
    """Runs calls in one workspace and writes what happened into one log.

    Args:
        pinned: the skills of this turn; their copies may be read.
        skills: answers calls for instructions, and a call that names a skill is marked with it.
        grants: gives calls the secrets they are due, and says what has to be hidden.
        natives: runs the calls of its tools, whatever the backend; None if there are no such tools.
        output_chars: how much of a call's output is stored as events and given to the model.

    """

    def __init__(
        self,
        log: SessionLog,
        turn: str,
        *,
        workspace: Workspace,
        backend: str,
        policy: Policy,
        pinned: Sequence[PinnedSkill],
        skills: ActiveSkills,
        grants: Grants,
        natives: NativeRoom | None,
        timeout_s: float,
        output_chars: int,
        bus: Bus,
    ) -> None:
        self._log = log
        self._turn = turn
        self._workspace = workspace
        self._backend = backend
        self._policy = policy
        self._pinned = pinned
        self._skills = skills
        self._grants = grants
        self._natives = natives
        self._timeout_s = timeout_s
        self._output_chars = output_chars
        self._bus = bus

    async def run(self, call: ToolCall) -> ToolResult:
        """Run one call to its end; it has its tool.finished event whatever happens, also when cancelled."""
        decision = self._policy.decide(call)
        if decision.verdict != "allow":
            reason = decision.reason or "This call needs an approval, and nobody can give one here."
            result = ToolResult(content=reason, outcome="error")
            await self._log.append([Draft("tool.finished", self._turn, finished_data(call, result))])
            return result
        await self._log.append([Draft("tool.started", self._turn, self._started_data(call))])
        if self._skills.answers(call):
            return await self._load_skill(call)
        return await self._execute(call)

    async def _load_skill(self, call: ToolCall) -> ToolResult:
        loaded = self._skills.answer(call)
        data = finished_data(call, loaded.result)
        if loaded.holds is not None:
            data["skill_loaded"] = dict(loaded.holds)
        with trio.CancelScope(shield=True):  # what counts as given has to be in the log
            await self._log.append([Draft("tool.finished", self._turn, data)])
        return loaded.result

    async def _execute(self, call: ToolCall) -> ToolResult:
        began = time.monotonic()
        workspace, backend = self._place(call)
        meta = {"tool": call.name, "backend": backend}
        self._bus.emit("execute.start", {"system_time": time.time()}, meta)
        output = _Output(self._log, self._turn, call, self._output_chars)
        try:
            result = await self._perform(call, output, workspace)
        except BackendUnavailable as error:
            result = ToolResult(content=f"The {backend} backend cannot run this: {error}", outcome="error")
        except trio.Cancelled:
            result = _cancelled(output, began)
            self._tell(call, result, time.monotonic() - began, meta)
            await self._finish(call, output, result)
            raise
        except Exception as error:
            self._bus.emit("execute.exception", {"duration": time.monotonic() - began}, {**meta, "error": repr(error)})
            await self._finish(call, output, ToolResult(content="An internal error ended this call.", outcome="error"))
            raise
        self._tell(call, result, time.monotonic() - began, meta)
        await self._finish(call, output, result)
        return result

    def _place(self, call: ToolCall) -> tuple[Workspace, str]:
        """Where the call runs, and its backend's name: decided by the name of the tool."""
        if self._natives is not None and call.argv is None and call.name in self._natives.owners:
            return self._natives, NATIVE
        return self._workspace, self._backend

    async def _perform(self, call: ToolCall, output: _Output, workspace: Workspace) -> ToolResult:
        try:
            granted = await self._grants.judge(call)
        except SecretUnavailable as error:
            _log.warning("a call was not run: %s", error)
            content = "The call was not run, since a secret of its skill cannot be had: see skillctl skills status."
            return ToolResult(content=content, outcome="error")
        output.hide(granted.redactor)
        context = ToolContext(
            readable=[Path(pin.copy) for pin in self._pinned],
            timeout_s=self._timeout_s,
            max_output_chars=self._output_chars,
            environment=granted.environment,
            hidden=granted.hidden,
            emit=output.emit,
        )
        result = await workspace.execute(granted.call, context)
        return replace(result, content=granted.redactor.text(result.content))

    async def _finish(self, call: ToolCall, output: _Output, result: ToolResult) -> None:
        """What has run has a result in the log, whatever happens to the turn meanwhile. Waits for the disk only."""
        with trio.CancelScope(shield=True):
            await output.end()
            await self._log.append([Draft("tool.finished", self._turn, finished_data(call, result))])

    def _tell(self, call: ToolCall, result: ToolResult, seconds: float, meta: dict[str, str]) -> None:
        self._bus.emit("execute.stop", {"duration": seconds}, {**meta, "outcome": result.outcome})
        told = {"tool": call.name, "success": not result.is_error}
        self._bus.emit("conversation.tool_call", {"duration": seconds}, told)
        self._bus.emit(f"backend.{meta['backend']}.tool_call", {"duration": seconds}, told)

    def _started_data(self, call: ToolCall) -> dict[str, Any]:
        data: dict[str, Any] = {
            "id": call.id,
            "name": call.name,
            "input": dict(call.input),
            "backend": self._place(call)[1],
        }
        if call.name in READ_ONLY_TOOLS or call.name == LOAD_SKILL:
            data["read_only"] = True
        pin = self._skills.note(call)
        if pin is not None:
            data["skill"] = {"name": pin.skill.name, "digest": pin.skill.digest}
        return data


def _cancelled(output: _Output, began: float) -> ToolResult:
    """The processes are gone by now (the contract of `execute`); say so and keep what was printed."""
    said = output.text()
    content = "Cancelled while it ran; every process it started was killed."
    if said:
        content += f" Output until then:\n{said}"
    return ToolResult(content=content, outcome="cancelled", duration_ms=int((time.monotonic() - began) * 1000))


class _Output:
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
