"""The supervision tree of the daemon: what is started in which order, and what is made again with what.

    root (rest_for_one)
      observability (one_for_one)                                       isolated, and so is each of its children
        loop           loop lag, round trips
        gc             full collections, their pauses
        canary         answers
        watchdog       a thread that ends a process whose loop hangs
        audit          writes down who did what
        metrics        the page on loopback, if one is configured
      journal        the only writer of the store
      services (one_for_one)
        skills (rest_for_one)
          workers          one process each, for executors' code        isolated; its children temporary
          native           ends workers that no native skill needs      isolated
          registry         publishes the snapshot                       isolated, required
          watcher          follows edits on disk                        isolated
        backends (one_for_one)
          model            the model client                             isolated
          local, ...       one executor each                            isolated, required
          claude_cli, ...  one backend each that is a whole agent       isolated
        mcp                one connection each to a server of tools     isolated; its children temporary
        janitor            retention, leftovers, checksums              isolated
        hangup             SIGHUP: read the configuration              isolated
        hook-exec, ...     tell programs and receivers of events       isolated
      sessions (dynamic)   one Session actor per conversation           temporary
      extras (one_for_one)
        workshop           makes what agents with names need           isolated, required
        agents             follows what becomes of agents' turns       isolated
        board              takes back leases that have run out         isolated
        workers            have the items of the board done            isolated
        schedules          gives agents their messages when due        isolated
        workflows          moves runs of workflows on                  isolated
        setup              applies the file that says the workshop        isolated
        monitor-rules      reads the rules by which things are found    isolated
        sources            one for each program that reports          isolated; its children temporary
        monitor            takes what other programs report           isolated
        otlp               takes spans of OpenTelemetry, where it may   isolated
        monitor-event-log, ...  take events elsewhere, where configured isolated
        monitor-alerts     keeps alerts of what was found               isolated
        monitor-sessions   looks into conversations, behind the journal isolated
        alert-exec, ...    tell programs and receivers of alerts        isolated
        sweeper            removes values that have expired            isolated
      listener (rest_for_one)
        socket             the HTTP API                                 isolated, required
        gate               its end is the drain: last up, first down    isolated, required

A branch that fails takes those started after it along, since they hold what it made; nothing before it is touched.
But no leaf fails so: the journal apart, each is isolated, made again with pauses and never counted. Those marked
required must start when the daemon does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from skill_actors.backends.workers import Workers
from skill_actors.runtime import Backoff, ChildSpec, Strategy, Supervisor, TrioActor
from skill_actors.skills.registry import Registry
from skill_actors.skills.watcher import Watcher
from skill_actors.store import SqliteJournal
from skill_actors.store.changes import Bounds
from skill_actors.store.keeper import JournalKeeper
from skilld.conversations import Conversations
from skilld.file_storage import StorageKeeper
from skilld.janitor import Janitor
from skilld.keepers import AgentKeeper, ExecutorKeeper, ModelKeeper, owner_of
from skilld.listening import DRAIN_EXTRA_S, Gate, Socket
from skilld.metrics import Metrics
from skilld.natives import NativeKeeper
from skilld.observability import observability
from skilld.parts import Parts
from skilld.reload import HangupListener
from skilld.skill_sources import skill_rules, skill_sources
from skilld.tool_servers import McpServers
from skilld.workshop import extras

__all__ = ["build_tree"]

_CHECK_S = 60.0  # a backend may have to ask an engine that is busy
_SOON = Backoff(initial_s=0.1, max_s=5.0)  # what everybody needs is tried again more often than every 30 s
_FIRST_LOAD_S = 60.0  # a first look at thousands of skills on a slow disk


def build_tree(parts: Parts, metrics: Metrics, shutdown: Callable[[], None]) -> list[ChildSpec]:
    """The children of the root, which is rest_for_one."""
    return [
        ChildSpec(id="observability", factory=lambda: observability(parts, metrics), isolated=True),
        ChildSpec(
            id="journal",
            factory=lambda: JournalKeeper(
                partial(
                    SqliteJournal.open,
                    parts.config.daemon.state_dir / "journal.db",
                    lock=parts.lock,
                    bounds=Bounds(parts.config.retention.session_events, parts.config.retention.session_bytes),
                ),
                parts.journal.put,
            ),
            shutdown_s=math.inf,  # what was acknowledged is on disk already; what was accepted must get there
            start_timeout_s=_FIRST_LOAD_S,
        ),
        _branch("services", Strategy.ONE_FOR_ONE, partial(_services, parts)),
        ChildSpec(id="sessions", factory=lambda: Conversations(parts), name="sessions"),
        ChildSpec(id="extras", factory=lambda: extras(parts)),
        _branch("listener", Strategy.REST_FOR_ONE, partial(_listener, parts, metrics, shutdown)),
    ]


def _services(parts: Parts) -> list[ChildSpec]:
    return [
        _branch("skills", Strategy.REST_FOR_ONE, partial(_skills, parts)),
        _branch("backends", Strategy.ONE_FOR_ONE, partial(_backends, parts)),
        *_tool_servers(parts),
        ChildSpec(id="janitor", factory=lambda: Janitor(parts), isolated=True),
        *_storage(parts),
        ChildSpec(id="hangup", factory=lambda: HangupListener(parts, terminal=os.isatty(0)), isolated=True),
        *parts.hooks.children(),  # last: they hear of the ends of turns at a stop, and need the workers to tell of them
    ]


def _tool_servers(parts: Parts) -> list[ChildSpec]:
    """Where none are configured there is nobody to supervise."""
    if not parts.config.mcp.servers:
        return []
    make = partial(
        McpServers,
        parts.tool_servers,
        parts.bus,
        owner=owner_of(parts),
        max_running=parts.config.mcp.max_running,
    )
    return [ChildSpec(id="mcp", factory=make, isolated=True)]


def _storage(parts: Parts) -> list[ChildSpec]:
    if not parts.config.files.is_kept_elsewhere:
        return []
    return [ChildSpec(id="files", factory=lambda: StorageKeeper(parts), isolated=True)]


def _skills(parts: Parts) -> list[ChildSpec]:
    sources = skill_sources(parts.config.skills, parts.environ)
    specs = [
        # First, so that a registry that is made again takes no running tool call along.
        ChildSpec(id="workers", name="workers", factory=lambda: Workers(parts.bus), isolated=True),
        ChildSpec(id="native", factory=lambda: NativeKeeper(parts), isolated=True),
        ChildSpec(
            id="registry",
            name="registry",
            factory=lambda: Registry(
                parts.published,
                sources,
                parts.bus,
                copies=parts.copies,
                packages=parts.packages,
                rules=skill_rules(parts.config.skills),
                natives=parts.native_loader,
                pushed=parts.pushed,
                reload_s=parts.config.skills.reload_s or None,
            ),
            start_timeout_s=_FIRST_LOAD_S,
            isolated=True,
            required=True,
            backoff=_SOON,
        ),
    ]
    paths = [source.path for source in sources]
    if parts.config.skills.watch and paths:
        specs.append(
            ChildSpec(id="watcher", factory=lambda: Watcher(paths, "registry", parts.published), isolated=True)
        )
    return specs


def _backends(parts: Parts) -> list[ChildSpec]:
    executors = [_executor(parts, name) for name in parts.executors]
    agents = [_agents(parts, name) for name in parts.agents]
    return [ChildSpec(id="model", factory=lambda: ModelKeeper(parts), isolated=True), *executors, *agents]


def _agents(parts: Parts, name: str) -> ChildSpec:
    """A daemon is of use without its agents: one that is missing comes later, or never."""
    make = partial(AgentKeeper, parts, name)
    return ChildSpec(id=name, factory=make, shutdown_s=15.0, isolated=True, start_timeout_s=_CHECK_S)


def _executor(parts: Parts, name: str) -> ChildSpec:
    """The daemon does not start without a backend that sessions get unasked; one that is offered may come later."""
    spec = _steady(name, partial(ExecutorKeeper, parts, name), shutdown_s=15.0)
    if name in parts.config.backends.default:
        return replace(spec, start_timeout_s=_CHECK_S)
    return replace(spec, start_timeout_s=_CHECK_S, required=False, backoff=Backoff())


def _listener(parts: Parts, metrics: Metrics, shutdown: Callable[[], None]) -> list[ChildSpec]:
    return [
        _steady("socket", lambda: Socket(parts, metrics, shutdown)),
        _steady("gate", lambda: Gate(parts), shutdown_s=parts.config.daemon.drain_s + DRAIN_EXTRA_S),
    ]


def _steady(id: str, factory: Callable[[], TrioActor], *, shutdown_s: float | None = None) -> ChildSpec:
    """What the daemon cannot start without, and cannot do without for long, but must not end for."""
    return ChildSpec(id=id, factory=factory, shutdown_s=shutdown_s, isolated=True, required=True, backoff=_SOON)


def _branch(id: str, strategy: Strategy, children: Callable[[], list[ChildSpec]]) -> ChildSpec:
    return ChildSpec(id=id, factory=lambda: Supervisor(children(), strategy=strategy))
