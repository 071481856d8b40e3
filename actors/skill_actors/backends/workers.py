"""Worker processes for executors: made when they are first asked, kept warm, made again when they died.

Workers is a supervisor; executors reach it as `host.workers` (see `Host`). Rules:
- a worker is known by its name and lives until `release`, or until it dies; nobody counts its crashes as a fault of
  the daemon. Whoever asks next has it made again: after a pause, longer after each death in a row;
- `Poison.max_deaths` deaths within its period and the name is refused for a while;
- a kill for a deadline, a cancel, a flood or memory is no death: it was this request's fault, and its successor is
  forked at once (runtime/process.py).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import trio
from pykka import ActorDeadError

from skill_actors.runtime import (
    ChildError,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitReason,
    NameNotRegistered,
    Perform,
    Poison,
    ProcessActor,
    StartFailed,
    TrioActorRef,
    WorkerEnded,
    WorkerKilled,
    WorkerSpec,
    WorkerTimeout,
)
from skill_actors.runtime.process_spec import Value
from skill_actors.telemetry import Bus

from .base import BackendUnavailable, ToolResult
from .exposed import Askable
from .programs import Programs

__all__ = ["Host", "Workers", "WorkersRef", "failed_result"]

_SLACK_S: Final = 1.0  # from a request's own deadline to ours, which also covers the wait for its turn

Emit = Callable[[Value], Awaitable[None]]
Answer = Callable[[Value], Awaitable[Value]]


class WorkersRef(DynamicSupervisorRef["Workers"]):
    """Address of the workers. For the trio thread."""

    async def perform(
        self,
        spec: WorkerSpec,
        request: Value,
        *,
        timeout_s: float | None,
        emit: Emit | None = None,
        answer: Answer | None = None,
    ) -> Value:
        """Have the worker of this spec work on one request, making it first if it is not there.

        If the caller is cancelled, the worker is killed while it works on this, and replaced.

        Args:
            spec: one name always stands for one spec.
            request: bytes, or a JSON value.
            timeout_s: for all of it: the start, the wait for other requests, and the work. None for no limit.
            emit: awaited with each piece of output.
            answer: awaited with what the worker asks, as `Perform` has it.

        Raises:
            WorkerError: the worker's code raised.
            WorkerKilled: it was killed because of this request; WorkerTimeout if that took too long.
            WorkerEnded: it died while this was waiting or worked on.
            RequestRefused: the request is no JSON, or too large.
            BackendUnavailable: it cannot be started, or died so often that it is not started now.
            ValueError: the living worker of this name has another spec.

        """
        limit_s = math.inf if timeout_s is None else timeout_s
        deadline = trio.current_time() + limit_s
        with trio.move_on_at(deadline + _SLACK_S):
            ref = await self._living(spec)
            left_s = None if timeout_s is None else max(0.0, deadline - trio.current_time())
            try:
                said = await ref.call(
                    Perform(request=request, timeout_s=left_s, emit=emit, answer=answer), timeout=None
                )
            except WorkerEnded:
                await ref.wait_stopped()  # else the next request could still find it
                raise
            except ActorDeadError as error:
                raise WorkerEnded(f"worker {spec.name!r} ended before it had answered") from error
            self._supervisor().poison.survived(spec.name)
            return said
        raise WorkerTimeout("timeout", f"worker {spec.name!r} did not come to an answer within {limit_s:g} s")

    async def _living(self, spec: WorkerSpec) -> TrioActorRef[ProcessActor]:
        supervisor = self._supervisor()
        if self.child(spec.name) is None:
            await supervisor.wait_admitted(spec.name)
        try:
            ref = await self.ensure(spec.name, lambda: ProcessActor(spec, supervisor.tell))
        except (StartFailed, ChildError) as error:
            raise BackendUnavailable(f"worker {spec.name!r} cannot be started: {error}") from error
        actor = ref._actor_weakref()
        if actor is not None and actor.spec != spec:
            raise ValueError(f"worker {spec.name!r} runs with another spec; release it first, or choose another name")
        return ref

    async def release(self, name: str) -> None:
        """End a worker that is not needed any more, if there is one."""
        if self.child(name) is not None:
            await self.terminate_child(name)


class Workers(DynamicSupervisor):
    """Supervisor of worker processes by name.

    Args:
        bus: gets `worker.end` for each worker that ended against anybody's wish.
        poison: counts deaths by name.
        max_workers: further ones are refused.

    """

    def __init__(self, bus: Bus | None = None, *, poison: Poison | None = None, max_workers: int = 64) -> None:
        # The spec bounds a start by itself; this is for a machine so busy that nothing starts.
        super().__init__("worker", start_timeout_s=60.0, max_children=max_workers)
        self._bus = Bus() if bus is None else bus
        self.poison: Final = Poison() if poison is None else poison

    def _runtime_ref(self) -> TrioActorRef[Any]:
        return WorkersRef(self)

    @property
    def actor_ref(self) -> WorkersRef:
        """This supervisor's address."""
        return cast("WorkersRef", self._actor_ref)

    def tell(self, reason: str) -> None:
        """A worker ended."""
        self._bus.emit("worker.end", {"count": 1}, {"reason": reason})

    async def wait_admitted(self, name: str) -> None:
        """Wait until a worker of this name may be started. Raises BackendUnavailable if that is not soon."""
        admission = self.poison.admit(name, trio.current_time())
        if admission.poisoned_until is not None:
            wait_s = max(1, math.ceil(admission.poisoned_until - trio.current_time()))
            raise BackendUnavailable(
                f"worker {name!r} died {admission.deaths} times within {self.poison.period_s:g} s and is not started "
                f"for another {wait_s} s; the log says why it died"
            )
        await trio.sleep(admission.delay_s)

    def _ended(self, ref: Any, reason: ExitReason) -> None:
        if reason.abnormal and ref.child_id is not None:
            self.poison.died(ref.child_id, trio.current_time())
        super()._ended(ref, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a process offers to the executors in it, beside their options.

    Args:
        find_workers: the living supervisor of worker processes; raises NameNotRegistered while there is none. None
            where no worker processes are offered.
        owner: a name in letters and digits for whose processes these are, the same after a restart: what carries it
            when the executor is opened is left over from an earlier life. None: nobody's.
        expose: actors that native skills may ask, by name; nobody else may be asked.
        folder: where executors may keep what they need while they are open, and nobody else does; None: nowhere.
        private: folders of the process, such as its state, that what an executor runs must not see; workspaces and
            skills in them are meant to be seen.
        programs: told of each program that is an agent's, so that it is known when it comes as a client.

    """

    find_workers: Callable[[], WorkersRef] | None = None
    owner: str | None = None
    folder: Path | None = None
    private: Sequence[Path] = ()
    expose: Mapping[str, Askable] = field(default_factory=dict)
    programs: Programs = field(default_factory=Programs)

    @property
    def workers(self) -> WorkersRef:
        """Worker processes. Ask for them at each use: after a restart the old ones are gone.

        Raises:
            BackendUnavailable: if there are none here, or they are being started again.

        """
        if self.find_workers is None:
            raise BackendUnavailable("no worker processes are offered here; open a system with a Workers supervisor")
        try:
            return self.find_workers()
        except NameNotRegistered:
            raise BackendUnavailable("worker processes are being started again; try again in a moment") from None


def failed_result(error: Exception, *, duration_ms: int = 0) -> ToolResult:
    """What the model is told of a tool whose worker failed: for whatever `WorkersRef.perform` raised."""
    outcome: Any = "timeout" if isinstance(error, WorkerTimeout) else "error"
    told = f"The tool's process was ended. {error}" if isinstance(error, WorkerKilled | WorkerEnded) else str(error)
    return ToolResult(content=told, outcome=outcome, duration_ms=duration_ms)
