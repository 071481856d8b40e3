"""The tool servers of this daemon's configuration, for the conversations that have them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import trio

from skill_actors.backends.agents.process import open_nest
from skill_actors.backends.base import BackendUnavailable, ToolContext, ToolResult
from skill_actors.backends.redaction import MIN_SECRET_CHARS
from skill_actors.backends.resident import Nest
from skill_actors.backends.sandbox import Fence, make_fence
from skill_actors.backends.tool_source import SourceTool, SourceUser, ToolSource
from skill_actors.errors import Refused
from skill_actors.mcp import ServerFailed, ServerOptions, ServerSource, ToolServers, ToolServersRef
from skill_actors.mcp.place import ServerPlace
from skill_actors.mcp.screen import Signals
from skill_actors.runtime import ExitReason
from skill_actors.sessions.table import Viewer
from skill_actors.skills.secrets import SecretUnavailable, SkillSecrets
from skilld.config import Config, ConfigError
from skilld.config.mcp import McpServerConfig
from skilld.skill_secrets import secret_source
from skilld.slot import Slot

if TYPE_CHECKING:
    from skill_actors.mcp.connection import Connection
    from skill_actors.telemetry import Bus

__all__ = ["ConfiguredServers", "McpServers", "check_servers", "server_options"]

_MAX_NAMED: Final = 32  # servers of one session
_UNUSED: Final[Mapping[str, Any]] = {"running": 0, "problem": None}


def server_options(name: str, config: Config) -> ServerOptions:
    """How the server of this name is run. Raises ConfigError if it is not said what it is kept in."""
    server = config.mcp.servers[name]
    sandbox = server.sandbox
    if sandbox == "local":
        sandbox = config.backends.local.sandbox
        if sandbox == "none" and server.command:
            raise ConfigError(
                f"mcp.servers.{name}.sandbox: commands of conversations have none here either ([backends.local]), and "
                'a server is not run so unless the file says so: choose "landlock" or "bwrap", or write "none"'
            )
    return ServerOptions(
        name=name,
        command=(server.command, *server.args) if server.command else (),
        env=server.env,
        path=server.path,
        cwd=server.cwd,
        sandbox=sandbox,
        network=None if server.network == "auto" else server.network,
        readable=tuple(map(str, server.readable)),
        memory_bytes=server.memory_bytes or None,
        url=server.url,
        headers=server.headers,
        start_s=server.start_s,
        timeout_s=server.timeout_s,
        idle_s=server.idle_close_s,
        shared=server.shared,
        tools=server.tools,
        read_only=server.read_only,
        max_tools=server.max_tools,
        max_result_bytes=server.max_result_bytes,
    )


def check_servers(config: Config) -> None:
    """Raise ConfigError for a server that could never be used as it is configured."""
    for name in config.mcp.servers:
        server_options(name, config)


class McpServers(ToolServers):
    """The supervisor of this daemon's servers: says where it is, and ends what an earlier life has left."""

    def __init__(self, servers: ConfiguredServers, bus: Bus, *, owner: str, max_running: int) -> None:
        super().__init__(bus, max_servers=max_running)
        self._servers = servers
        self._owner = owner

    async def setup(self) -> None:
        self._servers.nest = await open_nest(self._owner, "mcp")
        self._servers.running.put(self.actor_ref)

    async def teardown(self, reason: ExitReason) -> None:
        self._servers.running.clear()


@dataclass(slots=True)
class ConfiguredServers:
    """Opens the servers that sessions name, or get by default. A ToolSources.

    Args:
        config: in force.
        folder: where servers have a folder that are nobody's alone.
        private: what no server may see in a sandbox.

    """

    config: Callable[[], Config]
    environ: Mapping[str, str]
    folder: Path
    private: Callable[[], Sequence[Path]]
    running: Slot[ToolServersRef] = field(default_factory=lambda: Slot("tool servers"))
    nest: Nest | None = None
    _secrets: dict[str, SkillSecrets] = field(default_factory=dict)
    _fences: dict[str, Fence] = field(default_factory=dict)

    async def check(self, owner_uid: int, settings: Mapping[str, Any]) -> None:
        """Raise Refused if the session names a server that there is not, or not for this user."""
        servers = self.config().mcp.servers
        names = settings.get("mcp") or ()
        if len(names) > _MAX_NAMED:
            raise Refused("bad_request", f"mcp: expected at most {_MAX_NAMED} servers")
        for name in names:
            if name not in servers:
                near = get_close_matches(name, servers, n=1)
                known = ", ".join(sorted(servers)) or "none"
                hint = f"did you mean {near[0]!r}?" if near else f"configured here: {known}"
                raise Refused("bad_request", f"mcp: there is no tool server {name[:60]!r}; {hint}")
            if not await _permits(servers[name], owner_uid):
                raise Refused("forbidden", f"mcp: the tool server {name!r} is not for you; see its uids and gids")

    def open(self, user: SourceUser) -> Sequence[ToolSource]:
        """The servers of a conversation, in the order in which they are named."""
        config = self.config().mcp
        names = user.settings.get("mcp")
        wanted = dict.fromkeys(config.default if names is None else names)
        return [self.source(name, user) if name in config.servers else GoneServer(name) for name in wanted]

    async def facts(self, viewer: Viewer) -> list[dict[str, Any]]:
        """For GET /v1/mcp/servers: the servers that this viewer may have, an admin all of them."""
        config = self.config()
        running = self.running.peek()
        told = {} if running is None else running.facts(None if viewer.admin else viewer.uid)
        return [
            {**_facts(server_options(name, config)), "default": name in config.mcp.default, **told.get(name, _UNUSED)}
            for name, server in config.mcp.servers.items()
            if viewer.admin or await _permits(server, viewer.uid)
        ]

    def source(self, name: str, user: SourceUser) -> ServerSource:
        """One server, for one conversation."""
        options = server_options(name, self.config())
        return ServerSource(
            options,
            user,
            find=self.running.peek,
            connect=partial(self._connect, options, user),
            hidden=partial(self._hidden, name),
        )

    async def _connect(
        self, options: ServerOptions, user: SourceUser, signals: Signals
    ) -> AbstractAsyncContextManager[Connection]:
        """A connection, to be entered. Raises ServerFailed."""
        server = self.config().mcp.servers[options.name]
        if not await _permits(server, user.owner_uid):
            raise ServerFailed("it is not for the owner of this session; see its uids and gids")
        try:
            secrets = await trio.to_thread.run_sync(self._secrets_of(options.name).of_name, options.name)
        except SecretUnavailable as error:
            raise ServerFailed(str(error)) from error
        signals.hidden = await trio.to_thread.run_sync(self._hidden, options.name)
        connection = await _module("connection")
        streams = (
            await self._program(options, user, secrets, signals)
            if options.command
            else (await _module("http")).http_streams(options, {**options.headers, **secrets}, signals)
        )
        opened: AbstractAsyncContextManager[Connection] = connection.connected(
            streams, signals, start_s=options.start_s
        )
        return opened

    async def _program(
        self, options: ServerOptions, user: SourceUser, secrets: Mapping[str, str], signals: Signals
    ) -> Any:
        if self.nest is None:
            raise ServerFailed("tool servers are being started again; try again in a moment")
        try:
            fence = await self._fence(options)
        except BackendUnavailable as error:
            raise ServerFailed(str(error).replace("the local backend's", "the server's")) from error
        own = self.folder / options.name / str(user.owner_uid)
        place = ServerPlace(
            options=options, root=own if options.shared else user.workspace, fence=fence, nest=self.nest
        )
        return (await _module("stdio")).stdio_streams(place, {**place.environment(), **secrets}, signals)

    async def _fence(self, options: ServerOptions) -> Fence:
        """What the server is kept in; tried once. Raises BackendUnavailable."""
        fence = self._fences.get(options.name)
        if fence is None:
            readable = [
                *options.readable,
                *([] if options.cwd is None or options.sandbox == "none" else [str(options.cwd)]),
            ]
            make = partial(make_fence, options.sandbox, options.network, readable, self.private())
            fence = self._fences[options.name] = await trio.to_thread.run_sync(make)
        return fence

    def _secrets_of(self, name: str) -> SkillSecrets:
        if name not in self._secrets:
            server = self.config().mcp.servers[name]
            named = {**server.secrets, **server.secret_headers}
            sources = {key: secret_source(secret, self.environ) for key, secret in named.items()}
            self._secrets[name] = SkillSecrets({name: sources})
        return self._secrets[name]

    def _hidden(self, name: str) -> Sequence[str]:
        """The secrets of a server, and of those like "Bearer TOKEN" the token."""
        values = self._secrets_of(name).known(name)
        return [*values, *(value.split()[-1] for value in values if len(value.split()[-1]) >= MIN_SECRET_CHARS)]


def _facts(options: ServerOptions) -> dict[str, Any]:
    """What users may know of a server. Not its words and its address, which may say more than they should."""
    return {
        "name": options.name,
        "kind": "program" if options.command else "http",
        "sandbox": options.sandbox if options.command else None,
        "shared": options.shared,
        "tools": list(options.tools),
        "read_only": list(options.read_only),
    }


@dataclass(frozen=True, slots=True)
class GoneServer:
    """A server that a session names, and that is not configured any more. A ToolSource without tools."""

    name: str

    async def tools(self) -> Sequence[SourceTool]:
        """Raises BackendUnavailable."""
        raise BackendUnavailable(f"the tool server {self.name} is not configured any more")

    async def call(self, tool: str, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Raises BackendUnavailable."""
        raise BackendUnavailable(f"the tool server {self.name} is not configured any more")

    async def close(self) -> None:
        """Nothing is held."""


async def _module(name: Literal["connection", "http", "stdio"]) -> Any:
    """A part that needs the SDK, whose first import takes a while."""
    return await trio.to_thread.run_sync(import_module, f"skill_actors.mcp.{name}")


async def _permits(server: McpServerConfig, uid: int) -> bool:
    if not (server.uids or server.gids) or uid in server.uids:
        return True
    return bool(server.gids) and not set(server.gids).isdisjoint(await trio.to_thread.run_sync(_groups_of, uid))


def _groups_of(uid: int) -> Sequence[int]:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return ()
    return os.getgrouplist(user.pw_name, user.pw_gid)
