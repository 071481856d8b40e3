"""A real server on a real Unix socket, in the test's own trio program."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from approval_fakes import FakeApprovals
from http_fakes import FakeSessions, FolderFiles
from skill_actors.errors import Refused
from skill_actors.sessions.events import Event
from skill_actors.skills.base import Diagnostic, Skill, SkillFailure, SkillSnapshot
from skill_actors.telemetry import Bus
from skilld.config import Config, RolesConfig
from skilld.http import HttpServer, ServerLimits, Services, build_app, open_listener
from skilld.http.peer import Peer
from skilld.http.services import Readiness, Viewer

VERSION = "1.2.3"


@dataclass
class FakeSkills:
    snapshot: SkillSnapshot = field(
        default_factory=lambda: SkillSnapshot(
            generation=3,
            skills={"echo": Skill(name="echo", description="says it", root=Path("/skills/echo"), digest="d", body="B")},
            failures=[
                SkillFailure(
                    path=Path("/skills/broken"),
                    diagnostics=[Diagnostic(code="no_name", message="no name", severity="error", line=2)],
                )
            ],
        )
    )
    reloaded: list[str | None] = field(default_factory=list)
    missing: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    approved: dict[str, str] = field(default_factory=dict)

    async def unmet(self, snapshot: SkillSnapshot) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return self.missing

    async def reload(self, name: str | None) -> Mapping[str, Any]:
        self.reloaded.append(name)
        return {"reloaded": 1}

    async def push(self, package: bytes) -> Mapping[str, Any]:
        if not package.startswith(b"PK"):
            raise Refused("invalid_skill_spec", "no zip")
        return {"name": "tides", "replaced": package == b"PK again"}

    async def approve(self, name: str, digest: str, by_uid: int) -> Mapping[str, Any]:
        if digest != "0" * 64:
            raise Refused("conflict", "another version")
        self.approved[name] = digest
        return {"name": name, "digest": digest, "before": None}

    async def revoke(self, name: str, by_uid: int) -> Mapping[str, Any]:
        return {"name": name, "digest": None, "before": self.approved.pop(name)}

    async def remove(self, name: str) -> Mapping[str, Any]:
        return {"removed": [name]}

    @asynccontextmanager
    async def changes(self, after: int, *, live: bool) -> AsyncIterator[AsyncIterator[Event]]:
        async def events() -> AsyncIterator[Event]:
            for number in range(after + 1, 4):
                yield Event(seq=number, type="skill.changed", time="", session="", turn=None, data={"live": live})

        yield events()


async def fake_reload() -> dict[str, Any]:
    return {"applied": ["limits.iterations"], "needs_restart": []}


async def fake_backends() -> list[dict[str, Any]]:
    """One backend."""
    return [{"name": "local"}]


@asynccontextmanager
async def fake_backup() -> AsyncIterator[AsyncIterator[bytes]]:
    """A backup of two pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    yield pieces()


@dataclass
class FakeBudgets:
    """Notes what it is asked."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)

    async def usage(self, viewer: Viewer, by: str, since: date | None, until: date | None) -> Mapping[str, Any]:
        self.asked.append((viewer, by, since, until))
        return {"by": by, "items": []}

    async def caps(self, viewer: Viewer, name: str | None) -> Sequence[Mapping[str, Any]]:
        self.asked.append((viewer, name))
        return [{"name": name}]

    async def set_cap(self, viewer: Viewer, name: str, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append((viewer, name, changes))
        return {"name": name}

    async def unset_cap(self, viewer: Viewer, name: str) -> None:
        self.asked.append((viewer, name))


@dataclass
class Served:
    """What a test may look at and turn."""

    path: Path
    server: HttpServer
    sessions: FakeSessions
    skills: FakeSkills
    budgets: FakeBudgets
    bus: Bus
    approvals: FakeApprovals
    ready: bool = True
    degraded: Mapping[str, str] = field(default_factory=dict)
    stopped: int = 0
    audited: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    http: httpx.AsyncClient = field(kw_only=True)

    def stop(self) -> None:
        self.stopped += 1

    async def raw(self, data: bytes) -> bytes:
        """Send bytes, read until the server closes or says nothing for two seconds."""
        async with await trio.open_unix_socket(str(self.path)) as stream:
            await stream.send_all(data)
            return await read_all(stream)

    async def session(self, **settings: Any) -> str:
        made = await self.http.post("/v1/sessions", json=settings)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])


async def read_all(stream: trio.SocketStream, silence_s: float = 2.0, *, first_s: float = 20.0) -> bytes:
    """What comes until the other side closes, or nothing comes any more; a busy machine may take long to begin."""
    received = bytearray()
    while True:
        with trio.move_on_after(silence_s if received else first_s):
            try:
                data = await stream.receive_some(65536)
            except trio.BrokenResourceError:
                return bytes(received)
            if not data:
                return bytes(received)
            received += data
            continue
        return bytes(received)


async def read_until(stream: trio.SocketStream, *words: bytes) -> bytes:
    """What comes until all of these have come, however long the pauses between them. At most 20 s."""
    received = b""
    with trio.fail_after(20):
        while not all(word in received for word in words):
            data = await stream.receive_some(65536)
            assert data, f"it closed behind {received!r}"
            received += data
    return received


def _from(app: ASGIApp, peer: Peer) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "skilld.peer": peer}, receive, send)

    return call


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    limits: ServerLimits | None = None,
    roles: RolesConfig | None = None,
    own_uid: int = 0,
    peer: Peer | None = None,
    workshop: Callable[[], Any] | None = None,
) -> AsyncIterator[Served]:
    """Serve the whole interface at folder/run/s.sock; everything is closed on the way out.

    Args:
        peer: who every connection is taken for, instead of this process.
        workshop: what there is of it; nothing if None.

    """
    path = folder / "run" / "s.sock"
    sessions, skills, budgets, bus = FakeSessions(), FakeSkills(), FakeBudgets(), Bus()
    approvals = FakeApprovals(bus)
    config = Config(roles=roles or RolesConfig())
    served: Served | None = None

    def seen() -> Served:
        assert served is not None
        return served

    async def metrics() -> bytes:
        return b"skilld_up 1\n"

    more: dict[str, Any] = {} if workshop is None else {"workshop": workshop}
    services = Services(
        sessions=sessions,
        approvals=approvals,
        budgets=budgets,
        files=FolderFiles(folder / "files"),
        hand_overs=sessions,
        skills=skills,
        status=lambda: {"sessions_live": len(sessions.sessions)},
        ready=lambda: Readiness({} if seen().ready else {"sessions": "the daemon is stopping"}, seen().degraded),
        metrics=metrics,
        backends=fake_backends,
        prices=lambda: {"models": {}},
        tree=lambda viewer, most: {"tree": {"id": "root"}, "reports": [], "seen": [viewer.uid, viewer.admin, most]},
        backup=fake_backup,
        shutdown=lambda: seen().stop(),
        reload=fake_reload,
        roles=lambda: config.roles,
        version=VERSION,
        bus=bus,
        own_uid=own_uid,
        audit=lambda what, facts: seen().audited.append((what, facts)),
        **more,
    )
    server = HttpServer(
        build_app(services) if peer is None else _from(build_app(services), peer),
        limits or ServerLimits(),
        VERSION,
        on_stranger=lambda why: seen().audited.append(("connection", {"error": why})),
    )
    transport = httpx.AsyncHTTPTransport(uds=str(path), verify=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, open_listener(path, {}))
        async with httpx.AsyncClient(transport=transport, base_url="http://skilld", timeout=20) as http:
            served = Served(path, server, sessions, skills, budgets, bus, approvals, http=http)
            yield served
        nursery.cancel_scope.cancel()


def body_of(raw: bytes) -> Any:
    """The JSON body of the first of some raw answers."""
    return json.JSONDecoder().raw_decode(raw.partition(b"\r\n\r\n")[2].decode())[0]


async def wait_until(condition: Callable[[], object]) -> None:
    """Look again and again, at most 20 s: what is waited for has no event, being seen from outside."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)
