"""The supervision tree of the daemon: what is started in which order, and what is made again with what.

    root (rest_for_one)
      journal        the only writer of the store
      services (one_for_one)
        observability      loop lag                                     isolated
        skills (rest_for_one)
          registry         publishes the snapshot
          watcher          follows edits on disk                        isolated
        backends (one_for_one)
          model            the model client
          local, ...       one executor each
      sessions (dynamic)   one Session actor per conversation           temporary
      listener (rest_for_one)
        socket             the HTTP API
        gate               its end is the drain: last up, first down

A child that fails takes those started after it along, since they hold what it made; nothing before it is touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from skill_actors.runtime import ChildSpec, Strategy, Supervisor
from skill_actors.skills.discovery import Source
from skill_actors.skills.registry import Registry
from skill_actors.skills.watcher import Watcher
from skill_actors.store import SqliteJournal
from skill_actors.store.keeper import JournalKeeper
from skilld.conversations import Conversations
from skilld.keepers import ExecutorKeeper, ModelKeeper, Observability
from skilld.listening import DRAIN_EXTRA_S, Gate, Socket
from skilld.metrics import Metrics
from skilld.parts import Parts

__all__ = ["build_tree"]

_FIRST_LOAD_S = 60.0  # a first look at thousands of skills on a slow disk


def build_tree(parts: Parts, metrics: Metrics, shutdown: Callable[[], None]) -> list[ChildSpec]:
    """The children of the root, which is rest_for_one."""
    return [
        ChildSpec(
            id="journal",
            factory=lambda: JournalKeeper(
                partial(SqliteJournal.open, parts.config.daemon.state_dir / "journal.db", lock=parts.lock),
                parts.journal.put,
            ),
            shutdown_s=math.inf,  # what was acknowledged is on disk already; what was accepted must get there
            start_timeout_s=_FIRST_LOAD_S,
        ),
        _branch("services", Strategy.ONE_FOR_ONE, partial(_services, parts)),
        ChildSpec(id="sessions", factory=lambda: Conversations(parts), name="sessions"),
        _branch("listener", Strategy.REST_FOR_ONE, partial(_listener, parts, metrics, shutdown)),
    ]


def _services(parts: Parts) -> list[ChildSpec]:
    return [
        ChildSpec(id="observability", factory=lambda: Observability(parts), isolated=True),
        _branch("skills", Strategy.REST_FOR_ONE, partial(_skills, parts)),
        _branch("backends", Strategy.ONE_FOR_ONE, partial(_backends, parts)),
    ]


def _skills(parts: Parts) -> list[ChildSpec]:
    paths = parts.config.skills.paths
    sources = [Source(path=path) for path in paths]
    specs = [
        ChildSpec(
            id="registry",
            name="registry",
            factory=lambda: Registry(parts.published, sources, parts.bus, copies=parts.copies),
            start_timeout_s=_FIRST_LOAD_S,
        )
    ]
    if parts.config.skills.watch and paths:
        specs.append(ChildSpec(id="watcher", factory=lambda: Watcher(paths, "registry"), isolated=True))
    return specs


def _backends(parts: Parts) -> list[ChildSpec]:
    executors = [
        ChildSpec(id=name, factory=partial(ExecutorKeeper, parts, name), shutdown_s=15.0) for name in parts.executors
    ]
    return [ChildSpec(id="model", factory=lambda: ModelKeeper(parts)), *executors]


def _listener(parts: Parts, metrics: Metrics, shutdown: Callable[[], None]) -> list[ChildSpec]:
    return [
        ChildSpec(id="socket", factory=lambda: Socket(parts, metrics, shutdown)),
        ChildSpec(id="gate", factory=lambda: Gate(parts), shutdown_s=parts.config.daemon.drain_s + DRAIN_EXTRA_S),
    ]


def _branch(id: str, strategy: Strategy, children: Callable[[], list[ChildSpec]]) -> ChildSpec:
    return ChildSpec(id=id, factory=lambda: Supervisor(children(), strategy=strategy))
