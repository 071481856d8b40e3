"""One running `codex`, kept by a task of the backend: it holds a slot, is ended when idle for long, and leaves nothing.

Whoever has a turn talks to it; this task only sees to its end: when it is asked to stop, when somebody else waits for
its slot while it is idle, when it was idle for too long, and when it has ended by itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from skill_actors.backends.agents.process import AgentProcess, ProcessLimits, open_process
from skill_actors.backends.agents.slots import Slot, Slots
from skill_actors.backends.resident import Nest

__all__ = ["Program", "Start", "keep"]

_GRACE_S: Final = 0.5  # between SIGTERM and the end of everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a program is started.

    Args:
        temporary: its folder for temporary files, made before and removed after it.
        idle_close_s: it may be idle for so long.
        agent: as `open_process` has it.

    """

    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(repr=False)
    temporary: Path
    limits: ProcessLimits
    idle_close_s: float
    nest: Nest
    agent: str


class Program:
    """A running program. Made by `keep`."""

    def __init__(self, process: AgentProcess, slot: Slot) -> None:
        self.process = process
        self.gone = trio.Event()
        self._slot = slot
        self._grace_s = _GRACE_S
        self._waits: set[trio.CancelScope] = set()

    @contextmanager
    def waiting(self) -> Iterator[trio.CancelScope]:
        """A scope for a wait that makes no sense without the program: it is cancelled when the program ends."""
        with trio.CancelScope() as scope:
            self._waits.add(scope)
            if self.process.returncode is not None:
                scope.cancel()
            try:
                yield scope
            finally:
                self._waits.discard(scope)

    def idle(self) -> None:
        """It has nothing to do, and may be ended from now on."""
        self._slot.idle()

    def busy(self) -> bool:
        """Take it for a turn; False if it is about to end: wait for `gone` then."""
        return self._slot.busy() and self.process.returncode is None

    async def stop(self, *, grace_s: float = _GRACE_S) -> None:
        """End it and all that it started; returns when nothing of it is left."""
        self._grace_s = grace_s
        self._slot.end()
        await self.gone.wait()

    async def _watch(self, idle_close_s: float) -> None:
        """Return when it is to be ended, or has ended."""
        async with trio.open_nursery() as nursery:

            async def until_ended() -> None:
                await self.process.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_ended)
            await self._slot.over(idle_close_s)
            nursery.cancel_scope.cancel()


async def keep(slots: Slots, start: Start, *, task_status: trio.TaskStatus[Program]) -> None:
    """Wait for a slot, start the program and see to its end. Started once it runs.

    Raises:
        AgentError: it cannot be started; only before it was.

    """
    program: Program | None = None
    try:
        async with slots.slot() as slot:
            await trio.to_thread.run_sync(partial(start.temporary.mkdir, mode=0o700, parents=True, exist_ok=True))
            try:
                async with open_process(
                    start.argv,
                    cwd=start.folder,
                    env=start.environment,
                    limits=start.limits,
                    nest=start.nest,
                    agent=start.agent,
                ) as process:
                    program = Program(process, slot)
                    task_status.started(program)
                    await program._watch(start.idle_close_s)
                    for scope in tuple(program._waits):
                        scope.cancel()
                    if process.returncode is None:
                        await process.stop(program._grace_s)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(partial(shutil.rmtree, start.temporary, ignore_errors=True))
    finally:
        if program is not None:
            program.gone.set()
