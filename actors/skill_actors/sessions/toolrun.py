"""One tool call of a turn: decided, journalled as intended, run, journalled as finished."""

from __future__ import annotations

import logging
import math
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import trio

from skill_actors.backends.base import BackendUnavailable, OutputChunk, ToolCall, ToolContext, ToolResult, Workspace
from skill_actors.backends.native import NATIVE, NativeRoom
from skill_actors.backends.redaction import Redactor
from skill_actors.backends.routing import HAND_OVER, Route
from skill_actors.backends.tools import READ_ONLY_TOOLS
from skill_actors.errors import Refused
from skill_actors.files.artifacts import ArtifactError
from skill_actors.sessions.active_skills import ActiveSkills
from skill_actors.sessions.grants import Grants
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.policy import Policy
from skill_actors.sessions.session_files import SessionFiles
from skill_actors.sessions.surroundings import PinnedSkill
from skill_actors.skills.activation import LOAD_SKILL
from skill_actors.skills.secrets import SecretUnavailable
from skill_actors.telemetry import Bus

__all__ = ["Site", "ToolRun", "cost_of", "finished_data"]

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
        **({} if cost_of(result) is None else {"cost_usd": cost_of(result)}),
    }


def cost_of(result: ToolResult) -> float | None:
    """What the call cost, if its backend says so and it is an amount."""
    cost_usd = result.cost_usd
    return cost_usd if cost_usd is not None and math.isfinite(cost_usd) and cost_usd >= 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place, as the calls of one message of the model find it.

    Args:
        place: its name.
        backend: likewise.
        workspace: None if it could not be opened; then `why` says the reason.
        policy: over its tools by the names that they have there.
        grants: gives calls the secrets they are due, and says what has to be hidden.
        further: what `ActiveSkills` calls it; None for the main place.
        alone: whether the conversation has no other.

    """

    place: str
    backend: str
    workspace: Workspace | None
    policy: Policy
    grants: Grants
    why: str = ""
    further: str | None = None
    alone: bool = True

    @property
    def shown(self) -> str:
        """For a sentence that says who could not do something."""
        return f"The {self.backend} backend" if self.alone else f"The place {self.place} ({self.backend})"


class ToolRun:
    """Runs calls where they belong and writes what happened into one log.

    Args:
        main: where calls go that name no tool of a place.
        sites: the other places, by name.
        by_name: where the call of a tool goes, by the name that the model was offered it under.
        hand_over: takes the calls that copy files between places; None where there are no two.
        pinned: the skills of this turn; their copies may be read.
        skills: answers calls for instructions, and a call that names a skill is marked with it.
        natives: runs the calls of its tools, whatever the backend; None if there are no such tools.
        files: tells what calls do to them, and keeps them within their quota.
        output_chars: how much of a call's output is stored as events and given to the model.

    """

    def __init__(
        self,
        log: SessionLog,
        turn: str,
        *,
        main: Site,
        sites: Mapping[str, Site],
        by_name: Mapping[str, Route],
        hand_over: Workspace | None,
        pinned: Sequence[PinnedSkill],
        skills: ActiveSkills,
        natives: NativeRoom | None,
        timeout_s: float,
        output_chars: int,
        bus: Bus,
        files: SessionFiles,
    ) -> None:
        self._log = log
        self._turn = turn
        self._main = main
        self._sites = sites
        self._by_name = by_name
        self._hand_over = hand_over
        self._pinned = pinned
        self._skills = skills
        self._natives = natives
        self._timeout_s = timeout_s
        self._output_chars = output_chars
        self._bus = bus
        self._files = files

    async def run(self, call: ToolCall) -> ToolResult:
        """Run one call to its end; it has its tool.finished event whatever happens, also when cancelled."""
        site, routed = self._locate(call)
        decision = site.policy.decide(routed, offered=call.name)
        if decision.verdict != "allow":
            if decision.verdict == "ask":
                self._tell_approval_needed(call, routed, site)
            reason = decision.reason or "This call needs an approval, and nobody can give one here."
            result = ToolResult(content=reason, outcome="error")
            await self._log.append([Draft("tool.finished", self._turn, finished_data(call, result))])
            return result
        await self._log.append([Draft("tool.started", self._turn, self._started_data(call, routed, site))])
        if self._skills.answers(routed, site.further):
            return await self._load_skill(call, routed, site)
        return await self._execute(call, routed, site)

    def _tell_approval_needed(self, call: ToolCall, routed: ToolCall, site: Site) -> None:
        self._bus.emit("approval.needed", {"count": 1}, {**self._whose(routed), "place": site.place})

    def _whose(self, call: ToolCall) -> dict[str, str]:
        """What every event of a call says, so that they can be put together. The id is the model's."""
        return {"session": self._log.record.id, "turn": self._turn, "call": call.id, "tool": call.name}

    def _locate(self, call: ToolCall) -> tuple[Site, ToolCall]:
        """Where the call runs, decided by the name of the tool, and the call as it is made there."""
        if call.argv is not None:
            return self._main, call
        if self._natives is not None and call.name in self._natives.owners:
            return replace(self._main, place=NATIVE, backend=NATIVE, workspace=self._natives), call
        if call.name == HAND_OVER and self._hand_over is not None:
            return replace(self._main, place=HAND_OVER, backend=HAND_OVER, workspace=self._hand_over), call
        route = self._by_name.get(call.name)
        if route is None:
            return self._main, call
        return self._sites.get(route.place, self._main), replace(call, name=route.tool)

    async def _load_skill(self, call: ToolCall, routed: ToolCall, site: Site) -> ToolResult:
        loaded = self._skills.answer(routed, site.further)
        data = finished_data(call, loaded.result)
        if loaded.holds is not None:
            data["skill_loaded"] = dict(loaded.holds)
        with trio.CancelScope(shield=True):  # what counts as given has to be in the log
            await self._log.append([Draft("tool.finished", self._turn, data)])
        return loaded.result

    async def _execute(self, call: ToolCall, routed: ToolCall, site: Site) -> ToolResult:
        began = time.monotonic()
        meta = {**self._whose(routed), "backend": site.backend, "place": site.place}
        self._bus.emit("execute.start", {"system_time": time.time()}, meta)
        output = _Output(self._log, self._turn, call, self._output_chars)
        try:
            result = await self._perform(routed, output, site)
        except BackendUnavailable as error:
            result = ToolResult(content=f"{site.shown} cannot run this: {error}", outcome="error")
        except trio.Cancelled:
            result = _cancelled(output, began)
            self._tell(routed, result, time.monotonic() - began, meta)
            await self._finish(call, output, result, site)
            raise
        except Exception as error:
            self._bus.emit("execute.exception", {"duration": time.monotonic() - began}, {**meta, "error": repr(error)})
            failed = ToolResult(content="An internal error ended this call.", outcome="error")
            await self._finish(call, output, failed, site)
            raise
        self._tell(routed, result, time.monotonic() - began, meta)
        return await self._finish(call, output, result, site)

    async def _perform(self, call: ToolCall, output: _Output, site: Site) -> ToolResult:
        if site.workspace is None:
            raise BackendUnavailable(site.why)
        try:
            granted = await site.grants.judge(call)
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
        result = await self._run(site.workspace, granted.call, context, site)
        return replace(result, content=granted.redactor.text(result.content))

    async def _run(self, workspace: Workspace, call: ToolCall, context: ToolContext, site: Site) -> ToolResult:
        """The call itself, within what the workspace may hold."""
        if (refused := self._files.refusal(call.name)) is not None:
            return refused
        try:
            placed = await self._files.placed(call, workspace, site.place)
        except (ArtifactError, Refused) as error:
            return ToolResult(content=f"Not run: {error.code}: {error.message}", outcome="error")
        return await self._files.bounded(lambda: workspace.execute(placed, context), site.place)

    async def _finish(self, call: ToolCall, output: _Output, result: ToolResult, site: Site) -> ToolResult:
        """What has run has a result in the log, whatever happens to the turn meanwhile. Waits for the disk only.

        In the same commit are the files that it changed; the result says so if they are too many.
        """
        told, files = result, self._files

        def finished() -> Sequence[Draft]:
            nonlocal told
            told = files.noted(result)
            return [Draft("tool.finished", self._turn, finished_data(call, told))]

        with trio.CancelScope(shield=True):
            await output.end()
            await files.append(finished, self._turn, place=site.place)
        return told

    def _tell(self, call: ToolCall, result: ToolResult, seconds: float, meta: dict[str, str]) -> None:
        self._bus.emit("execute.stop", {"duration": seconds}, {**meta, "outcome": result.outcome})
        told = {**self._whose(call), "success": not result.is_error}
        self._bus.emit("conversation.tool_call", {"duration": seconds}, told)
        self._bus.emit(f"backend.{meta['backend']}.tool_call", {"duration": seconds}, told)

    def _started_data(self, call: ToolCall, routed: ToolCall, site: Site) -> dict[str, Any]:
        data: dict[str, Any] = {
            "id": call.id,
            "name": call.name,
            "input": dict(call.input),
            "backend": site.backend,
            "place": site.place,
        }
        if routed.name in READ_ONLY_TOOLS or routed.name == LOAD_SKILL:
            data["read_only"] = True
        pin = self._skills.note(routed, site.further)
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
