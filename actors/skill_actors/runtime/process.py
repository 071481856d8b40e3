"""ProcessActor: one worker process behind a mailbox, as a port is in Erlang. For code that computes, blocks or crashes.

    ready --Perform--> busy --answer--> ready
                        |---- deadline, caller gone, flood, out of memory --> killed by us: the asker is told why, and
                        |                                                     another worker is forked at once
    any state --------- exit, signal, garbage ------------------------------> crash: the actor ends with a WorkerEnded

Rules:
- the kill is of everything that the worker has started, in whichever process group or session; nothing of it lives
  when the asker gets its error;
- one request at a time; the others wait in the mailbox, also while the worker is replaced;
- what a worker prints is drained always, and kept only at its end (of stderr, for the report);
- the actor's end, and the daemon's own, however violent, take the process along.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Final

import trio

from skill_actors.runtime.actor import TrioActor
from skill_actors.runtime.errors import (
    Reject,
    RequestRefused,
    WorkerBroken,
    WorkerEnded,
    WorkerKilled,
    WorkerTimeout,
)
from skill_actors.runtime.keeper import Keeper, Worker
from skill_actors.runtime.process_spec import Perform, WorkerSpec
from skill_actors.runtime.worker import Value

__all__ = ["ProcessActor"]

_log = logging.getLogger(__name__)


class ProcessActor(TrioActor):
    """Runs a worker process and gives it `Perform` requests. The supervisor's `start_timeout_s` must cover the spec's.

    Args:
        spec: the process.
        tell: called with a word whenever a worker has ended against anybody's wish: the `reason` of WorkerKilled,
            "broken" or "crashed". Must not wait.

    """

    mailbox_capacity = 256

    def __init__(self, spec: WorkerSpec, tell: Callable[[str], object] = lambda _reason: None) -> None:
        super().__init__()
        self.spec: Final = spec
        self._tell = tell
        self._keeper: Keeper | None = None
        self._worker: Worker | None = None
        self._changed = trio.Event()  # a worker is there
        self._quiet = trio.Event()  # no request is being worked on
        self._quiet.set()

    @property
    def pid(self) -> int | None:
        """Of the worker; None while there is none."""
        return None if self._worker is None else self._worker.pid

    async def setup(self) -> None:
        """Start the keeper and the first worker. Raises WorkerNotStarted."""
        keeper = self._keeper = await Keeper.start(self.spec)
        try:
            self._worker = await keeper.launch()
        except BaseException:
            await keeper.aclose(0)
            raise
        self.spawn(self._keep, keeper, self._worker)

    async def on_receive(self, message: Any) -> Value:
        """Work on one Perform; Reject for all else."""
        if not isinstance(message, Perform):
            raise Reject(f"{type(self).__name__} understands Perform, not {type(message).__name__}")
        while (worker := self._worker) is None:
            await self._changed.wait()
        self._quiet = trio.Event()
        try:
            return await self._perform(worker, message)
        finally:
            self._quiet.set()

    async def _perform(self, worker: Worker, message: Perform) -> Value:
        limit_s = math.inf if message.timeout_s is None else message.timeout_s
        try:
            with trio.move_on_after(limit_s):
                return await worker.perform(message.request, message.emit, message.answer)
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestRefused(f"worker {self.spec.name!r} was not sent this request: {error}") from None
        except WorkerKilled as killed:
            await self._end(worker, killed)
            raise
        except WorkerBroken as broken:
            await worker.end(broken)
            raise
        except trio.Cancelled:
            await self._end(worker, WorkerKilled("cancelled", f"{worker} was killed: nobody waits for it any more"))
            raise
        verdict = WorkerTimeout("timeout", f"{worker} was killed: the request took longer than {limit_s:.3g} s")
        await self._end(worker, verdict)
        raise verdict

    async def _end(self, worker: Worker, verdict: WorkerKilled) -> None:
        """Kill it, so that nothing of it lives when this returns. Raises WorkerEnded if that cannot be done."""
        await worker.end(verdict)
        if not worker.gone.is_set():
            raise WorkerEnded(f"{worker} and its keeper do not answer a kill") from verdict

    async def _keep(self, keeper: Keeper, worker: Worker) -> None:
        """See the workers' ends, and replace those that were killed for what a request did."""
        try:
            while True:
                await worker.watch()
                cause = worker.cause_of_end()
                replace = isinstance(cause, WorkerKilled) and not self._quiet.is_set()
                self._report(cause)
                self._worker, self._changed = None, trio.Event()
                worker.gone.set()
                await worker.aclose()
                if not replace:
                    await self._quiet.wait()  # whose request it was has the first word
                    raise cause
                worker = self._worker = await keeper.launch()
                self._changed.set()
        finally:
            await keeper.aclose(0 if self._cell.killed else self.spec.grace_s)

    def _report(self, cause: Exception) -> None:
        _log.warning("%s", cause)
        match cause:
            case WorkerKilled():
                self._tell(cause.reason)
            case WorkerBroken():
                self._tell("broken")
            case _:
                self._tell("crashed")
