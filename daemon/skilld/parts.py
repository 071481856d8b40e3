"""What the parts of one daemon share. Each slot is written by one actor, whenever that is started (again).

Reading a slot before its actor has served is a bug and raises `NotStarted`; the order of the tree prevents it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from skill_actors.backends.agents.base import AgentBackend
from skill_actors.backends.base import Executor
from skill_actors.backends.programs import Programs
from skill_actors.backends.workers import WorkersRef
from skill_actors.files.storage import BackgroundSync
from skill_actors.models.prices import PriceTable
from skill_actors.runtime import ActorSystem, Reports
from skill_actors.sessions.approvals import ApprovalDesk
from skill_actors.sessions.ledger import Cap, Ledger
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.skills.approvals import Approvals
from skill_actors.skills.copies import SkillCopies
from skill_actors.skills.native import NativeLoader
from skill_actors.skills.packages import PackageCache
from skill_actors.skills.projects import Projects
from skill_actors.skills.pushed import PushedPackages
from skill_actors.skills.registry import PublishedSkills
from skill_actors.skills.secrets import SkillSecrets
from skill_actors.store import SqliteJournal, StateLock
from skill_actors.telemetry import Bus
from skilld.audit import AuditTrail
from skilld.backup import Backups
from skilld.budget_caps import current_caps
from skilld.config import Config
from skilld.file_storage import StoredFiles
from skilld.hooks import Hooks
from skilld.hosted import HostedServices
from skilld.model_choice import ModelChoice
from skilld.monitor.inspection.book import RuleBook
from skilld.monitor.inspection.screen import SessionScreen, Stopped
from skilld.monitor.inspection.sessions import SessionNews
from skilld.monitor.sinks.status import SinkStatus
from skilld.natives import Natives, native_loader
from skilld.notify import Notifier
from skilld.private_folders import private_folders
from skilld.served_skills import ServedSkills, skill_approvals
from skilld.session_defaults import session_defaults
from skilld.skill_secrets import skill_secrets
from skilld.skill_sources import skill_rules
from skilld.slot import NotStarted, Slot
from skilld.tool_servers import ConfiguredServers
from skilld.watchdog import Pulse, Stage

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from skill_actors.sessions.manager import SessionManager
    from skilld.http import HttpServer
    from skilld.mcp.inside_desk import McpDesk
    from skilld.monitor.alerts.alerts import Alerts
    from skilld.monitor.monitor import Monitor
    from skilld.monitor.sources import SourcesRef
    from skilld.workshop import Workshop

__all__ = ["NotStarted", "Parts", "Slot"]


@dataclass(kw_only=True)
class Parts:
    """One daemon's shared things.

    Args:
        ready: set when the socket answers.
        closed: set when the socket has said goodbye to everybody.
        pulse: what the watchdog hears from the event loop.
        reread: reads the configuration again, and raises ConfigError if the daemon would not start with it.
        read_again: set, and replaced, whenever that was done.
        defaults: what sessions go by that say nothing else; changed by a reload, as `config` is.
        sinks: how each place is doing that reported events go to, by its name.
        app: what the socket serves, for who asks from inside.
        programs: which process is the launcher of which agent's program.
        disk_use: bytes of the state directory by kind, as they were measured last; None before.
        stopping: whether the whole daemon is asked to stop; a part that is restarted is no reason to drain.

    """

    config: Config
    environ: Mapping[str, str]
    version: str
    lock: StateLock
    notifier: Notifier
    models: ModelChoice
    prices: PriceTable
    reread: Callable[[], Awaitable[Config]]
    reloading: trio.Lock = field(default_factory=trio.Lock)
    read_again: trio.Event = field(default_factory=trio.Event)
    defaults: SessionDefaults = field(init=False)
    bus: Bus = field(default_factory=Bus)
    audit: AuditTrail = field(default_factory=AuditTrail)
    reports: Reports = field(default_factory=Reports)
    published: PublishedSkills = field(default_factory=PublishedSkills)
    copies: SkillCopies
    packages: PackageCache = field(init=False)
    pushed: PushedPackages = field(init=False)
    projects: Projects = field(init=False)
    approvals: Approvals | None = field(init=False)
    served: ServedSkills = field(init=False)
    secrets: SkillSecrets = field(init=False)
    natives: Natives = field(init=False)
    native_loader: NativeLoader = field(init=False)
    hosted: HostedServices = field(init=False)
    tool_servers: ConfiguredServers = field(init=False)
    backups: Backups = field(init=False)
    hooks: Hooks = field(init=False)
    caps: Callable[[], Sequence[Cap]] = field(init=False)
    executors: dict[str, Slot[Executor]] = field(default_factory=dict)
    agents: dict[str, Slot[AgentBackend]] = field(default_factory=dict)
    programs: Programs = field(default_factory=Programs)
    journal: Slot[SqliteJournal] = field(default_factory=lambda: Slot("the journal"))
    ledger: Slot[Ledger] = field(default_factory=lambda: Slot("the ledger"))
    desk: Slot[ApprovalDesk] = field(default_factory=lambda: Slot("the desk of approvals"))
    sessions: Slot[SessionManager] = field(default_factory=lambda: Slot("the session manager"))
    workshop: Slot[Workshop] = field(default_factory=lambda: Slot("the workshop"))
    sources: Slot[SourcesRef] = field(default_factory=lambda: Slot("the programs that report"))
    monitor: Slot[Monitor] = field(default_factory=lambda: Slot("monitoring"))
    alerts: Slot[Alerts] = field(default_factory=lambda: Slot("alerts"))
    rule_book: RuleBook = field(init=False)
    sinks: dict[str, SinkStatus] = field(default_factory=dict)
    session_news: SessionNews = field(default_factory=SessionNews)
    session_screen: SessionScreen = field(init=False)
    file_sync: Slot[BackgroundSync] = field(default_factory=lambda: Slot("the storage of files"))
    stored_files: StoredFiles = field(init=False)
    app: Slot[ASGIApp] = field(default_factory=lambda: Slot("the interface"))
    mcp_desk: Slot[McpDesk] = field(default_factory=lambda: Slot("the desk of the workshop's tools"))
    server: Slot[HttpServer] = field(default_factory=lambda: Slot("the socket"))
    workers: Slot[Callable[[], WorkersRef]] = field(default_factory=lambda: Slot("worker processes"))
    system: Slot[ActorSystem] = field(default_factory=lambda: Slot("the actor system"))
    ready: trio.Event = field(default_factory=trio.Event)
    closed: trio.Event = field(default_factory=trio.Event)
    pulse: Pulse = field(default_factory=Pulse)
    disk_use: dict[str, int] | None = None
    stopping: bool = False

    def __post_init__(self) -> None:
        skills = self.config.skills
        self.caps = current_caps(lambda: self.config.budget)
        self.stored_files = StoredFiles(
            self.file_sync,
            self.config.daemon.state_dir / "workspaces",
            configured=self.config.files.is_kept_elsewhere,
        )
        self.defaults = session_defaults(self.config)
        self.rule_book = RuleBook(
            lambda: self.config.monitor.scan.rules_dir, self.config.daemon.state_dir / "monitor-mask.key"
        )
        self.session_screen = SessionScreen(self.rule_book, lambda: self.config.monitor, self._note_stopped)
        self.tool_servers = ConfiguredServers(
            lambda: self.config,
            self.environ,
            self.config.daemon.state_dir / "mcp",
            lambda: private_folders(self.config, self.environ),
        )
        self.packages = PackageCache(self.config.daemon.state_dir / "packages")
        self.pushed = PushedPackages(self.config.daemon.state_dir / "pushed", self.packages)
        self.approvals = skill_approvals(skills, self.config.daemon.state_dir)
        self.served = ServedSkills(self.published, self.approvals)
        self.projects = Projects(
            skills.projects,
            os.geteuid(),
            copies=self.copies,
            packages=self.packages,
            rules=skill_rules(skills),
            approvals=self.approvals,
        )
        self.secrets = skill_secrets(skills, self.environ, self.published)
        self.natives = Natives(self, self.config.backends.native)
        self.native_loader = native_loader(skills, self.natives, self.approvals)
        self.hosted = HostedServices(
            self.config.backends.anthropic,
            self.models.key,
            self.models.base_url,
            self.config.daemon.state_dir / "hosted-skills.json",
            self.config.model.socket,
        )
        self.backups = Backups(self.config.daemon.state_dir, self.journal, self.version)
        self.hooks = Hooks(lambda: self.config.hooks, self.bus, lambda: self.workers.get()(), self.version)

    def stage(self) -> Stage:
        """What the daemon is doing now."""
        if self.stopping:
            return Stage.STOPPING
        if not self.ready.is_set():
            return Stage.STARTING
        return Stage.REBUILDING if self.server.peek() is None else Stage.SERVING

    def _note_stopped(self, stopped: Stopped) -> None:
        """Something was found before it was said or done in a conversation; what it was stands nowhere."""
        rules = sorted({finding.rule for finding in stopped.findings})
        facts = {"action": stopped.action, "dry_run": stopped.dry_run}
        whose = {"uid": stopped.uid, "session": stopped.session, "what_in": stopped.what, "rules": rules}
        self.audit.add("monitor.stopped", {**whose, **facts})
        self.bus.emit("monitor.stopped", {"count": 1}, {"session": stopped.session, **facts})
        self.session_news.note_stopped(stopped)
