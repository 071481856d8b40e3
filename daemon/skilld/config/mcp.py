"""The section [mcp]: servers whose tools conversations may have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from skill_actors.backends.tool_source import WORKSHOP
from skilld.config.roles import AccountId
from skilld.config.section import Bound, Count, FilePath, Names, Seconds, Section
from skilld.config.skills import SecretConfig

__all__ = ["McpConfig", "McpServerConfig"]

Words = tuple[Annotated[str, Field(max_length=4096)], ...]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")]
HeaderText = Annotated[str, Field(max_length=4096, pattern=r"^[\x20-\x7e]*$")]
Paths = tuple[FilePath, ...]
T = TypeVar("T")

_OURS: Final = ("HOME", "PATH", "TMPDIR")
_PROTOCOLS: Final = ("accept", "accept-encoding", "content-length", "content-type", "host", "transfer-encoding")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class McpServerConfig(Section):
    """One server: a program, or an address."""

    command: Annotated[str, Field(max_length=4096)] = ""
    args: Words = Field(default=(), strict=False)
    env: dict[Variable, Annotated[str, Field(max_length=65_536)]] = Field(default={}, repr=False)
    secrets: dict[Variable, SecretConfig] = Field(default={})
    path: str = _PATH
    cwd: FilePath | None = None
    sandbox: Literal["local", "none", "landlock", "bwrap"] = "local"
    network: Literal["auto", "host", "none"] = "auto"
    readable: Paths = Field(default=(), strict=False)
    memory_bytes: Bound = 0
    url: Annotated[str, Field(max_length=4096)] = ""
    headers: dict[Header, HeaderText] = Field(default={}, repr=False)
    secret_headers: dict[Header, SecretConfig] = Field(default={})
    start_s: Seconds = 30.0
    timeout_s: Seconds = 120.0
    idle_close_s: Seconds = 300.0
    shared: bool = False
    tools: Names = Field(default=("*",), strict=False)
    read_only: Names = Field(default=(), strict=False)
    max_tools: Annotated[int, Field(ge=1, le=1_000)] = 100
    max_result_bytes: Annotated[int, Field(ge=1_024, le=64 << 20)] = 4 << 20
    uids: tuple[AccountId, ...] = Field(default=(), strict=False)
    gids: tuple[AccountId, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _is_one_of_both(self) -> McpServerConfig:
        if bool(self.command) == bool(self.url):
            raise ValueError("give either command, of a program, or url")
        if self.url and (self.args or self.env or self.secrets or self.cwd or self.readable):
            raise ValueError("args, env, secrets, cwd and readable are of a program, and this server has a url")
        if self.command and (self.headers or self.secret_headers):
            raise ValueError("headers and secret_headers are for a url, and this server is a program")
        if "/" in self.command and not self.command.startswith("/"):
            raise ValueError(f"command: {self.command!r} must be an absolute path, or a name that is found in path")
        if relative := next((path for path in (*self.readable, *_given(self.cwd)) if not path.is_absolute()), None):
            raise ValueError(f"{relative} must be an absolute path")
        return self

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value.startswith("unix:"):
            if not value.startswith("unix:/"):
                raise ValueError("unix: is followed by an absolute path of a socket")
            return value
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("expected http://..., https://... or unix:/PATH of a socket")
        if parts.username or parts.password:
            raise ValueError("no password belongs into it: use secret_headers")
        return value

    @field_validator("env", "secrets")
    @classmethod
    def _leaves_our_variables(cls, value: dict[str, T]) -> dict[str, T]:
        for name in value:
            if name in _OURS or name.startswith("SKILLD_"):
                raise ValueError(f"{name} is set by skilld itself; choose another variable")
        return value

    @field_validator("headers", "secret_headers")
    @classmethod
    def _leaves_the_protocols_headers(cls, value: dict[str, T]) -> dict[str, T]:
        for name in value:
            if name.lower() in _PROTOCOLS or name.lower().startswith("mcp-"):
                raise ValueError(f"{name} is set by the protocol; leave it out")
        return value


def _given(path: Path | None) -> tuple[Path, ...]:
    return () if path is None else (path,)


ServerName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,23}$")]


class McpConfig(Section):
    """Servers of tools, and which of them conversations get that name none."""

    default: Names = Field(default=(), strict=False)
    max_running: Count = 64
    servers: dict[ServerName, McpServerConfig] = Field(default={})

    @model_validator(mode="after")
    def _are_there(self) -> McpConfig:
        for name in self.default:
            if name not in self.servers:
                raise ValueError(f"default: there is no server {name!r}; add [mcp.servers.{name}]")
        if WORKSHOP in self.servers:
            raise ValueError(f"servers.{WORKSHOP}: the workshop's own tools have this name; choose another")
        return self
