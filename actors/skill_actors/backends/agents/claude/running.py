"""One process of a `claude` session, from its start to its end, and what the sessions of a backend share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import trio

from skill_actors.backends.agents.base import AgentError, AgentSpec
from skill_actors.backends.agents.claude.arguments import (
    Places,
    Shape,
    command_line,
    environment,
    initialization,
    mcp_configuration,
)
from skill_actors.backends.agents.claude.duplex import Duplex
from skill_actors.backends.agents.claude.oneshot import Oneshot
from skill_actors.backends.agents.claude.options import ClaudeOptions
from skill_actors.backends.agents.claude.papers import Papers
from skill_actors.backends.agents.claude.session_options import SessionOptions
from skill_actors.backends.agents.process import AgentProcess, ProcessLimits, open_process
from skill_actors.backends.agents.slots import Slot, Slots
from skill_actors.backends.resident import Nest

__all__ = ["Running", "Surroundings"]

_LEAVE_S: Final = 1.0  # for an idle process to end by itself once its input has
_STOP_S: Final = 0.5  # from SIGTERM to SIGKILL


class Session(Protocol):
    """What the sessions of a backend know of each other."""

    @property
    def session_id(self) -> str | None: ...

    async def cool(self) -> None:
        """Close the process. Nothing happens while a turn runs."""

    async def stop_session(self) -> None:
        """End it for good."""


class Surroundings:
    """What the sessions of one backend share.

    Args:
        nest: where its processes live.
        nursery: that they are supervised by.

    """

    def __init__(self, options: ClaudeOptions, papers: Papers, nest: Nest, nursery: trio.Nursery) -> None:
        self.options = options
        self.papers = papers
        self.nest = nest
        self.nursery = nursery
        self.slots = Slots(options.max_processes)
        self.sessions: set[Session] = set()  # that have not been stopped
        self.limits = ProcessLimits(memory_bytes=options.memory_bytes or None)

    async def places(self, spec: AgentSpec, system: bool) -> Places:
        """Where a process finds its own, with the files that it is to read. Raises AgentError."""
        places = Places(home=self.papers.home, config=self.papers.config, temporary=self.papers.temporary)
        servers = mcp_configuration(spec)
        try:
            if servers is not None:
                places = replace(places, mcp=await trio.to_thread.run_sync(self.papers.write, servers))
            if system and spec.system:
                places = replace(places, system=await trio.to_thread.run_sync(self.papers.write, spec.system))
        except OSError as error:
            raise AgentError("io", f"the backend's folder cannot be used: {error}") from error
        return places

    async def settle(self, session_id: str) -> None:
        """Have what is idle of this session written down: a process may keep the last of it until it ends."""
        for session in [each for each in self.sessions if each.session_id == session_id]:
            await session.cool()

    async def bring(self, session_id: str, folder: Path) -> bool:
        """See `Papers.bring`. Raises AgentError."""
        try:
            return await trio.to_thread.run_sync(self.papers.bring, session_id, folder)
        except OSError as error:
            raise AgentError("io", f"the session {session_id} cannot be had in {folder}: {error}") from error


class Running:
    """Made by `start`."""

    def __init__(self, process: AgentProcess, talk: Duplex | Oneshot, slot: Slot) -> None:
        self.process = process
        self.talk = talk
        self.slot = slot
        self._gone = trio.Event()

    @classmethod
    async def start(
        cls,
        around: Surroundings,
        spec: AgentSpec,
        session: SessionOptions,
        shape: Shape,
        resume: str | None,
        slot: Slot,
        *,
        fork: bool,
    ) -> Running:
        """Start a process and wait until it is there; the slot is freed with its end.

        Raises:
            AgentError: nothing is left of it then.

        """
        duplex = around.options.duplex
        places = await around.places(spec, system=not duplex)
        argv = command_line(around.options, session, shape, places, resume=resume, fork=fork)
        env = environment(around.options, session, shape, places)
        notes = [note for note in (places.mcp, places.system) if note is not None]
        keep = partial(cls._keep, around, argv, spec, env, notes, None if fork else resume, slot)
        running: Running = await around.nursery.start(keep)
        try:
            await running.talk.open(initialization(session, shape, spec.system))
        except BaseException:
            with trio.CancelScope(shield=True):
                await running.close()
            raise
        return running

    @classmethod
    async def _keep(
        cls,
        around: Surroundings,
        argv: Sequence[str],
        spec: AgentSpec,
        env: dict[str, str],
        notes: Sequence[Path],
        session_id: str | None,
        slot: Slot,
        *,
        task_status: trio.TaskStatus[Running],
    ) -> None:
        """The process's life, in the backend's nursery."""
        talk = Duplex if around.options.duplex else Oneshot
        running: Running | None = None
        try:
            async with open_process(
                argv, cwd=spec.folder, env=env, limits=around.limits, nest=around.nest, agent=spec.agent
            ) as process:
                running = cls(process, talk(process, session_id), slot)
                task_status.started(running)
                await slot.over(around.options.idle_close_s)
                await running._leave()
        finally:
            with trio.CancelScope(shield=True):
                for note in notes:
                    await trio.to_thread.run_sync(partial(note.unlink, missing_ok=True))
            slot.free()
            if running is not None:
                running._gone.set()

    async def _leave(self) -> None:
        """Let an idle process end by itself; one that does not is stopped."""
        if self.talk.usable:
            with suppress(AgentError), trio.move_on_after(_LEAVE_S):
                await self.process.close_stdin()
                await self.process.wait()
                return
        await self.process.stop(_STOP_S)

    async def close(self) -> None:
        """End the process, and wait for it. May be called twice."""
        self.slot.end()
        await self._gone.wait()
