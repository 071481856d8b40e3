"""ActorSystem: a root supervisor, a directory and the reports; in somebody's trio program, or as a whole process.

`open_system` changes nothing process-wide. `run` and `serve` handle signals, since there the process is theirs.
Either way the tree ends in order and within the limits of its specs: it is shielded from the caller's cancellation.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from skill_actors.runtime import chain
from skill_actors.runtime.branch import child_info
from skill_actors.runtime.cell import Phase
from skill_actors.runtime.children import SHUTDOWN, run_child
from skill_actors.runtime.context import Context
from skill_actors.runtime.deadlines import Deadlines
from skill_actors.runtime.directory import Directory
from skill_actors.runtime.errors import StartFailed, SystemFailed
from skill_actors.runtime.exit import ExitReason, leaving
from skill_actors.runtime.ref import TrioActorRef
from skill_actors.runtime.report import ReportEvent, Reports
from skill_actors.runtime.spec import ChildInfo, ChildSpec, Strategy
from skill_actors.runtime.supervisor import Supervisor
from skill_actors.runtime.supervisor_ref import SupervisorRef
from skill_actors.runtime.survey import Survey
from skill_actors.runtime.tally import Tally

__all__ = ["EXIT_FAILED", "EXIT_OK", "ActorSystem", "open_system", "run", "serve"]

_log = logging.getLogger(__name__)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 70  # EX_SOFTWARE: the root supervisor gave up


class ActorSystem:
    """A tree of actors under one root. Made by `open_system`, `serve` or `run`."""

    def __init__(self, root: Supervisor, reports: Reports) -> None:
        self.directory: Final = Directory()
        self.reports: Final = reports
        self.tally: Final = Tally()
        self._deadlines: Final = Deadlines()
        self.root: Final[SupervisorRef[Supervisor]] = root.actor_ref
        self._root_actor: Supervisor | None = root
        self._root_task: trio.lowlevel.Task | None = None
        self._cell = root._cell
        self._body = trio.CancelScope()
        self._aborted: BaseException | None = None
        self.killed_by_signal = False

    def request_shutdown(self) -> None:
        """Begin the ordered shutdown; `wait_stopped` waits for its end. From another thread use the trio token."""
        self._cell.request_stop(SHUTDOWN)

    def kill(self) -> None:
        """End everything now: no stop hooks, no waiting."""
        self._cell.kill()

    async def shutdown(self) -> ExitReason:
        """End the tree in order, and wait for it; also from cancelled code.

        An actor of the tree, which has to end first, is cancelled while it waits here.
        """
        self.request_shutdown()
        with trio.CancelScope(shield=self._root_task is None or not chain.is_within(self._root_task)):
            reason = await self._cell.wait_exit()
        return reason

    async def wait_stopped(self) -> ExitReason:
        """Wait until the tree has ended; why it did."""
        return await self._cell.wait_exit()

    def tree(self, survey: Survey | None = None) -> ChildInfo:
        """The live supervision tree; with a survey, of dynamic supervisors' children only those that it chooses."""
        return child_info(self.root, id="root", template="root", path="root", restarts=0, survey=survey)

    def walk(self) -> Iterator[ChildInfo]:
        """Every supervisor and worker of the tree, parents first."""
        pending = [self.tree()]
        while pending:
            info = pending.pop()
            yield info
            pending.extend(reversed(info.children or ()))

    def failure(self) -> BaseException | None:
        """What ended the tree against anybody's wish; None while it runs, and after an orderly end."""
        reason = self._cell.exit_reason
        if self._aborted is not None:
            return self._aborted
        if reason is None or (not reason.abnormal and reason.error is None):
            return None
        if not self._cell.served and isinstance(reason.error, StartFailed):
            return reason.error
        failed = SystemFailed(f"the root supervisor ended: {reason}")
        failed.__cause__ = reason.error
        return failed

    def _abort(self, error: BaseException) -> None:
        self._aborted = self._aborted or leaving(error)
        self.request_shutdown()

    def _ended(self, _ref: TrioActorRef[Any], reason: ExitReason) -> None:
        if reason.abnormal:
            self.reports.report(ReportEvent.EXITED, "", "root", reason)
        if self.failure() is not None:
            self._body.cancel()

    async def _run_root(self) -> None:
        root, self._root_actor = self._root_actor, None
        assert root is not None
        self._root_task = trio.lowlevel.current_task()
        context = Context(
            directory=self.directory,
            reports=self.reports,
            token=trio.lowlevel.current_trio_token(),
            thread_id=threading.get_ident(),
            abort=self._abort,
            deadlines=self._deadlines,
            tally=self.tally,
        )
        root._cell.bind(context)
        try:
            with trio.CancelScope(shield=True):
                await run_child(root, context, float("inf"), float("inf"), self._ended)
        finally:
            self._deadlines.stop()


@asynccontextmanager
async def _running(system: ActorSystem) -> AsyncIterator[trio.Nursery]:
    """Run the root for the length of the block; what ended it against anybody's wish is raised after the block."""
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(system._deadlines.run, name="deadlines")
        nursery.start_soon(system._run_root, name="root")
        try:
            with system._body:
                yield nursery
        except (trio.Cancelled, GeneratorExit):
            raise
        except BaseException as error:  # raised again below: out of the nursery it would come as a group
            failure = error
        finally:
            await system.shutdown()
            nursery.cancel_scope.cancel()
    failure = failure or system.failure()
    if failure is not None:
        raise failure


@asynccontextmanager
async def open_system(
    children: Iterable[ChildSpec] = (),
    *,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    max_restarts: int = 3,
    period_s: float = 5.0,
    reports: Reports | None = None,
) -> AsyncIterator[ActorSystem]:
    """Run a tree of actors for the length of a `with` block, inside the caller's trio program.

    The block begins when all children are set up. At its end, however it ends, the tree is shut down in order. If the
    root supervisor gives up, the block is cancelled.

    Args:
        children, strategy, max_restarts, period_s: the root supervisor's.
        reports: where supervision reports go; a fresh one by default.

    Raises:
        StartFailed: a child did not start.
        SystemFailed: the root supervisor gave up.

    """
    root = Supervisor(children, strategy=strategy, max_restarts=max_restarts, period_s=period_s)
    system = ActorSystem(root, reports or Reports())
    del root  # its task holds it; a frame that lives as long as the block should not
    async with _running(system):
        await system._cell.wait_started()
        if not system._cell.served:
            reason = await system.wait_stopped()
            raise system.failure() or SystemFailed(f"the system was stopped before it was ready: {reason}")
        yield system


async def serve(
    children: Iterable[ChildSpec],
    *,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    max_restarts: int = 3,
    period_s: float = 5.0,
    reports: Reports | None = None,
    signals: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    on_ready: Callable[[ActorSystem], Awaitable[None]] | None = None,
    on_stopping: Callable[[ActorSystem], None] | None = None,
) -> int:
    """Run a tree until a signal, or until its root ends. For the main thread of a process of its own.

    The first signal begins the ordered shutdown; the second kills what is left.

    Args:
        children, strategy, max_restarts, period_s, reports: as `open_system`.
        signals: which ones.
        on_ready: awaited when every child is set up.
        on_stopping: called when the first signal has come.

    Returns:
        EXIT_OK after an end that signals or a KeyboardInterrupt asked for; the code of a SystemExit; EXIT_FAILED if the
        root gave up. A SystemExit or KeyboardInterrupt may come from any actor, job or hook: the tree ends in order.

    Raises:
        StartFailed: a child did not start.

    """
    root = Supervisor(children, strategy=strategy, max_restarts=max_restarts, period_s=period_s)
    system = ActorSystem(root, reports or Reports())
    del root
    with trio.open_signal_receiver(*signals) as received:  # before the first start, so that a boot can be stopped
        try:
            async with _running(system) as nursery:
                nursery.start_soon(_obey, system, received, on_stopping)
                await system._cell.wait_started()
                if system._cell.phase is Phase.RUNNING and on_ready is not None:
                    await on_ready(system)
                await system.wait_stopped()
        except SystemFailed:
            return EXIT_OK if system.killed_by_signal else EXIT_FAILED  # reported when it happened
        except KeyboardInterrupt:
            return EXIT_OK
        except SystemExit as asked:
            return _exit_code(asked)
    return EXIT_OK


def _exit_code(asked: SystemExit) -> int:
    """What Python itself would make of it."""
    if asked.code is None:
        return EXIT_OK
    if isinstance(asked.code, int):
        return asked.code
    _log.error("%s", asked.code)
    return 1


async def _obey(
    system: ActorSystem, received: AsyncIterator[int], on_stopping: Callable[[ActorSystem], None] | None
) -> None:
    await anext(received)
    if on_stopping is not None:
        on_stopping(system)
    system.request_shutdown()
    await anext(received)
    system.killed_by_signal = True
    system.kill()


def run(
    children: Iterable[ChildSpec],
    *,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    max_restarts: int = 3,
    period_s: float = 5.0,
    reports: Reports | None = None,
    on_ready: Callable[[ActorSystem], Awaitable[None]] | None = None,
) -> int:
    """`serve` under `trio.run`: the exit code of a whole process."""

    async def main() -> int:
        return await serve(
            children,
            strategy=strategy,
            max_restarts=max_restarts,
            period_s=period_s,
            reports=reports,
            on_ready=on_ready,
        )

    return trio.run(main)
