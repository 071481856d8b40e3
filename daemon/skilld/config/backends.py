"""The section [backends], with those of single backends."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from skilld.config.agents import AgentBudget, ClaudeConfig, CodexConfig, CommandConfig
from skilld.config.section import Bound, FilePath, Names, Section

__all__ = [
    "AnthropicConfig",
    "BackendsConfig",
    "DockerConfig",
    "DockerSessionConfig",
    "LocalConfig",
    "LocalLimitsConfig",
    "NativeConfig",
]

BackendNames = tuple[Annotated[str, Field(min_length=1, max_length=100)], ...]
Listed = tuple[Annotated[str, Field(min_length=1, max_length=300)], ...]
Texts = dict[Annotated[str, Field(min_length=1, max_length=4096)], str]


class LocalLimitsConfig(Section):
    """What each process of a call may take, and, with `total_`, a call as a whole. 0: no limit of ours."""

    cpu_s: Bound = 0
    memory_bytes: Bound = 0
    processes: Bound = 0
    file_bytes: Bound = 0
    open_files: Bound = 0
    total_cpu_s: Bound = 0
    total_memory_bytes: Bound = 0
    total_processes: Bound = 0


class LocalConfig(Section):
    """How commands are run on this host, and what they are kept in."""

    sandbox: Literal["none", "landlock", "bwrap"] = "none"
    network: Literal["auto", "host", "none"] = "auto"
    readable: tuple[FilePath, ...] = Field(default=(), strict=False)
    inherit: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")], ...] = Field(
        default=(), strict=False
    )
    environment: Texts = Field(default={}, repr=False)
    path: str = ""
    limits: LocalLimitsConfig = LocalLimitsConfig()

    def options(self) -> dict[str, Any]:
        """As the local backend takes them."""
        options = self.model_dump(exclude={"path"} if not self.path else set())
        options["network"] = None if self.network == "auto" else self.network
        options["readable"] = [str(path) for path in self.readable]
        options["limits"] = {name: value for name, value in options["limits"].items() if value}
        return options


class DockerSessionConfig(Section):
    """What single sessions may choose of their containers: `docker_options.SessionLimits`."""

    images: Listed = Field(default=(), strict=False)
    pull: Listed = Field(default=(), strict=False)
    networks: Listed = Field(default=(), strict=False)
    hosts: Listed = Field(default=(), strict=False)
    memory_bytes: int = 0
    cpus: float = 0.0
    processes: int = 0
    workspace_bytes: int = 0
    tmp_bytes: int = 0
    mounts: Texts = Field(default={})
    users: tuple[int, ...] = Field(default=(), strict=False)


class DockerConfig(Section):
    """How containers are made: `skill_actors.backends.docker_options` says what is allowed."""

    address: str = ""
    image: str = "localhost/skilld-sandbox:full"
    pull: Literal["never", "missing", "always"] = "never"
    network: str = "none"
    allow: Listed = Field(default=(), strict=False)
    network_bytes: int = 0
    runtime: str = ""
    memory_bytes: int = 1 << 30
    cpus: float = 1.0
    processes: int = 512
    workspace_bytes: int = 256 << 20
    workspace_files: int = 20_000
    tmp_bytes: int = 64 << 20
    skills_bytes: int = 64 << 20
    mounts: Texts = Field(default={})
    user: int = 0
    environment: Texts = Field(default={}, repr=False)
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    pool: int = 2
    max_containers: int = 64
    session: DockerSessionConfig = DockerSessionConfig()


class NativeConfig(Section):
    """Where the code of native skills runs, and which actors it may ask."""

    isolation: Literal["process", "inline"] = "process"
    inline: Names = Field(default=(), strict=False)
    expose: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(default=(), strict=False)

    def is_inline(self, skill: str) -> bool:
        """Whether this skill's code runs in the daemon's own process."""
        return self.isolation == "inline" or any(fnmatchcase(skill, pattern) for pattern in self.inline)


class AnthropicConfig(Section):
    """Hosted execution: whether sessions may have it, and how much of it."""

    enabled: bool = True
    max_skills: Annotated[int, Field(ge=1, le=20)] = 20
    max_pauses: Annotated[int, Field(ge=0, le=1000)] = 10
    file_bytes: Annotated[int, Field(ge=1, le=500_000_000)] = 100_000_000
    free_containers: bool = False


_TAKEN: Final = frozenset({"anthropic", "claude_cli", "codex_cli", "docker", "local", "native"})


def _are_free(value: dict[str, CommandConfig]) -> dict[str, CommandConfig]:
    for name in value:
        if name in _TAKEN:
            raise ValueError(f"{name!r} is another backend; give the command a name of its own")
    return value


CommandName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Commands = Annotated[dict[CommandName, CommandConfig], AfterValidator(_are_free)]


class BackendsConfig(Section):
    """What executes tool calls where a session does not say, and what else a session may name."""

    default: BackendNames = Field(default=(), strict=False)
    offered: BackendNames = Field(default=(), strict=False)
    agents: BackendNames = Field(default=(), strict=False)
    claude_cli: ClaudeConfig = ClaudeConfig()
    codex_cli: CodexConfig = CodexConfig()
    command: Commands = Field(default={})
    local: LocalConfig = LocalConfig()
    docker: DockerConfig = DockerConfig()
    native: NativeConfig = NativeConfig()
    anthropic: AnthropicConfig = AnthropicConfig()

    @property
    def names(self) -> tuple[str, ...]:
        """The executors of this daemon, the default ones first; hosted and native tools and agents have none."""
        named = dict.fromkeys((*self.default, *self.offered))
        return tuple(name for name in named if name not in ("anthropic", "native", *self.agent_names))

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The backends of this daemon that are whole agents."""
        return tuple(dict.fromkeys((*self.agents, *self.command)))

    def agent_section(self, name: str) -> AgentBudget:
        """What is said of an agent backend; of one of another package, what is said of none."""
        if name in self.command:
            return self.command[name]
        return {"claude_cli": self.claude_cli, "codex_cli": self.codex_cli}.get(name, AgentBudget())

    def options_of(self, name: str) -> dict[str, Any]:
        """What the factory of the backend is called with."""
        if name == "local":
            return self.local.options()
        return self.docker.model_dump() if name == "docker" else {}
