"""What the parts of one daemon share. Each slot is written by one actor, whenever that is started (again).

Reading a slot before its actor has served is a bug and raises `NotStarted`; the order of the tree prevents it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from skill_actors.backends.base import Executor
from skill_actors.models.prices import PriceTable
from skill_actors.runtime import ActorSystem, Reports
from skill_actors.skills.copies import SkillCopies
from skill_actors.skills.registry import PublishedSkills
from skill_actors.store import SqliteJournal, StateLock
from skill_actors.telemetry import Bus
from skilld.config import Config
from skilld.model_choice import ModelChoice
from skilld.notify import Notifier

if TYPE_CHECKING:
    from skill_actors.sessions.manager import SessionManager
    from skilld.http import HttpServer

__all__ = ["NotStarted", "Parts", "Slot"]

T = TypeVar("T")


class NotStarted(RuntimeError):
    """A part of the daemon was used before its actor had made it."""


class Slot(Generic[T]):
    """Holds what an actor made, for those who are started after it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._value: T | None = None
        self._filled = trio.Event()

    def put(self, value: T) -> None:
        """Publish; replaces what an earlier incarnation published."""
        self._value = value
        self._filled.set()

    def clear(self) -> None:
        """The maker has ended."""
        self._value = None
        self._filled = trio.Event()

    def get(self) -> T:
        """What was published. Raises NotStarted."""
        if self._value is None:
            raise NotStarted(f"{self._name} is not started")
        return self._value

    def peek(self) -> T | None:
        """What was published, if anything."""
        return self._value

    async def wait(self) -> T:
        """Wait until there is something."""
        while self._value is None:
            await self._filled.wait()
        return self._value


@dataclass(kw_only=True)
class Parts:
    """One daemon's shared things.

    Args:
        ready: set when the socket answers.
        closed: set when the socket has said goodbye to everybody.
        stopping: whether the whole daemon is asked to stop; a part that is restarted is no reason to drain.

    """

    config: Config
    environ: Mapping[str, str]
    version: str
    lock: StateLock
    notifier: Notifier
    models: ModelChoice
    prices: PriceTable
    bus: Bus = field(default_factory=Bus)
    reports: Reports = field(default_factory=Reports)
    published: PublishedSkills = field(default_factory=PublishedSkills)
    copies: SkillCopies
    executors: dict[str, Slot[Executor]] = field(default_factory=dict)
    journal: Slot[SqliteJournal] = field(default_factory=lambda: Slot("the journal"))
    sessions: Slot[SessionManager] = field(default_factory=lambda: Slot("the session manager"))
    server: Slot[HttpServer] = field(default_factory=lambda: Slot("the socket"))
    system: Slot[ActorSystem] = field(default_factory=lambda: Slot("the actor system"))
    ready: trio.Event = field(default_factory=trio.Event)
    closed: trio.Event = field(default_factory=trio.Event)
    stopping: bool = False
