"""The supervisor of conversations. It makes their manager, so that both are always of one life."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from skill_actors.backends.agents.base import AgentBackend
from skill_actors.backends.base import Executor
from skill_actors.errors import Refused
from skill_actors.runtime import DynamicSupervisor, ExitReason, TrioActor, TrioActorRef
from skill_actors.sessions.approvals import ApprovalDesk
from skill_actors.sessions.ledger import Ledger
from skill_actors.sessions.manager import SessionManager
from skill_actors.sessions.slots import TurnSlots
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.skills.base import Skill
from skill_actors.skills.copies import CopyError
from skilld.agent_bridge import bridge_of
from skilld.agents import allowance_of
from skilld.config import RolesConfig
from skilld.parts import Parts, Slot
from skilld.role_skills import RoleSkills
from skilld.workshop_source import WorkshopSources

__all__ = ["Conversations", "agents_of", "executors_of"]

T = TypeVar("T")

_log = logging.getLogger(__name__)
_BACKENDS_S: Final = 60.0  # they have been seen to open; this is for the second time
_AGENTS_S: Final = 10.0  # turns that waited would find them away; but no daemon waits long for one
_RECOVER_AGAIN_S: Final = 1.0
_UNLOAD_EVERY_S: Final = 15.0
_SHUTDOWN_S: Final = 10.0  # for all turns together to kill their tools and write their endings


class Conversations(DynamicSupervisor):
    """One Session actor per conversation that is in use; dynamic, temporary."""

    def __init__(self, parts: Parts) -> None:
        super().__init__("session", shutdown_s=_SHUTDOWN_S)
        self._parts = parts
        self._numbers = itertools.count(1)

    async def setup(self) -> None:
        """Close what a crash interrupted, run what waits, and publish the manager."""
        with trio.fail_after(_BACKENDS_S):
            for slot in self._parts.executors.values():
                if not slot.why:  # one that is offered may be missing; its conversations are told
                    await slot.wait()
        with trio.move_on_after(_AGENTS_S):
            for of_agent in self._parts.agents.values():
                if not of_agent.why:
                    await of_agent.wait()
        await self._collect_copies()
        self._parts.ledger.put(_ledger(self._parts))
        self._parts.desk.put(ApprovalDesk(self._parts.journal.get(), self._parts.bus))
        manager = SessionManager(surroundings(self._parts), self._start_session)
        manager.files.stored = self._parts.stored_files
        left = await manager.recover()
        if left:
            self.spawn(self._recover_again, manager, left)
        self.spawn(manager.sweep_workspaces, await manager.workspaces())
        self.spawn(self._unload, manager)
        self._parts.sessions.put(manager)

    async def _collect_copies(self) -> None:
        """No turn runs yet, so only what is loaded now is needed; older versions of skills go."""
        keep = {skill.digest for skill in self._parts.published.snapshot.skills.values()}
        try:
            removed = await trio.to_thread.run_sync(self._parts.copies.collect, keep)
        except OSError as error:
            _log.warning("old copies of skills cannot be removed: %s", error)
            return
        if removed:
            _log.info("removed %d copies of skills that are not in use any more", removed)

    async def teardown(self, reason: ExitReason) -> None:
        self._parts.sessions.clear()
        self._parts.ledger.clear()
        self._parts.desk.clear()

    def _start_session(self, make: Callable[[], TrioActor], session: str) -> TrioActorRef[Any]:
        # A number beside the id: the actor before this one may still be ending.
        return self._begin(make, f"{session}/{next(self._numbers)}")

    async def _recover_again(self, manager: SessionManager, left: Sequence[str]) -> None:
        """The disk was full at the start: the endings are written as soon as it takes them."""
        while left:
            await trio.sleep(_RECOVER_AGAIN_S)
            left = await manager.recover_again(left)

    async def _unload(self, manager: SessionManager) -> None:
        idle_s = self._parts.config.limits.idle_unload_s
        while True:
            await trio.sleep(min(_UNLOAD_EVERY_S, idle_s))
            await manager.unload_idle(idle_s)


def surroundings(parts: Parts) -> Surroundings:
    """What conversations need, from the parts that are started before them."""
    limits = parts.config.limits

    async def pin(skills: Sequence[Skill]) -> Sequence[Path]:
        try:
            return [await parts.copies.ensure(skill) for skill in skills]
        except CopyError as error:
            raise Refused("conflict", str(error)) from error
        except OSError as error:
            raise Refused("storage_full", f"the skills cannot be copied: {error.strerror}") from error

    return Surroundings(
        journal=parts.journal.get(),
        resolve_model=parts.models.resolve,
        price_usd=parts.prices.cost_usd,
        skills=lambda: parts.served.snapshot,
        pin=pin,
        executors=executors_of(parts),
        agents=agents_of(parts),
        agent_allowance=lambda name: allowance_of(parts.config.backends, name),
        default_backends=parts.config.backends.default,
        slots=TurnSlots(limits.running_turns),
        workspaces=parts.config.daemon.state_dir / "workspaces",
        bus=parts.bus,
        defaults=parts.defaults,
        secrets=parts.secrets,
        natives=parts.natives,
        projects=parts.projects,
        role_permits=_role_permits(parts),
        hosted=parts.hosted,
        artifacts=parts.config.files.artifact_limits(),
        bridge=lambda record: bridge_of(record, parts.config.daemon.socket.absolute()),
        ledger=parts.ledger.get(),
        approvals=parts.desk.get(),
        screen=parts.session_screen if parts.config.monitor.enabled else None,
        tool_sources=(parts.tool_servers, WorkshopSources(parts.mcp_desk.get)),
    )


def _ledger(parts: Parts) -> Ledger:
    """The ledger over the journal that is open now, with the caps of the configuration in force at each call."""
    return Ledger(
        parts.journal.get().ledger,
        prices=parts.prices,
        bus=parts.bus,
        caps=parts.caps,
        warn_at=lambda: parts.config.budget.warn_at,
    )


def _role_permits(parts: Parts) -> Callable[[int], Awaitable[Callable[[str], bool] | None]]:
    """What roles permit, by those in force now: a reload may replace them."""
    current: tuple[RolesConfig, RoleSkills] | None = None

    async def permits(uid: int) -> Callable[[str], bool] | None:
        nonlocal current
        roles = parts.config.roles
        if current is None or current[0] is not roles:
            current = roles, RoleSkills(roles, os.getuid())
        return await current[1].permits(uid)

    return permits


def executors_of(parts: Parts) -> Mapping[str, Executor]:
    """By the names of backends, as they are at each look. Raises Refused while one is starting again."""
    return _Open(parts.executors)


def agents_of(parts: Parts) -> Mapping[str, AgentBackend]:
    """Likewise, of backends that are whole agents."""
    return _Open(parts.agents)


class _Open(Mapping[str, T]):
    """Backends by name, as they are now: one that crashed is replaced under its name."""

    def __init__(self, slots: Mapping[str, Slot[T]]) -> None:
        self._slots = slots

    def __contains__(self, name: object) -> bool:
        return name in self._slots  # also while it is away

    def __getitem__(self, name: str) -> T:
        executor = self._slots[name].peek()
        if executor is None:
            why = self._slots[name].why or "it is starting again; send again in a moment"
            raise Refused("backend_unavailable", f"the backend {name!r} is not available: {why}")
        return executor

    def __iter__(self) -> Any:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)
