"""How one tool server is run and used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from skill_actors.backends.sandbox import SandboxKind

__all__ = ["ServerOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """One server: a program (`command`) or an address (`url`).

    Args:
        name: in lower-case letters, digits and -.
        command: the program and its arguments; () for a server over HTTP.
        env: variables of the program, besides a few that all have.
        path: its PATH.
        cwd: the folder it starts in; None: its conversation's own.
        sandbox: what it is kept in.
        network: whether in a sandbox it has the host's; None: not in bwrap, else yes.
        readable: absolute paths that it may read in a sandbox, besides programs and libraries.
        memory_bytes: that it and all it starts may have in use; None: no limit.
        url: http, https, or unix:PATH of a socket, with an optional path of the endpoint behind a second colon.
        headers: sent with every request.
        start_s: seconds for it to be there.
        timeout_s: of one call at most.
        idle_s: it is ended after so many seconds without a call.
        shared: whether all conversations of one user have one; else each has its own.
        tools: patterns of the names of its tools that are offered.
        read_only: likewise, of those that change nothing.
        max_tools: more are left out, as the server sorts them.
        max_result_bytes: of one message of the server.

    """

    name: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    cwd: Path | None = None
    sandbox: SandboxKind = "none"
    network: Literal["host", "none"] | None = None
    readable: tuple[str, ...] = ()
    memory_bytes: int | None = None
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    start_s: float = 30.0
    timeout_s: float = 120.0
    idle_s: float = 300.0
    shared: bool = False
    tools: tuple[str, ...] = ("*",)
    read_only: tuple[str, ...] = ()
    max_tools: int = 100
    max_result_bytes: int = 4 << 20

    def offers(self, tool: str) -> bool:
        """Whether conversations may have the tool."""
        return any(fnmatchcase(tool, pattern) for pattern in self.tools)

    def only_reads(self, tool: str) -> bool:
        """Whether the operator says that the tool changes nothing."""
        return any(fnmatchcase(tool, pattern) for pattern in self.read_only)
