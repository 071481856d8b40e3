"""What the handlers need of the daemon, filled once by whoever builds the tree."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, Protocol

from skill_actors.errors import Refused
from skill_actors.files.content import OpenFile
from skill_actors.files.ref import FileRef
from skill_actors.sessions.events import Event, Position
from skill_actors.sessions.table import Viewer
from skill_actors.sessions.wanted import Wanted
from skill_actors.skills.base import SkillSnapshot
from skill_actors.telemetry import Bus
from skilld.config import RolesConfig

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from skill_actors.sessions.approvals import Approver
    from skill_actors.sessions.intake import Mode
    from skill_actors.store.ledger import UsageBy
    from skilld.http.peer import Peer
    from skilld.monitor.alerts.alerts import Alerts
    from skilld.monitor.monitor import Monitor
    from skilld.monitor.sinks.status import SinkStatus
    from skilld.workshop import Workshop

__all__ = [
    "Accepted",
    "Approvals",
    "Budgets",
    "Files",
    "HandOvers",
    "McpServer",
    "Readiness",
    "Services",
    "Sessions",
    "Skills",
    "Viewer",
]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Parts of the daemon that are away, and why.

    Args:
        missing: those without which no message is accepted.
        degraded: those without which some turns fail.

    """

    missing: Mapping[str, str] = field(default_factory=dict)
    degraded: Mapping[str, str] = field(default_factory=dict)


class Accepted(Protocol):
    """A message that is durable."""

    @property
    def turn(self) -> str: ...
    @property
    def session(self) -> str: ...
    @property
    def seq(self) -> int: ...
    def to_dict(self) -> dict[str, Any]: ...


class Sessions(Protocol):
    """The part of the session manager that the socket offers. Errors are `Refused`."""

    async def create(
        self, owner_uid: int, settings: Mapping[str, Any], idempotency_key: str | None = None
    ) -> dict[str, Any]: ...
    async def get(self, session: str, viewer: Viewer) -> dict[str, Any]: ...
    async def list(
        self, viewer: Viewer, *, limit: int, cursor: str | None, wanted: Wanted | None = None
    ) -> dict[str, Any]: ...
    async def skills(self, session: str, viewer: Viewer) -> SkillSnapshot: ...
    async def update(self, session: str, viewer: Viewer, changes: Mapping[str, Any]) -> dict[str, Any]: ...
    async def delete(self, session: str, viewer: Viewer) -> None: ...
    async def fork(
        self,
        session: str,
        viewer: Viewer,
        *,
        after: int | None = None,
        title: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]: ...
    async def reset(self, session: str, viewer: Viewer, *, workspace: bool = False) -> dict[str, Any]: ...
    def export(self, session: str, viewer: Viewer) -> AbstractAsyncContextManager[AsyncIterator[str]]: ...
    async def import_session(
        self, owner_uid: int, raw: bytes, idempotency_key: str | None = None
    ) -> dict[str, Any]: ...
    async def submit(
        self,
        session: str,
        viewer: Viewer,
        text: str,
        files: Sequence[tuple[str, bytes]] = (),
        idempotency_key: str | None = None,
        artifacts: Sequence[Mapping[str, Any]] = (),
        schema: Mapping[str, Any] | Literal[False] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        mode: Mode = "follow_up",
        compact: bool = False,
        pinned: bool = False,
    ) -> Accepted: ...
    async def pause(self, session: str, viewer: Viewer) -> dict[str, Any]: ...
    async def resume(self, session: str, viewer: Viewer) -> dict[str, Any]: ...
    async def cancel(self, session: str, viewer: Viewer, *, queued: bool = False) -> dict[str, Any]: ...
    async def get_turn(self, turn: str, viewer: Viewer, *, wait_s: float = 0.0) -> dict[str, Any]: ...
    async def cancel_turn(self, turn: str, viewer: Viewer) -> dict[str, Any]: ...
    def follow(
        self, session: str, viewer: Viewer, *, after: Position, turn: str | None = None, live: bool = True
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]: ...


class Skills(Protocol):
    """The skills in force, and a way to read them again."""

    @property
    def snapshot(self) -> SkillSnapshot: ...
    async def unmet(self, snapshot: SkillSnapshot) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """What skills need and this host lacks, JSON-ready, by skill."""

    async def reload(self, name: str | None) -> Mapping[str, Any]:
        """Read all skills, or the one named, from disk again; a JSON-ready summary."""

    async def push(self, package: bytes) -> Mapping[str, Any]:
        """Store a package and use it; JSON-ready."""

    async def remove(self, name: str) -> Mapping[str, Any]:
        """Remove the pushed skill of this name; a JSON-ready summary."""

    @property
    def approved(self) -> Mapping[str, str]:
        """Digests of the versions that were approved, by name."""

    async def approve(self, name: str, digest: str, by_uid: int) -> Mapping[str, Any]:
        """Approve this version, if it is the one in force; JSON-ready."""

    async def revoke(self, name: str, by_uid: int) -> Mapping[str, Any]:
        """Take back the approval; JSON-ready."""

    def changes(self, after: int, *, live: bool) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Changes of the skills after a generation, numbered by generation."""


class Approvals(Protocol):
    """Calls that wait for somebody's word: see `ApprovalDesk`. A viewer of None sees all. Errors are `Refused`."""

    async def list(
        self, viewer_uid: int | None, *, status: str | None, session: str | None, limit: int, cursor: str | None
    ) -> dict[str, Any]: ...
    async def get(self, id: str, viewer_uid: int | None) -> dict[str, Any]: ...
    async def decide(self, id: str, by: Approver, decision: Mapping[str, Any]) -> dict[str, Any]: ...
    async def revoke(self, id: str, by: Approver) -> dict[str, Any]: ...


class Budgets(Protocol):
    """What was spent and what may be: see `skilld.budgets`. Errors are `Refused`, results JSON-ready."""

    async def usage(self, viewer: Viewer, by: UsageBy, since: date | None, until: date | None) -> Mapping[str, Any]: ...
    async def caps(self, viewer: Viewer, name: str | None) -> Sequence[Mapping[str, Any]]: ...
    async def set_cap(self, viewer: Viewer, name: str, changes: Mapping[str, Any]) -> Mapping[str, Any]: ...
    async def unset_cap(self, viewer: Viewer, name: str) -> None: ...


class HandOvers(Protocol):
    """Files from one place of a session to another: see `HandOverDesk`. Errors are `Refused`."""

    async def hand_over(self, session: str, viewer: Viewer, asked: dict[str, Any]) -> dict[str, Any]: ...


class Files(Protocol):
    """Files of sessions: see `FileDesk`. Errors are `Refused`."""

    async def listing(self, session: str, viewer: Viewer, *, limit: int, cursor: str | None) -> dict[str, Any]: ...
    async def open(
        self, session: str, viewer: Viewer, name: str, *, source: str | None = None
    ) -> tuple[FileRef, OpenFile]: ...
    async def put(
        self,
        session: str,
        viewer: Viewer,
        name: str,
        content: AsyncIterable[bytes],
        *,
        size: int | None = None,
        replace: bool = True,
        source: str | None = None,
    ) -> tuple[FileRef, bool]: ...
    async def delete(self, session: str, viewer: Viewer, name: str, *, source: str | None = None) -> None: ...
    async def fetch(self, session: str, viewer: Viewer, stored: str | None = None) -> dict[str, Any]: ...
    async def purge(self, session: str, viewer: Viewer) -> dict[str, Any]: ...
    async def presigned_url(self, session: str, viewer: Viewer, name: str, expires_s: int) -> dict[str, Any]: ...


def _no_workshop() -> Workshop:
    raise Refused("draining", "there is no workshop here")


class McpServer(Protocol):
    """The workshop over MCP: see `skilld.mcp.inside_desk`."""

    async def serve(self, peer: Peer, scope: Scope, receive: Receive, send: Send) -> None: ...


def _no_mcp() -> McpServer:
    raise Refused("draining", "there is no MCP server here")


async def _no_tool_servers(viewer: Viewer) -> Sequence[Mapping[str, Any]]:
    return ()


async def _no_agents(session: str) -> int:
    raise Refused("forbidden", "there are no agents here")


def _no_monitor() -> Monitor:
    raise Refused("not_found", "there is no monitoring here")


def _no_alerts() -> Alerts:
    raise Refused("not_found", "there is no monitoring here")


async def _no_rules() -> Mapping[str, Any]:
    raise Refused("not_found", "there is no monitoring here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The daemon as the socket sees it.

    Args:
        status: JSON-ready facts for GET /v1/status. Must not wait.
        ready: what is away now. Must not wait.
        metrics: the text of /metrics; what takes long of it runs in a worker thread (Metrics.render).
        backends: JSON-ready facts of each backend, for GET /v1/backends.
        prices: JSON-ready price table, for GET /v1/prices.
        tree: JSON-ready live tree as this viewer may see it, for GET /v1/tree, with at most so many children of each
            dynamic supervisor. Must not wait.
        backup: everything that is kept, as the bytes of a tar.
        shutdown: begin to drain and stop. Returns at once.
        reload: read the configuration again; JSON-ready. Raises Refused.
        roles: who may do what now.
        own_uid: the daemon's own user.
        audit: takes what happened and its facts, for the audit log. Must not wait.
        audit_reads: whether requests that only read are told to it too.
        workshop: the workshop as it is now. Raises Refused while there is none.
        monitor: what programs reported, likewise.
        alerts: what was found in that, likewise.
        monitor_rules: JSON-ready: the rules by which it was found, likewise.
        monitor_sinks: how each place is doing that reported events go to, by name.
        mcp: the workshop over MCP. Raises Refused while there is none.
        tool_servers: JSON-ready facts of the tool servers that a viewer may have, for GET /v1/mcp/servers.
        agent_owner: the uid of the owner of an agent's conversation. Raises Refused where there is none such.

    """

    sessions: Sessions
    approvals: Approvals
    budgets: Budgets
    files: Files
    hand_overs: HandOvers
    skills: Skills
    status: Callable[[], Mapping[str, Any]]
    ready: Callable[[], Readiness]
    metrics: Callable[[], Awaitable[bytes]]
    backends: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]
    prices: Callable[[], Mapping[str, Any]]
    tree: Callable[[Viewer, int], Mapping[str, Any]]
    backup: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]
    shutdown: Callable[[], None]
    reload: Callable[[], Awaitable[Mapping[str, Any]]]
    roles: Callable[[], RolesConfig]
    version: str
    bus: Bus
    own_uid: int
    audit: Callable[[str, Mapping[str, Any]], None]
    audit_reads: bool = False
    workshop: Callable[[], Workshop] = _no_workshop
    monitor: Callable[[], Monitor] = _no_monitor
    alerts: Callable[[], Alerts] = _no_alerts
    monitor_rules: Callable[[], Awaitable[Mapping[str, Any]]] = _no_rules
    monitor_sinks: Callable[[], Mapping[str, SinkStatus]] = dict
    agent_owner: Callable[[str], Awaitable[int]] = _no_agents
    mcp: Callable[[], McpServer] = _no_mcp
    tool_servers: Callable[[Viewer], Awaitable[Sequence[Mapping[str, Any]]]] = _no_tool_servers
