"""One tool call of a turn: decided, approved if need be, journalled as intended, run, journalled as finished."""

from __future__ import annotations

import logging
import math
import time
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from skill_actors.backends.base import BackendUnavailable, ToolCall, ToolContext, ToolResult, Workspace
from skill_actors.backends.native import NATIVE, NativeRoom
from skill_actors.backends.routing import HAND_OVER, Route
from skill_actors.backends.tool_source import SOURCES
from skill_actors.backends.tools import READ_ONLY_TOOLS
from skill_actors.errors import Refused
from skill_actors.files.artifacts import ArtifactError
from skill_actors.sessions.active_skills import ActiveSkills
from skill_actors.sessions.approvals import ApprovalDesk
from skill_actors.sessions.approvals.binding import SECRET_MISSING, Binding
from skill_actors.sessions.consent import Cleared, Consent, Withheld
from skill_actors.sessions.grants import Granted
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.screening import Blocked, Screen
from skill_actors.sessions.session_files import SessionFiles
from skill_actors.sessions.site import Site
from skill_actors.sessions.sources import SourceRoom
from skill_actors.sessions.surroundings import PinnedSkill
from skill_actors.sessions.tool_output import ToolOutput, cancelled_result
from skill_actors.skills.activation import LOAD_SKILL
from skill_actors.skills.secrets import SecretUnavailable
from skill_actors.telemetry import Bus

__all__ = ["Site", "ToolRun", "cost_of", "finished_data"]

_log = logging.getLogger(__name__)


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
        further: runs the calls of tools of the session's sources; None if there are none.
        files: tells what calls do to them, and keeps them within their quota.
        output_chars: how much of a call's output is stored as events and given to the model.
        approvals: where approvals are asked for; None: what needs one is denied.
        approval_timeout_s: how long an answer is waited for.
        resting: what a call is in for as long as it waits for somebody.
        schemas: of the inputs, by the name that the model was offered a tool under.
        asked: ids of calls that somebody was asked about before a restart: that answer holds, though the policy may
            want none by now.
        screen: looks into calls before anything else is decided about them; None: nobody does.

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
        further: SourceRoom | None = None,
        approvals: ApprovalDesk | None = None,
        approval_timeout_s: float = 3600.0,
        resting: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        schemas: Mapping[str, Mapping[str, Any]] | None = None,
        asked: Collection[str] = (),
        screen: Screen | None = None,
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
        self._further = further
        self._timeout_s = timeout_s
        self._output_chars = output_chars
        self._bus = bus
        self._files = files
        self._desk = approvals
        self._asked = asked
        self._screen = screen
        self.denied: set[str] = set()  # ids of calls that were not permitted, and have not run
        self._consent = None
        if approvals is not None:
            binding = Binding(log.record.id, turn, files=files, pinned=pinned, skills=skills)
            self._consent = Consent(
                approvals, log, turn, binding, timeout_s=approval_timeout_s, resting=resting, schemas=schemas
            )

    async def run(self, call: ToolCall) -> ToolResult:
        """Run one call to its end; it has its tool.finished event whatever happens, also when cancelled.

        But for one thing: a call that is cancelled while it waits for an approval has no event of its own yet, as if it
        had never been looked at. It was not begun, so it can be taken up again.
        """
        site, routed = self._locate(call)
        screened = await self._screened(routed)
        cleared = screened if isinstance(screened, Withheld) else await self._clear(call, screened, site)
        if isinstance(cleared, Withheld):
            self.denied.add(call.id)
            result = ToolResult(content=cleared.reason, outcome="error")
            finished = Draft("tool.finished", self._turn, finished_data(call, result))
            await self._log.append([finished], approvals=cleared.approvals)
            return result
        started = Draft("tool.started", self._turn, self._started_data(call, cleared, site))
        await self._log.append([started], approvals=cleared.approvals)
        if self._skills.answers(cleared.call, site.further):
            return await self._load_skill(call, cleared, site)
        return await self._execute(call, cleared, site)

    async def _screened(self, routed: ToolCall) -> ToolCall | Withheld:
        """The call as it may be made, as far as what is in it is concerned."""
        if self._screen is None:
            return routed
        record = self._log.record
        given = await self._screen.call(record.owner_uid, record.id, routed.name, routed.input)
        if isinstance(given, Blocked):
            return Withheld(given.reason)
        if given is routed.input:
            return routed
        if routed.argv is not None:  # its words are what runs, and were made of the message
            return Withheld("Not run: the command names what must not be passed on.")
        return replace(routed, input=given)

    async def _clear(self, call: ToolCall, routed: ToolCall, site: Site) -> Cleared | Withheld:
        """What may run of the call, if anything."""
        decision = site.policy.decide(routed, offered=call.name)
        if decision.verdict == "allow" and call.id not in self._asked:
            return Cleared(routed)
        if decision.verdict == "deny":
            if self._desk is not None:
                await self._desk.withdraw(self._log, self._turn, call.id, "the policy denies it by now")
            return Withheld(decision.reason)
        self._tell_approval_needed(routed, site)
        if self._consent is None:
            return Withheld(decision.reason or "This call needs an approval, and nobody can give one here.")
        return await self._consent.obtain(call, routed, site, decision)

    def _tell_approval_needed(self, routed: ToolCall, site: Site) -> None:
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
        if self._further is not None and call.name in self._further.owners:
            source, _reads = self._further.owners[call.name]
            return replace(self._main, place=f"{SOURCES}:{source}", backend=SOURCES, workspace=self._further), call
        if call.name == HAND_OVER and self._hand_over is not None:
            return replace(self._main, place=HAND_OVER, backend=HAND_OVER, workspace=self._hand_over), call
        route = self._by_name.get(call.name)
        if route is None:
            return self._main, call
        return self._sites.get(route.place, self._main), replace(call, name=route.tool)

    async def _load_skill(self, call: ToolCall, cleared: Cleared, site: Site) -> ToolResult:
        loaded = self._skills.answer(cleared.call, site.further)
        result = replace(loaded.result, content=cleared.note + loaded.result.content)
        data = finished_data(call, result)
        if loaded.holds is not None:
            data["skill_loaded"] = dict(loaded.holds)
        with trio.CancelScope(shield=True):  # what counts as given has to be in the log
            await self._log.append([Draft("tool.finished", self._turn, data)])
        return result

    async def _execute(self, call: ToolCall, cleared: Cleared, site: Site) -> ToolResult:
        began, routed = time.monotonic(), cleared.call
        meta = {**self._whose(routed), "backend": site.backend, "place": site.place}
        self._bus.emit("execute.start", {"system_time": time.time()}, meta)
        output = ToolOutput(self._log, self._turn, call, self._output_chars)
        try:
            result = await self._perform(cleared, output, site)
        except BackendUnavailable as error:
            result = ToolResult(content=f"{site.shown} cannot run this: {error}", outcome="error")
        except trio.Cancelled:
            result = cancelled_result(output, began)
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

    async def _perform(self, cleared: Cleared, output: ToolOutput, site: Site) -> ToolResult:
        if site.workspace is None:
            raise BackendUnavailable(site.why)
        try:
            granted = cleared.granted or await site.grants.judge(cleared.call)
        except SecretUnavailable as error:
            _log.warning("a call was not run: %s", error)
            return ToolResult(content=SECRET_MISSING, outcome="error")
        output.hide(granted.redactor)
        context = ToolContext(
            readable=[Path(pin.copy) for pin in self._pinned],
            timeout_s=self._timeout_s,
            max_output_chars=self._output_chars,
            environment=granted.environment,
            hidden=granted.hidden,
            emit=output.emit,
        )
        as_is = cleared.granted is not None  # what was shown has its paths already
        result = await self._run(site.workspace, granted, context, site, as_is=as_is)
        return replace(result, content=cleared.note + granted.redactor.text(result.content))

    async def _run(
        self, workspace: Workspace, granted: Granted, context: ToolContext, site: Site, *, as_is: bool
    ) -> ToolResult:
        """The call itself, within what the workspace may hold."""
        if (refused := self._files.refusal(granted.call.name)) is not None:
            return refused
        try:
            placed = granted.call if as_is else await self._files.placed(granted.call, workspace, site.place)
        except (ArtifactError, Refused) as error:
            return ToolResult(content=f"Not run: {error.code}: {error.message}", outcome="error")
        return await self._files.bounded(lambda: workspace.execute(placed, context), site.place)

    async def _finish(self, call: ToolCall, output: ToolOutput, result: ToolResult, site: Site) -> ToolResult:
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

    def _started_data(self, call: ToolCall, cleared: Cleared, site: Site) -> dict[str, Any]:
        routed = cleared.call
        data: dict[str, Any] = {
            "id": call.id,
            "name": call.name,
            "input": dict(routed.input),
            "backend": site.backend,
            "place": site.place,
        }
        if cleared.approval is not None:
            data["approval"] = cleared.approval
        if routed.name in READ_ONLY_TOOLS or routed.name == LOAD_SKILL:
            data["read_only"] = True
        if self._further is not None and (digest := self._further.digest_of(routed.name)) is not None:
            data["tool_digest"] = digest
            if self._further.owners[routed.name][1]:
                data["read_only"] = True
        pin = self._skills.note(routed, site.further)
        if pin is not None:
            data["skill"] = {"name": pin.skill.name, "digest": pin.skill.digest}
        return data
