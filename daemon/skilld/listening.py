"""The listener's branch of the tree: the socket, and the gate that lets conversations end before it closes."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.base import BackendUnavailable, Executor
from skill_actors.backends.native import NATIVE
from skill_actors.errors import Refused
from skill_actors.runtime import ExitReason, NamedRef, TrioActor
from skill_actors.sessions.events import Event
from skill_actors.skills.approvals import Approvals
from skill_actors.skills.base import SkillSnapshot
from skill_actors.skills.changes import SkillChange
from skill_actors.skills.library import ReloadSummary
from skill_actors.skills.native import NATIVE_KEY
from skill_actors.skills.registry import (
    NotPushed,
    Push,
    PushFailed,
    PushRejected,
    PushResult,
    Reload,
    RemovePushed,
    UnknownSkill,
)
from skilld.agents import agents_facts
from skilld.budgets import Budgets
from skilld.disk_use import used_by
from skilld.hosted import HOSTED, hosted_facts
from skilld.http import HttpServer, Listener, ServerLimits, Services, build_app, open_listener
from skilld.http.descent import Ancestry
from skilld.http.services import Readiness, Viewer
from skilld.live_tree import describe_tree
from skilld.mcp.inside_desk import McpDesk
from skilld.metrics import Metrics
from skilld.monitor.alerts.keeper import alerts_of
from skilld.monitor.inspection.children import rules_of
from skilld.monitor.keeper import monitor_of
from skilld.natives import native_facts
from skilld.parts import Parts
from skilld.reload import reload_config
from skilld.skill_needs import SkillNeeds
from skilld.workshop import workshop_of

__all__ = ["DRAIN_EXTRA_S", "Gate", "Socket"]

_log = logging.getLogger(__name__)

DRAIN_EXTRA_S: Final = 5.0  # beyond drain_s: to cancel what did not end, and to say goodbye
# Nothing is claimed while nothing is open.
_UNKNOWN: Final[dict[str, dict[str, Any]]] = {"capabilities": {}, "fidelity": {}, "notes": {}}
_CHECK_S: Final = 5.0  # a backend that takes longer to say that it is well is not
_GOODBYE_S: Final = 2.0
_RELOAD_S: Final = 120.0
_REPORTS_SHOWN: Final = 50


class Socket(TrioActor):
    """Serves the HTTP API on the Unix socket."""

    def __init__(self, parts: Parts, metrics: Metrics, shutdown: Any) -> None:
        super().__init__()
        self._parts = parts
        self._metrics = metrics
        self._shutdown = shutdown
        self._mcp = McpDesk(parts.app.get, lambda session: _agent_named(parts, session))

    async def setup(self) -> None:
        parts, config = self._parts, self._parts.config
        limits = ServerLimits(
            max_header_bytes=config.limits.max_header_bytes,
            max_body_bytes=config.limits.max_body_bytes,
            connections_per_peer=config.limits.connections_per_peer,
        )
        app = build_app(self._services())
        parts.app.put(app)
        parts.mcp_desk.put(self._mcp)
        self.spawn(self._mcp.run)
        server = HttpServer(
            app,
            limits,
            parts.version,
            on_stranger=lambda why: parts.audit.add("connection", {"code": "forbidden", "error": why}),
            ancestry=Ancestry(parts.programs, os.getpid(), os.getuid()),
        )
        listener = open_listener(config.daemon.socket, parts.environ, shared=config.roles.configured)
        parts.closed = trio.Event()
        parts.server.put(server)
        self.spawn(self._serve, server, listener)
        _log.info("listening on %s", listener.path)
        parts.ready.set()

    async def _serve(self, server: HttpServer, listener: Listener) -> None:
        try:
            await server.serve(listener)
        finally:
            self._parts.closed.set()

    async def teardown(self, reason: ExitReason) -> None:
        self._parts.server.clear()
        self._parts.app.clear()
        self._parts.mcp_desk.clear()

    def _services(self) -> Services:
        parts = self._parts
        return Services(
            sessions=parts.sessions.get(),
            approvals=parts.desk.get(),
            budgets=Budgets(
                parts.ledger.get(), parts.journal.get().ledger, parts.caps, parts.sessions.get(), parts.audit.add
            ),
            files=parts.sessions.get().files,
            hand_overs=parts.sessions.get().hand_overs,
            skills=_Skills(parts, self.directory.named("registry")),
            status=lambda: status_of(parts),
            ready=lambda: readiness_of(parts),
            metrics=self._metrics.render,
            backends=lambda: backends_of(parts),
            prices=parts.prices.to_dict,
            tree=lambda viewer, most: tree_of(parts, viewer, most),
            backup=parts.backups.open,
            shutdown=self._shutdown,
            reload=self._reload,
            roles=lambda: parts.config.roles,
            version=parts.version,
            bus=parts.bus,
            own_uid=os.getuid(),
            audit=parts.audit.add,
            audit_reads=parts.config.audit.reads,
            workshop=lambda: workshop_of(parts),
            monitor=lambda: monitor_of(parts),
            alerts=lambda: alerts_of(parts),
            monitor_rules=lambda: rules_of(parts),
            monitor_sinks=lambda: parts.sinks,
            agent_owner=lambda session: _agent_owner(parts, session),
            mcp=lambda: self._mcp,
            tool_servers=parts.tool_servers.facts,
        )

    async def _reload(self) -> Mapping[str, Any]:
        return (await reload_config(self._parts)).to_dict()


class Gate(TrioActor):
    """Last up, first down: its end is the drain. New messages are refused, running turns may end, reads go on."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts

    async def teardown(self, reason: ExitReason) -> None:
        if not self._parts.stopping:
            return  # something before it is made again
        sessions, server = self._parts.sessions.peek(), self._parts.server.peek()
        if sessions is not None and not await sessions.drain(self._parts.config.daemon.drain_s):
            _log.warning("turns did not end within %g s and are cut", self._parts.config.daemon.drain_s)
        if server is not None:
            server.drain(_GOODBYE_S)
            with trio.move_on_after(_GOODBYE_S + 1):
                await self._parts.closed.wait()


def _agent_named(parts: Parts, session: str) -> str | None:
    workshop = parts.workshop.peek()
    found = None if workshop is None else workshop.agents.agent_of(session)
    return None if found is None else found[1]


async def _agent_owner(parts: Parts, session: str) -> int:
    try:
        found = await parts.sessions.get().get(session, Viewer(uid=0, admin=True))
    except Refused as refused:
        if refused.code != "not_found":
            raise
        raise Refused("forbidden", f"session {session}, whose program this is, is not there any more") from refused
    return int(found["owner_uid"])


class _Skills:
    """The skills as the socket offers them."""

    def __init__(self, parts: Parts, registry: NamedRef) -> None:
        self._parts = parts
        self._registry = registry
        self._needs = SkillNeeds(parts.config.backends.default, parts.secrets)

    @property
    def snapshot(self) -> SkillSnapshot:
        return self._parts.served.snapshot

    async def unmet(self, snapshot: SkillSnapshot) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return await self._needs.unmet(snapshot)

    async def reload(self, name: str | None) -> Mapping[str, Any]:
        try:
            summary: ReloadSummary = await self._registry.call(Reload(name), timeout=_RELOAD_S, wait_s=5.0)
        except UnknownSkill as error:
            raise Refused("not_found", str(error)) from error
        return _summary(summary)

    async def push(self, package: bytes) -> Mapping[str, Any]:
        try:
            pushed = await self._registry.call(Push(package), timeout=_RELOAD_S, wait_s=5.0)
        except PushRejected as error:
            raise Refused("invalid_skill_spec", f"the package is not taken: {error}") from error
        except PushFailed as error:
            raise Refused("storage_full", str(error)) from error
        facts = {"name": pushed.name, "digest": pushed.digest, "replaced": pushed.replaced}
        return {**facts, "used": self._uses(pushed), **_summary(pushed.summary)}

    def _uses(self, pushed: PushResult) -> bool:
        skill = self.snapshot.skills.get(pushed.name)
        return skill is not None and skill.digest == pushed.digest

    async def remove(self, name: str) -> Mapping[str, Any]:
        try:
            return _summary(await self._registry.call(RemovePushed(name), timeout=_RELOAD_S, wait_s=5.0))
        except NotPushed as error:
            raise Refused("not_found", str(error)) from error
        except PushFailed as error:
            raise Refused("storage_full", str(error)) from error

    @property
    def approved(self) -> Mapping[str, str]:
        return {} if self._parts.approvals is None else self._parts.approvals.approved

    async def approve(self, name: str, digest: str, by_uid: int) -> Mapping[str, Any]:
        approvals, skill = self._must_ask(), self.snapshot.skills.get(name)
        if skill is None:
            raise Refused("not_found", f"no skill {name[:80]!a}; GET /v1/skills lists them")
        if digest != skill.digest:
            message = f"skill {name!r} is another version now, {skill.digest}: look at it, then approve that one"
            raise Refused("conflict", message, details={"digest": skill.digest})
        before = await _stored(approvals.approve, name, digest)
        _log.info("skill %s: version %s is approved by uid %d", name, digest, by_uid)
        if NATIVE_KEY in skill.metadata:
            await self.reload(name)  # to look at its class, which nobody did before
        return {"name": name, "digest": digest, "before": before}

    async def revoke(self, name: str, by_uid: int) -> Mapping[str, Any]:
        before = await _stored(self._must_ask().revoke, name)
        if before is None:
            raise Refused("not_found", f"no version of a skill {name[:80]!a} is approved")
        _log.info("skill %s: the approval of version %s is taken back by uid %d", name, before, by_uid)
        return {"name": name, "digest": None, "before": before}

    def _must_ask(self) -> Approvals:
        if self._parts.approvals is None:
            raise Refused("conflict", 'no version needs an approval here: skills.approval is "source"')
        return self._parts.approvals

    @asynccontextmanager
    async def changes(self, after: int, *, live: bool) -> AsyncIterator[AsyncIterator[Event]]:
        async with aclosing(self._parts.published.changes.follow(after, live=live)) as changes:
            yield (_event(change) async for change in changes)


def _summary(summary: ReloadSummary) -> dict[str, Any]:
    return {
        "outcome": summary.outcome,
        "generation": summary.generation,
        "skills": summary.skills,
        "added": list(summary.added),
        "changed": list(summary.changed),
        "removed": list(summary.removed),
        "failed": summary.failed,
        "duration_ms": round(summary.duration_s * 1000, 1),
    }


async def _stored(write: Callable[..., str | None], *what: str) -> str | None:
    try:
        return await trio.to_thread.run_sync(write, *what)
    except OSError as error:
        raise Refused("storage_full", f"the approval cannot be stored: {error.strerror or error}") from error


def _event(change: SkillChange) -> Event:
    """On the wire as the events of sessions are, numbered by generation."""
    data = {
        "added": dict(change.added),
        "changed": dict(change.changed),
        "removed": list(change.removed),
        "failed": [os.fsencode(path).decode("utf-8", "replace") for path in change.failed],
        "missed": change.missed,
    }
    return Event(seq=change.generation, type="skill.changed", time=change.time, session="", turn=None, data=data)


def readiness_of(parts: Parts) -> Readiness:
    """Which parts are away now."""
    sessions = parts.sessions.peek()
    missing = {}
    if not parts.ready.is_set():
        missing["socket"] = "it is starting"
    if parts.journal.peek() is None:
        missing["journal"] = "it is being opened"
    if sessions is None:
        missing["sessions"] = "they are starting"
    elif sessions.draining:
        missing["sessions"] = "the daemon is stopping: running turns may end"
    away = {name: slot.why or "it is starting" for name, slot in parts.executors.items() if slot.peek() is None}
    return Readiness(missing, away)


def status_of(parts: Parts) -> dict[str, Any]:
    """Facts for GET /v1/status."""
    sessions, journal = parts.sessions.peek(), parts.journal.peek()
    snapshot = parts.served.snapshot
    return {
        "version": parts.version,
        "pid": os.getpid(),
        "state_dir": str(parts.config.daemon.state_dir),
        "mode": parts.config.daemon.mode,
        "model": parts.models.default,
        "model_circuits": parts.models.circuits(),
        "backends": sorted([*parts.executors, *parts.agents]),
        "skills": len(snapshot.skills),
        "skill_failures": len(snapshot.failures),
        **({} if sessions is None else sessions.status()),
        "journal_commits": 0 if journal is None else journal.stats().commits,
        "damaged": 0 if journal is None else journal.stats().damaged,
        "disk": _disk(parts.config.daemon.state_dir),
        "disk_use": used_by(parts.disk_use),
        "file_storage": parts.stored_files.status(),
    }


def _disk(state_dir: Path) -> dict[str, int] | None:
    """Of the file system that holds the state; None if it does not say."""
    try:
        found = os.statvfs(state_dir)
    except OSError:
        return None
    return {"total_bytes": found.f_blocks * found.f_frsize, "free_bytes": found.f_bavail * found.f_frsize}


def tree_of(parts: Parts, viewer: Viewer, most: int) -> dict[str, Any]:
    """Facts for GET /v1/tree. Raises Refused if the tree is not whole yet."""
    system, sessions = parts.system.peek(), parts.sessions.peek()
    if system is None:
        raise Refused("draining", "the daemon is still starting; try again in a moment")
    reports = parts.reports.recent()[-_REPORTS_SHOWN:]
    owner_of = _nobody if sessions is None else sessions.owner_of
    return {"version": parts.version, **describe_tree(system, reports, viewer, owner_of, most)}


def _nobody(_session: str) -> None:
    """Owns every conversation while there is no session manager."""


async def backends_of(parts: Parts) -> list[dict[str, Any]]:
    """Facts for GET /v1/backends: what each backend claims, and whether it would run something now."""
    found: list[dict[str, Any]] = []

    async def look(name: str, facts: dict[str, Any]) -> None:
        executor = parts.executors[name].peek()
        problem = parts.executors[name].why or "it is starting" if executor is None else await _problem(executor)
        facts |= {
            "available": problem is None,
            "problem": problem,
            "default": name in parts.config.backends.default,
            **(_UNKNOWN if executor is None else executor.capabilities.facts()),
        }

    async with trio.open_nursery() as nursery:
        for name in parts.executors:
            found.append({"name": name})
            nursery.start_soon(look, name, found[-1])
    chosen = parts.config.backends
    found += await agents_facts(parts.agents, chosen.default, within_s=_CHECK_S)
    found.append(native_facts(chosen.native, is_default=NATIVE in chosen.default))
    return [*found, hosted_facts(parts.hosted, is_default=HOSTED in chosen.default)]


async def _problem(executor: Executor) -> str | None:
    """Why it would run nothing now; None if it would."""
    try:
        with trio.move_on_after(_CHECK_S) as limit:
            await executor.check()
    except BackendUnavailable as error:
        return str(error)
    return f"it did not answer within {_CHECK_S:g} s" if limit.cancelled_caught else None
