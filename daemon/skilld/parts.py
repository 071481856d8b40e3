"""What the parts of one daemon share. Each slot is written by one actor, whenever that is started (again).

Reading a slot before its actor has served is a bug and raises `NotStarted`; the order of the tree prevents it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from skill_actors.backends.base import Executor
from skill_actors.models.prices import PriceTable
from skill_actors.runtime import ActorSystem, Reports
from skill_actors.skills.copies import SkillCopies
from skill_actors.skills.registry import PublishedSkills
from skill_actors.store import SqliteJournal, StateLock
from skill_actors.telemetry import Bus
from skilld.backup import Backups
from skilld.config import Config
from skilld.model_choice import ModelChoice
from skilld.notify import Notifier
from skilld.slot import NotStarted, Slot
from skilld.watchdog import Pulse, Stage

if TYPE_CHECKING:
    from skill_actors.sessions.manager import SessionManager
    from skilld.http import HttpServer

__all__ = ["NotStarted", "Parts", "Slot"]


@dataclass(kw_only=True)
class Parts:
    """One daemon's shared things.

    Args:
        ready: set when the socket answers.
        closed: set when the socket has said goodbye to everybody.
        pulse: what the watchdog hears from the event loop.
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
    backups: Backups = field(init=False)
    executors: dict[str, Slot[Executor]] = field(default_factory=dict)
    journal: Slot[SqliteJournal] = field(default_factory=lambda: Slot("the journal"))
    sessions: Slot[SessionManager] = field(default_factory=lambda: Slot("the session manager"))
    server: Slot[HttpServer] = field(default_factory=lambda: Slot("the socket"))
    system: Slot[ActorSystem] = field(default_factory=lambda: Slot("the actor system"))
    ready: trio.Event = field(default_factory=trio.Event)
    closed: trio.Event = field(default_factory=trio.Event)
    pulse: Pulse = field(default_factory=Pulse)
    stopping: bool = False

    def __post_init__(self) -> None:
        self.backups = Backups(self.config.daemon.state_dir, self.journal, self.version)

    def stage(self) -> Stage:
        """What the daemon is doing now."""
        if self.stopping:
            return Stage.STOPPING
        if not self.ready.is_set():
            return Stage.STARTING
        return Stage.REBUILDING if self.server.peek() is None else Stage.SERVING
