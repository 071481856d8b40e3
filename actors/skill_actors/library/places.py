"""The places where one conversation's tools run: opened together, called by name, each with its own files.

`Places` is a workspace and a judge for the loop: a call goes to the place that its tool belongs to, under the name that
the tool has there, and what that place's policy says holds. An error says whose it is. After each call the place's
files are looked at, and what changed is told.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from skill_actors.backends import BackendUnavailable, Executor, ToolCall, ToolContext, ToolResult
from skill_actors.backends.output import clean
from skill_actors.backends.routing import (
    HAND_OVER,
    HandOver,
    Merged,
    PlaceTools,
    Route,
    hand_over_of,
    hand_over_tool,
    merged,
    routes,
)
from skill_actors.backends.tools import BadInput
from skill_actors.files import FileChange, WorkspaceWatch
from skill_actors.library.errors import SkillError, wrap
from skill_actors.library.settings import Settings
from skill_actors.loop import ExecutionContext, create_context
from skill_actors.loop.execution import PATIENCE_S, around_call, sendable
from skill_actors.sessions.policy import ActiveSkill, Decision, Policy
from skill_actors.skills.base import Skill
from skill_actors.telemetry import Bus

__all__ = ["OpenPlace", "PlaceSpec", "Places", "open_places"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceSpec:
    """A place that is asked for.

    Args:
        name: unique in the conversation.
        backend: what it is called in errors and events.
        executor: a name, or an executor, which stays open; None where nothing runs here, as for a hosted place.
        options: of the executor that is named.
        native: its tools keep their names and work in the folder of the first place.
        working_directory: of its own; by default beside the conversation's.

    """

    name: str
    backend: str
    executor: str | Executor | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    native: bool = False
    working_directory: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPlace:
    """A place with an executor. `watch` sees its files; None if it has none of its own."""

    name: str
    backend: str
    root: Path
    context: ExecutionContext
    watch: WorkspaceWatch | None


class Places:
    """What `open_places` has opened.

    Args:
        specs: all places, in their order.
        places: those with an executor, by name, in the same order.
        root: of the conversation.
        settings: of the conversation.
        changed: awaited with what changed in a place's files.

    Raises:
        ValueError: two tools would have one name, or a tool is named that there is not.

    """

    def __init__(
        self,
        specs: Sequence[PlaceSpec],
        places: Mapping[str, OpenPlace],
        root: Path,
        settings: Settings,
        changed: Callable[[Sequence[FileChange]], Awaitable[None]],
    ) -> None:
        self.specs = specs
        self.places = places
        self._root = root
        self._bus: Bus = settings.bus
        self._session = settings.session_id
        self._changed = changed
        self.hand_over: Callable[[HandOver], Awaitable[str]] | None = None  # set by whoever knows all files
        self.closed = False
        offered, self._routes = _offered(specs, places, settings)
        self.tools: Sequence[Mapping[str, Any]] = offered
        self._names = frozenset(str(tool["name"]) for tool in offered)
        self.context = self._as_context(settings)
        self._hand_over_policy = Policy(
            tools={HAND_OVER},
            active=[ActiveSkill(skill, str(skill.root)) for skill in self.context.skills.values()],
            restrict=settings.restrict_to_allowed_tools,
        )

    @property
    def with_files(self) -> Sequence[str]:
        """Names of the places that keep files of their own, hosted ones too."""
        return _with_files(self.specs, self.places)

    @property
    def capabilities(self) -> Merged | None:
        """What all of them can do, and each; None if all is hosted."""
        claims = {name: place.context.capabilities for name, place in self.places.items() if place.context.capabilities}
        return merged(claims) if claims else None

    # As a judge, and as a workspace

    def decide(self, call: ToolCall) -> Decision:
        """By the policy of the place, under the tool's name there."""
        if call.name not in self._names:
            offered = ", ".join(sorted(self._names)) or "none"
            return Decision("deny", f"There is no tool {call.name[:100]!r} in this conversation. Offered: {offered}.")
        if call.name == HAND_OVER:
            return self._hand_over_policy.decide(call)
        route = self._routes[call.name]
        return self.places[route.place].context.policy.decide(replace(call, name=route.tool))

    @property
    def root(self) -> Path:
        """Where the tools with plain names work, as they see it."""
        first = self._first()
        return self._root if first is None else first.context.workspace.root

    def path_of_skill(self, copy: Path) -> str:
        """As the tools with plain names see it."""
        first = self._first()
        return str(copy) if first is None else first.context.workspace.path_of_skill(copy)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """Run one call where its tool is."""
        if self.closed:
            return ToolResult(content="the conversation is closed", outcome="cancelled")
        if call.name == HAND_OVER:
            return await self._hand_over(call)
        route = self._routes[call.name]
        place = self.places[route.place]
        try:
            return await self._perform(call, context, place, route.tool)
        except BackendUnavailable as error:
            text = f"The place {place.name} ({place.backend}) cannot run this: {error}"
            return ToolResult(content=clean(text), outcome="error")

    async def _perform(self, call: ToolCall, context: ToolContext, place: OpenPlace, tool: str) -> ToolResult:
        """Raises BackendUnavailable."""
        told = {"session": self._session, "call": call.id, "tool": call.name}
        told |= {"backend": place.backend, "place": place.name}
        self._bus.emit("execute.start", {"system_time": time.time()}, told)
        began = time.monotonic()
        try:
            result = await place.context.workspace.execute(replace(call, name=tool), context)
        except trio.Cancelled:
            self._tell(ToolResult(content="", outcome="cancelled"), time.monotonic() - began, told)
            raise
        except Exception as error:
            self._bus.emit(
                "execute.exception", {"duration": time.monotonic() - began}, {**told, "error": type(error).__name__}
            )
            raise
        finally:  # what a call wrote that was cancelled is there too
            await self.look(place)
        self._tell(result, time.monotonic() - began, told)
        return result

    async def aclose(self) -> None:
        """Kill what runs, and let go. May be called twice."""
        self.closed = True
        async with trio.open_nursery() as nursery:
            for place in self.places.values():
                nursery.start_soon(place.context.workspace.aclose)

    # For the conversation

    async def look(self, place: OpenPlace) -> None:
        """Tell what has changed in the files of a place. What a look that fails has missed, the next one tells."""
        if place.watch is None:
            return
        changes: Sequence[FileChange] = ()
        with trio.CancelScope(shield=True):  # it does not take long, and whoever is told need not be waited for
            try:
                changes = await place.watch.changes()
            except OSError:
                _log.exception("the files of the place %s cannot be looked at", place.name)
        if changes:
            await self._changed(changes)

    async def run(self, call: ToolCall) -> ToolResult:
        """One call of the program's own, judged like the model's. What failed is an error.

        Raises:
            SkillError: "policy_denied", "execution_failed", "execution_timeout", "native_execution_failed",
                "container_error", "backend_unavailable".

        """
        decision = self.decide(call)
        if decision.verdict != "allow":
            raise SkillError("policy_denied", decision.reason or f"{call.name} is not permitted here")
        if call.name == HAND_OVER:
            return _checked(call, await self._hand_over(call), None, self.context.timeout_s)
        route = self._routes[call.name]
        place = self.places[route.place]
        result = ToolResult(content="", outcome="timeout")
        try:
            with trio.move_on_after(self.context.timeout_s + PATIENCE_S):
                done = await self._perform(call, around_call(self.context), place, route.tool)
                result = sendable(done, self.context.max_output_chars)
        except BackendUnavailable as error:
            if place.backend != "docker":
                raise wrap(error, backend=place.backend) from error
            details = {"operation": call.name, "reason": str(error), "place": place.name}
            raise SkillError("container_error", str(error), details=details) from error
        except Exception as error:  # an executor of somebody else's
            reason = f"the executor raised {type(error).__name__}"
            details = {"command": _command_of(call), "output": reason, "place": place.name}
            raise SkillError("execution_failed", f"{call.name} failed: {reason}", details=details) from error
        return _checked(call, result, self._native_of(place), self.context.timeout_s)

    def _native_of(self, place: OpenPlace) -> str | None:
        return next((spec.name for spec in self.specs if spec.name == place.name and spec.native), None)

    def system_prompt(self, base: str) -> str:
        """With the skills, where their files are in each place, and which tools belong where."""
        first = self._first()
        prompt = base if first is None or not first.context.skills else first.context.system_prompt(base)
        notes = self._notes(first)
        return "\n\n".join(part for part in (prompt, notes) if part)

    def _notes(self, first: OpenPlace | None) -> str:
        if len(self.specs) < 2:
            return ""
        lines = ["This conversation has several places, each with its own files:"]
        for spec in self.specs:
            place = self.places.get(spec.name)
            if spec.executor is None:
                lines.append(f"- {spec.name}: code_execution, in a hosted container.")
            elif spec.native:
                lines.append(f"- {spec.name}: tools of this program; their files are those of the first place.")
            elif place is not None and place is first:
                lines.append(f"- {spec.name} ({spec.backend}): the tools with plain names.")
            elif place is not None:
                lines.append(f"- {spec.name} ({spec.backend}): the tools whose names begin with {spec.name}_.")
                lines += [f"  {skill}: {path}" for skill, path in _locations(place)]
        return "\n".join(lines)

    def _first(self) -> OpenPlace | None:
        plain = (self.places[spec.name] for spec in self.specs if spec.executor is not None and not spec.native)
        return next(plain, None)

    def _as_context(self, settings: Settings) -> ExecutionContext:
        first = self._first() or next(iter(self.places.values()), None)
        return ExecutionContext(
            skills={} if first is None else first.context.skills,
            folders={} if first is None else first.context.folders,
            workspace=self,
            tools=self.tools,
            policy=self,
            timeout_s=settings.timeout_s,
            max_output_chars=settings.max_output_chars,
            environment=dict(settings.environment),
        )

    async def _hand_over(self, call: ToolCall) -> ToolResult:
        try:
            wanted = hand_over_of(call.input, self.with_files)
            assert self.hand_over is not None
            said = await self.hand_over(wanted)
        except (BadInput, SkillError) as error:
            return ToolResult(content=clean(str(error)), outcome="error")
        return ToolResult(content=said, outcome="ok")

    def _tell(self, result: ToolResult, seconds: float, told: Mapping[str, str]) -> None:
        self._bus.emit("execute.stop", {"duration": seconds}, {**told, "outcome": result.outcome})
        about = {name: told[name] for name in ("session", "call", "tool")} | {"success": not result.is_error}
        self._bus.emit("conversation.tool_call", {"duration": seconds}, about)
        self._bus.emit(f"backend.{told['backend']}.tool_call", {"duration": seconds}, about)


@asynccontextmanager
async def open_places(
    specs: Sequence[PlaceSpec],
    skills: Iterable[Skill],
    settings: Settings,
    changed: Callable[[Sequence[FileChange]], Awaitable[None]],
    restore: Callable[[str, Path], Awaitable[None]] | None = None,
) -> AsyncIterator[Places]:
    """Open all places; close them however the block is left, in the reverse order.

    Args:
        specs: in the order asked for.
        skills: of every place.
        settings: of the conversation.
        changed: awaited with what changes in the files of a place.
        restore: awaited with the name and the folder of each place that has files, before it is opened.

    Raises:
        SkillError: "docker_unavailable", "backend_unavailable": a place cannot be had. Nothing else is tried instead.
        ValueError: as for Places.

    """
    chosen = tuple(skills)
    async with AsyncExitStack() as stack:
        root = await _root(stack, settings)
        opened: dict[str, OpenPlace] = {}
        for spec in specs:
            if spec.executor is not None:
                is_first = not any(each.executor is not None and not each.native for each in specs[: specs.index(spec)])
                shared = root if spec.native or is_first else root.with_name(f"{root.name}.{spec.name}")
                own = not spec.native or all(each.executor is None or each.native for each in specs)
                folder = spec.working_directory or shared
                if own and restore is not None:
                    await restore(spec.name, folder)
                opened[spec.name] = await _open(stack, spec, folder, chosen, settings, watched=own)
        places = Places(specs, opened, root, settings, changed)
        stack.push_async_callback(_close, places)
        yield places


async def _root(stack: AsyncExitStack, settings: Settings) -> Path:
    if settings.working_directory is not None:
        return settings.working_directory
    scratch = Path(await trio.to_thread.run_sync(tempfile.mkdtemp, "", "skill-session-"))
    stack.push_async_callback(_remove, scratch)
    return scratch / "work"


async def _open(
    stack: AsyncExitStack,
    spec: PlaceSpec,
    root: Path,
    skills: Sequence[Skill],
    settings: Settings,
    *,
    watched: bool,
) -> OpenPlace:
    assert spec.executor is not None
    try:
        context = await stack.enter_async_context(
            create_context(
                skills,
                working_directory=root,
                backend=spec.executor,
                options=spec.options or None,
                host=settings.host,
                copies=settings.copies,
                restrict_to_allowed_tools=settings.restrict_to_allowed_tools,
                timeout_s=settings.timeout_s,
                max_output_chars=settings.max_output_chars,
                environment=settings.environment,
            )
        )
    except BackendUnavailable as error:
        failed = wrap(error, backend=spec.backend)
        message = failed.message if spec.name == spec.backend else f"the place {spec.name}: {failed.message}"
        details = {**failed.details, "place": spec.name}
        raise SkillError(failed.code, message, details=details, retryable=failed.retryable) from error
    watch = None
    if watched and context.capabilities is not None and context.capabilities.files:
        watch = WorkspaceWatch(root, spec.name)
        await watch.changes()  # what is there already is nobody's news
    return OpenPlace(name=spec.name, backend=spec.backend, root=root, context=context, watch=watch)


async def _close(places: Places) -> None:
    with trio.CancelScope(shield=True):
        await places.aclose()


async def _remove(scratch: Path) -> None:
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(_remove_tree, scratch)


def _remove_tree(scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)


def _offered(
    specs: Sequence[PlaceSpec], places: Mapping[str, OpenPlace], settings: Settings
) -> tuple[list[Mapping[str, Any]], Mapping[str, Route]]:
    """The tools that may be called, and where each goes. A name stands for the tool of that name in every place."""
    wanted = [_tools_of(spec, places.get(spec.name)) for spec in specs]
    tools, by_name = routes(wanted, reserved={HAND_OVER})
    all_tools = list(tools)
    with_files = _with_files(specs, places)
    if len(with_files) > 1:
        all_tools.append(hand_over_tool(with_files))
    own = {name: route.tool for name, route in by_name.items()} | {HAND_OVER: HAND_OVER}
    known = {name for tool in all_tools for name in (str(tool["name"]), own[str(tool["name"])])}
    if unknown := sorted({*(settings.only or ()), *settings.except_} - known):
        raise ValueError(f"there is no tool {unknown[0]!r}; there are {', '.join(sorted(known)) or 'none'}")
    return [tool for tool in all_tools if _is_offered(str(tool["name"]), own, settings)], by_name


def _is_offered(name: str, own: Mapping[str, str], settings: Settings) -> bool:
    def named_in(names: Collection[str]) -> bool:
        return name in names or own[name] in names

    return (settings.only is None or named_in(settings.only)) and not named_in(settings.except_)


def _tools_of(spec: PlaceSpec, place: OpenPlace | None) -> PlaceTools:
    if place is None:
        return PlaceTools(name=spec.name, backend=spec.backend, kind="hosted")
    kind: Any = "native" if spec.native else "executor"
    return PlaceTools(name=spec.name, backend=spec.backend, tools=place.context.tools, kind=kind)


def _with_files(specs: Sequence[PlaceSpec], places: Mapping[str, OpenPlace]) -> list[str]:
    return [
        spec.name
        for spec in specs
        if spec.executor is None or ((place := places.get(spec.name)) is not None and place.watch is not None)
    ]


def _checked(call: ToolCall, result: ToolResult, native: str | None, timeout_s: float) -> ToolResult:
    """The result, if it is none of a failure. Raises SkillError."""
    if not result.is_error:
        return result
    command = _command_of(call)
    if native is not None and result.outcome == "error":
        module, _, callback = call.name.rpartition("_")
        details: dict[str, Any] = {"module": module, "callback": callback, "reason": result.content}
        raise SkillError("native_execution_failed", f"{call.name}: {result.content}", details=details)
    if result.outcome == "timeout":
        details = {"command": command, "timeout_ms": round(timeout_s * 1000), "output": result.content}
        raise SkillError("execution_timeout", f"{command[:200]} took longer than {timeout_s:g} s", details=details)
    details = {"command": command, "exit_code": result.exit_code, "output": result.content}
    raise SkillError("execution_failed", f"{command[:200]} failed: {result.content[:500]}", details=details)


def _command_of(call: ToolCall) -> str:
    return str(call.input.get("command") or call.name)


def _locations(place: OpenPlace) -> Iterable[tuple[str, str]]:
    for skill in place.context.skills.values():
        yield skill.name, place.context.location_of(skill)
