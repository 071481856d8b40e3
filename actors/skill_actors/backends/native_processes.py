"""Worker processes of native skills: which process answers a call, and when one is not needed any more.

Each version of a skill has up to `per_skill` processes, made when calls need them; a call has one to itself. So calls
of different conversations run at the same time, and a skill that hangs holds up its own only. Rules:

- a version's processes never serve another version: a skill that changed gets new processes, and the old ones go
  once no call runs there any more;
- processes that had nothing to do for `idle_s` go as well, and sooner if there are `most` and another is needed;
- a call that waits for a process waits within its own time.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import trio

import skill_actors
from skill_actors.native import KINDS, BadSkill, Description, NativeCode, is_schema, tool_name
from skill_actors.runtime import Reject, WorkerEnded, WorkerError, WorkerLimits, WorkerSpec, WorkerTimeout

from .base import BackendUnavailable
from .exposed import Exposed
from .workers import Host

__all__ = ["NativeProcesses"]

Version = tuple[str, str]  # of a NativeCode: skill and version
Emit = Callable[[Any], Awaitable[None]]

_IMPORTS: Final = str(Path(skill_actors.__file__).resolve().parents[1])
_TARGET: Final = "skill_actors.native.child:serve"
_MAX_FRAME_BYTES: Final = 8 << 20  # answers are bytes, which cost the trio thread no parsing
_MAX_JSON_BYTES: Final = 128 << 10  # of what a class says of itself; the skill's code may send it at any time
_START_S: Final = 30.0  # on a machine that is busy with other starts
_SWEEP_EVERY_S: Final = 5.0
_RELEASE_S: Final = 10.0


@dataclass(slots=True)
class _Crew:
    """The processes of one version of one skill."""

    prefix: str
    limiter: trio.CapacityLimiter
    free: list[int]
    calls: int = 0  # that run or wait
    used_at: float = 0.0
    started: set[str] = field(default_factory=set)


class NativeProcesses:
    """Runs the code of native skills. For the trio thread.

    Args:
        host: offers the worker processes.
        per_skill: processes of one version of a skill at most; further calls wait.
        most: processes of all skills together, below the limit of the host's Workers: a look at a class needs one more.
        idle_s: seconds without a call after which a skill's processes end.
        limits: of each process.

    """

    def __init__(
        self,
        host: Host,
        *,
        per_skill: int = 4,
        most: int = 56,
        idle_s: float = 300.0,
        limits: WorkerLimits | None = None,
    ) -> None:
        self._host = host
        self._per_skill = per_skill
        self._most = most
        self._idle_s = idle_s
        self._limits = limits or WorkerLimits()
        self._crews: dict[Version, _Crew] = {}
        self._serials = itertools.count(1)  # a name that is being released is never given again

    async def describe(self, code: NativeCode, timeout_s: float = 10.0, *, inline: bool = False) -> Description:
        """Import the class in a process of its own, which ends with that, and tell what it offers.

        Args:
            code: the class.
            timeout_s: for all of it.
            inline: whether it is to run in this process then, and may have asynchronous functions.

        Raises:
            BadSkill: it is no native skill as it should be, or its module fails, or takes too long, to be imported.

        """
        name = f"native:{code.skill}@{code.version[:12]}#{next(self._serials)}"
        try:
            request = {"op": "describe", "code": code.to_json(), "inline": inline}
            spec = replace(self._spec(name), keep_stderr=True)  # it has no secrets yet, and its author wants to know
            answer = await self._host.workers.perform(spec, request, timeout_s=timeout_s)
        except WorkerError as error:
            raise _import_failed(code, f"{error}{_place(error.trace, code)}") from None
        except (Reject, WorkerEnded) as error:
            raise _import_failed(code, str(error)) from None
        except BackendUnavailable as error:
            raise BadSkill("native_unavailable", f"its code cannot be looked at: {error}", "Reload it later.") from None
        finally:
            with trio.move_on_after(_RELEASE_S, shield=True):
                await self._release(name)
        return _description(code, answer)

    async def call(self, code: NativeCode, request: Mapping[str, Any], *, timeout_s: float, emit: Emit) -> bytes:
        """Have a process of this code answer one call. If it is cancelled, the process is dead when it returns.

        Args:
            request: as `skill_actors.native.child` has it, without "op", "code" and "deadline".
            timeout_s: for all of it: the wait for a process, its start, and the call.
            emit: awaited with each piece of output.

        Raises:
            Reject, WorkerEnded, BackendUnavailable: as `WorkersRef.perform`.

        """
        deadline = trio.current_time() + timeout_s
        async with self._process(code, deadline, timeout_s) as name:
            left_s = max(0.001, deadline - trio.current_time())
            # One clock for all processes of the machine, so a slow start is no time of the call's own.
            sent = {**request, "op": "call", "code": code.to_json(), "deadline": time.monotonic() + left_s}
            try:
                answer = await self._host.workers.perform(
                    self._spec(name), sent, timeout_s=left_s, emit=emit, answer=Exposed(self._host.expose).answer_bytes
                )
            except trio.Cancelled:
                # A cancelled asker is not waited for: see to it that the process is dead before this returns.
                with trio.move_on_after(_RELEASE_S, shield=True):
                    await self._release(name)
                raise
        if not isinstance(answer, bytes):
            raise WorkerError("BadAnswer", "its process answered with what no callback returns", "")
        return answer

    async def keep(self, current: Callable[[], Collection[Version] | None] = lambda: None) -> None:
        """End what is not needed, for ever. `current`: the versions in force; None where all are."""
        while True:
            await trio.sleep(_SWEEP_EVERY_S)
            await self.sweep(current())

    async def sweep(self, current: Collection[Version] | None = None) -> int:
        """End the processes that are idle and of no version in force, or idle for long; how many."""
        now = trio.current_time()
        due = [
            version
            for version, crew in self._crews.items()
            if not crew.calls
            and (now - crew.used_at >= self._idle_s or (current is not None and version not in current))
        ]
        return await self._end([self._crews.pop(version) for version in due])

    async def aclose(self) -> None:
        """End all processes, whatever they do. May be called twice."""
        crews, self._crews = self._crews, {}
        await self._end(list(crews.values()))

    @asynccontextmanager
    async def _process(self, code: NativeCode, deadline: float, timeout_s: float) -> AsyncIterator[str]:
        """A process to oneself; its name."""
        crew = self._crew(code)
        owner = object()
        crew.calls += 1
        try:
            with trio.move_on_at(deadline) as waiting:
                await crew.limiter.acquire_on_behalf_of(owner)
            if waiting.cancelled_caught:
                busy = f"all {self._per_skill} processes of skill {code.skill!r} were busy for {timeout_s:g} s"
                raise WorkerTimeout("timeout", busy)
            slot = heapq.heappop(crew.free)  # the lowest, so that few calls at a time need few processes
            name = f"{crew.prefix}.{slot}"
            try:
                if name not in crew.started:
                    await self._make_room()
                    crew.started.add(name)
                yield name
            finally:
                heapq.heappush(crew.free, slot)
                crew.limiter.release_on_behalf_of(owner)
        finally:
            crew.calls -= 1
            crew.used_at = trio.current_time()

    async def _make_room(self) -> None:
        """End the processes of the versions that are idle longest, while there are as many as there may be."""
        while sum(len(crew.started) for crew in self._crews.values()) >= self._most:
            idle = [(crew.used_at, version) for version, crew in self._crews.items() if not crew.calls]
            if not idle:
                return
            await self._end([self._crews.pop(min(idle)[1])])

    def _crew(self, code: NativeCode) -> _Crew:
        version = (code.skill, code.version)
        crew = self._crews.get(version)
        if crew is None:
            prefix = f"native:{code.skill}@{code.version[:12]}#{next(self._serials)}"
            crew = _Crew(prefix, trio.CapacityLimiter(self._per_skill), list(range(self._per_skill)))
            self._crews[version] = crew
        return crew

    def _spec(self, name: str) -> WorkerSpec:
        return WorkerSpec(
            name=name,
            target=_TARGET,
            paths=(_IMPORTS,),
            limits=self._limits,
            max_frame_bytes=_MAX_FRAME_BYTES,
            max_json_bytes=_MAX_JSON_BYTES,
            keep_stderr=False,  # there may be secrets in it
            start_timeout_s=_START_S,
        )

    async def _end(self, crews: Collection[_Crew]) -> int:
        names = [name for crew in crews for name in crew.started]
        for name in names:
            await self._release(name)
        return len(names)

    async def _release(self, name: str) -> None:
        try:
            workers = self._host.workers
        except BackendUnavailable:
            return  # with them, all workers are gone
        await workers.release(name)


def _import_failed(code: NativeCode, why: str) -> BadSkill:
    message = f"{code.file or code.module} cannot be imported: {why}"
    return BadSkill(
        "native_import_failed", message, "Mend it; it is tried again when the skill changes or is reloaded."
    )


def _place(trace: str, code: NativeCode) -> str:
    """Where in the skill it failed: the last line of the traceback that is in a file of the skill."""
    start = f'File "{code.root}/'
    lines = [line.strip() for line in trace.splitlines() if line.strip().startswith(start)]
    return f" ({lines[-1].removeprefix(start).replace(chr(34), '')})" if lines else ""


def _check_tool(tool: Mapping[str, Any], name: str) -> None:
    found, schema = (tool["name"], tool["input_schema"]["type"]), tool["input_schema"]
    is_text = isinstance(tool["description"], str) and len(tool) == 3
    if found != (name, "object") or not is_text or not is_schema(schema):
        raise ValueError(f"tool {name}")


def _description(code: NativeCode, answer: Any) -> Description:
    """What the process said. It ran the skill's code, so nothing of it is taken for granted."""
    try:
        if "refused" in answer:
            raise BadSkill(**{name: str(answer["refused"][name]) for name in ("code", "message", "remedy")})
        name, tools = str(answer["name"]), {kind: answer["tools"][kind] for kind in KINDS if kind in answer["tools"]}
        for kind, tool in tools.items():
            _check_tool(tool, tool_name(name, kind))
        parallel = answer["parallel"] is True
        return Description(name=name, description=str(answer["description"]), tools=tools, parallel=parallel)
    except (TypeError, KeyError, ValueError) as error:
        raise _import_failed(code, f"its process answered with something else ({error!r:.100})") from None
