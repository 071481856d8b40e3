"""Tool servers for tests: the supervisor, and sources whose servers are programs of these tests."""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import trio

from skill_actors.backends.agents.process import open_nest
from skill_actors.backends.resident import Nest
from skill_actors.backends.sandbox import Fence
from skill_actors.backends.tool_source import SourceUser
from skill_actors.mcp import ServerOptions, ServerSource, ToolServers, ToolServersRef
from skill_actors.mcp.connection import connected
from skill_actors.mcp.http import http_streams
from skill_actors.mcp.place import ServerPlace
from skill_actors.mcp.screen import Signals
from skill_actors.mcp.stdio import stdio_streams
from skill_actors.runtime import ActorSystem, ChildSpec, Poison, open_system
from skill_actors.telemetry import Bus
from support import run

SERVER = Path(__file__).with_name("mcp_tool_server.py")
FENCE = Fence()


@dataclass
class McpKit:
    """What a test may look into."""

    folder: Path
    system: ActorSystem
    nest: Nest
    bus: Bus
    connected: list[str] = field(default_factory=list)

    def servers(self) -> ToolServersRef:
        return cast("ToolServersRef", self.system.directory.ref("mcp"))

    @property
    def notes(self) -> list[str]:
        """What the servers were asked to do."""
        file = self.folder / "notes"
        return file.read_text().splitlines() if file.exists() else []

    def options(self, name: str = "test", **options: Any) -> ServerOptions:
        """Those of the server of these tests."""
        command = (sys.executable, str(SERVER), str(self.folder / "notes"))
        return ServerOptions(**{"name": name, "command": command, **options})

    def user(self, session: str = "ses_a", uid: int = 1000) -> SourceUser:
        return SourceUser(session=session, owner_uid=uid, settings={}, workspace=self.folder / session)

    def source(
        self,
        options: ServerOptions,
        user: SourceUser | None = None,
        *,
        fence: Fence = FENCE,
        hidden: Callable[[], Sequence[str]] = tuple,
        secrets: dict[str, str] | None = None,
    ) -> ServerSource:
        user = user or self.user()

        async def connect(signals: Signals) -> Any:
            self.connected.append(options.name)
            if options.url:
                streams = http_streams(options, {**options.headers, **(secrets or {})}, signals)
            else:
                place = ServerPlace(options=options, root=user.workspace, fence=fence, nest=self.nest)
                streams = stdio_streams(place, {**place.environment(), **(secrets or {})}, signals)
            return connected(streams, signals, start_s=options.start_s)

        return ServerSource(options, user, find=self.servers, connect=connect, hidden=hidden)


def script(text: str) -> tuple[str, ...]:
    """A program that is this Python text, with the modules that a hostile server needs."""
    return (sys.executable, "-u", "-c", f"import json, os, sys, time\n{text}")


@asynccontextmanager
async def mcp_kit(folder: Path, *, poison: Poison | None = None) -> AsyncIterator[McpKit]:
    """A running supervisor of tool servers."""
    bus = Bus()
    spec = ChildSpec(id="mcp", name="mcp", factory=partial(ToolServers, bus, poison=poison))
    async with open_system([spec]) as system:
        yield McpKit(folder, system, await open_nest(None, "mcp"), bus)


def in_trio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that is an async function, with the fixtures it asks for."""

    @functools.wraps(test)
    def call(*args: Any, **kwargs: Any) -> None:
        run(functools.partial(test, *args, **kwargs))

    return call


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another process does. Raises trio.TooSlowError after 20 s."""
    with trio.fail_after(20):
        while not holds():  # noqa: ASYNC110  # there is nobody who could tell
            await trio.sleep(0.02)
