"""The configuration: TOML read once into frozen values. Every key has an effect; etc/skilld.toml explains each.

Precedence: a flag, then the environment, then the file, then the default.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails

from skilld import paths

__all__ = [
    "BackendsConfig",
    "Config",
    "ConfigError",
    "DaemonConfig",
    "LimitsConfig",
    "LocalConfig",
    "LocalLimitsConfig",
    "ModelConfig",
    "PolicyConfig",
    "RetentionConfig",
    "RoleConfig",
    "RolesConfig",
    "SecretConfig",
    "SenderConfig",
    "SkillsConfig",
    "config_keys",
    "load_config",
    "mask",
]

Mode = Literal["development", "production", "test"]
Seconds = Annotated[float, Field(gt=0, le=604_800, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Bound = Annotated[int, Field(ge=0, le=1 << 50)]
AccountId = Annotated[int, Field(ge=0, le=4_294_967_294)]
FilePath = Annotated[Path, Field(strict=False)]
SkillNames = tuple[Annotated[str, Field(min_length=1, max_length=200)], ...]
ToolNames = tuple[Annotated[str, Field(min_length=1, max_length=200)], ...]

_MAX_FILE_BYTES: Final = 1 << 20
_DEFAULT_BACKENDS: Final[Mapping[Mode, tuple[str, ...]]] = {
    "development": ("local",),
    "production": ("docker",),
    "test": ("local",),
}
# What looks like a credential is not repeated in an error, whichever key it was written to.
_SECRET: Final = re.compile(r"sk-[A-Za-z0-9_-]{8,}|(?<=://)[^/@\s]+(?=@)")


class ConfigError(Exception):
    """The configuration cannot be used. The message names the file, the key, the value and what is allowed."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DaemonConfig(_Section):
    """The process: where it listens, what it keeps, how it speaks."""

    socket: FilePath = Path()
    state_dir: FilePath = Path()
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    stall_dump_s: Annotated[float, Field(ge=0.5, le=3600)] = 5.0
    stall_exit_s: Annotated[float, Field(ge=1, le=86_400, validate_default=True)] = 30.0
    mode: Mode = "development"

    @field_validator("stall_exit_s")
    @classmethod
    def _is_after_the_dump(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("stall_dump_s", 0.0):
            raise ValueError("must be more than daemon.stall_dump_s")
        return value


class SecretConfig(_Section):
    """Where one secret of a skill is. The secret itself is never written here."""

    file: FilePath | None = None
    credential: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,255}$")] | None = None

    @model_validator(mode="after")
    def _has_one_place(self) -> SecretConfig:
        if (self.file is None) == (self.credential is None):
            raise ValueError('must be either { file = "PATH" } or { credential = "NAME" }')
        return self


SecretsOfSkills = dict[
    Annotated[str, Field(min_length=1, max_length=200)],
    dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")], SecretConfig],
]


class SkillsConfig(_Section):
    """Where skills are found, which of them are used and trusted, and whether edits are followed."""

    paths: tuple[FilePath, ...] = Field(default=(), strict=False)
    user: bool = False
    system: bool = True
    bundled: bool = True
    bundled_native: bool = False
    trusted: tuple[FilePath, ...] = Field(default=(), strict=False)
    native: tuple[FilePath, ...] = Field(default=(), strict=False)
    projects: tuple[FilePath, ...] = Field(default=(), strict=False)
    allow: SkillNames = Field(default=("*",), strict=False)
    deny: SkillNames = Field(default=(), strict=False)
    watch: bool = True
    reload_s: Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)] = 0.0
    catalogue_tokens: Annotated[int, Field(ge=500, le=1_000_000)] = 10_000
    restrict_to_allowed_tools: bool = False
    approval: Literal["source", "version"] = "source"
    secrets: SecretsOfSkills = {}

    @field_validator("secrets")
    @classmethod
    def _leave_our_variables(cls, value: SecretsOfSkills) -> SecretsOfSkills:
        for name in (name for secrets in value.values() for name in secrets):
            if name in ("HOME", "PATH", "TMPDIR") or name.startswith("SKILLD_"):
                raise ValueError(f"{name} is set by skilld itself; choose another variable")
        return value


class ModelConfig(_Section):
    """Which model answers. Credentials are named here, never written here."""

    provider: Literal["auto", "anthropic", "offline"] = "auto"
    name: Annotated[str, Field(min_length=1, max_length=200)] = "claude-sonnet-5-5"
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    base_url: str | None = None
    api_key_file: FilePath | None = None
    api_key_credential: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,255}$")] = "anthropic_api_key"
    stall_timeout_s: Seconds = 120.0

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError("must be a URL such as https://api.example.com")
        return value

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, mask(value) if isinstance(value, str) else value


class LimitsConfig(_Section):
    """Bounds of turns, tools, memory and the socket."""

    iterations: Annotated[int, Field(ge=1, le=1000)] = 25
    tool_timeout_s: Seconds = 120.0
    turn_timeout_s: Seconds = 1800.0
    tool_output_chars: Annotated[int, Field(ge=1000, le=10_000_000)] = 30_000
    queued_messages: Count = 16
    queued_total: Count = 4096
    running_turns: Count = 32
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 8 << 20
    max_header_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 64 << 10
    idle_unload_s: Seconds = 600.0
    connections_per_peer: Annotated[int, Field(ge=1, le=100_000)] = 64


class RetentionConfig(_Section):
    """What is deleted by itself, and how large a conversation may grow. 0 means: never, and without bound."""

    session_age_days: Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)] = 0.0
    total_bytes: Annotated[int, Field(ge=0, le=1 << 60)] = 0
    session_events: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    session_bytes: Annotated[int, Field(ge=0, le=1 << 60)] = 0
    check_every_s: Seconds = 3600.0


BackendNames = tuple[Annotated[str, Field(min_length=1, max_length=100)], ...]
Texts = dict[Annotated[str, Field(min_length=1, max_length=4096)], str]


class LocalLimitsConfig(_Section):
    """What each process of a call may take, and, with `total_`, a call as a whole. 0: no limit of ours."""

    cpu_s: Bound = 0
    memory_bytes: Bound = 0
    processes: Bound = 0
    file_bytes: Bound = 0
    open_files: Bound = 0
    total_cpu_s: Bound = 0
    total_memory_bytes: Bound = 0
    total_processes: Bound = 0


class LocalConfig(_Section):
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


class DockerConfig(_Section):
    """How containers are made: `skill_actors.backends.docker_options` says what is allowed."""

    address: str = ""
    image: str = "localhost/skilld-sandbox:full"
    pull: Literal["never", "missing", "always"] = "never"
    network: str = "none"
    runtime: str = ""
    memory_bytes: int = 1 << 30
    cpus: float = 1.0
    processes: int = 512
    workspace_bytes: int = 256 << 20
    workspace_files: int = 20_000
    tmp_bytes: int = 64 << 20
    skills_bytes: int = 64 << 20
    mounts: Texts = Field(default={})
    environment: Texts = Field(default={}, repr=False)
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    pool: int = 2
    max_containers: int = 64


class BackendsConfig(_Section):
    """What executes tool calls where a session does not say, and what else a session may name."""

    default: BackendNames = Field(default=(), strict=False)
    offered: BackendNames = Field(default=(), strict=False)
    local: LocalConfig = LocalConfig()
    docker: DockerConfig = DockerConfig()

    @property
    def names(self) -> tuple[str, ...]:
        """All backends of this daemon, the default ones first."""
        return tuple(dict.fromkeys((*self.default, *self.offered)))

    def options_of(self, name: str) -> dict[str, Any]:
        """What the factory of the backend is called with."""
        if name == "local":
            return self.local.options()
        return self.docker.model_dump() if name == "docker" else {}


class PolicyConfig(_Section):
    """Which tools are not for everybody to call; names of Claude Code's tools become ours."""

    deny: ToolNames = Field(default=(), strict=False)
    ask: ToolNames = Field(default=(), strict=False)

    @field_validator("deny", "ask")
    @classmethod
    def _are_tools(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Imported where it is needed: the command line checks configurations, and this takes a while.
        from skill_actors.skills.allowed_tools import TOOL_NAMES, tool_called

        tools = [tool_called(name) for name in value]
        if None in tools:
            known = ", ".join(sorted({*TOOL_NAMES, *TOOL_NAMES.values(), "load_skill"}))
            raise ValueError(f"{value[tools.index(None)]!r} is no tool; there are {known}, and those of native skills")
        return tuple(tool for tool in tools if tool is not None)


class RoleConfig(_Section):
    """Who has a role: user ids, and group ids (primary or supplementary)."""

    uids: tuple[AccountId, ...] = Field(default=(), strict=False)
    gids: tuple[AccountId, ...] = Field(default=(), strict=False)


class SenderConfig(RoleConfig):
    """Who has a role in which one has sessions, and which skills these may use."""

    skills_allow: SkillNames = Field(default=("*",), strict=False)
    skills_deny: SkillNames = Field(default=(), strict=False)


class RolesConfig(_Section):
    """Who may do what on the socket. With nobody named: root and the daemon's own user, and they may do all."""

    read: RoleConfig = RoleConfig()
    send: SenderConfig = SenderConfig()
    admin: SenderConfig = SenderConfig()

    @property
    def configured(self) -> bool:
        return any(role.uids or role.gids for role in (self.read, self.send, self.admin))

    def serve_others(self, uid: int) -> bool:
        """Whether somebody else than root and this user may connect."""
        roles = (self.read, self.send, self.admin)
        return any(role.gids or not {uid, 0}.issuperset(role.uids) for role in roles)


class Config(_Section):
    """The whole configuration; `daemon.socket` and `daemon.state_dir` are resolved, `backends.default` is not empty."""

    daemon: DaemonConfig = DaemonConfig()
    skills: SkillsConfig = SkillsConfig()
    model: ModelConfig = ModelConfig()
    limits: LimitsConfig = LimitsConfig()
    retention: RetentionConfig = RetentionConfig()
    backends: BackendsConfig = BackendsConfig()
    policy: PolicyConfig = PolicyConfig()
    roles: RolesConfig = RolesConfig()


def load_config(
    path: Path | None, env: Mapping[str, str], overrides: Mapping[str, Any] | None = None, *, uid: int | None = None
) -> Config:
    """Read the file (none with None), apply the environment and the flags, resolve the paths.

    Args:
        path: the TOML file; relative paths in it are relative to its folder.
        env: SKILLD_SOCKET, SKILLD_STATE_DIR, SKILLD_MODE, SKILLD_SANDBOX, ANTHROPIC_BASE_URL and the XDG and systemd
            variables.
        overrides: values of flags by dotted key, such as "daemon.socket"; None means that the flag was not given.
        uid: whose defaults apply; the process's own if None.

    Raises:
        ConfigError: naming the file, the key, the value and what is allowed.

    """
    uid = os.getuid() if uid is None else uid
    flags = {key: value for key, value in (overrides or {}).items() if value is not None}
    origin = str(path) if path is not None else "configuration"
    tree = _read(path) if path is not None else {}
    _refuse_unknown(tree, origin)
    parsed = _validate(tree, origin)
    for key in ("socket", "state_dir"):
        flags.setdefault(f"daemon.{key}", None)
    return _resolve(parsed, tree, path, env, flags, uid, origin)


def config_keys() -> dict[str, Any]:
    """Every key, dotted, with its default; what etc/skilld.toml has to explain."""
    return dict(_leaves(Config, ""))


def mask(text: str) -> str:
    """The text with everything that looks like a credential replaced by `***`."""
    return _SECRET.sub("***", text)


def _leaves(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _leaves(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.default


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: name a readable file with --config") from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {_MAX_FILE_BYTES} bytes; this is no configuration of skilld")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; TOML files are UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {mask(str(error))}") from error


def _refuse_unknown(tree: Mapping[str, Any], origin: str) -> None:
    known = config_keys()
    sections = {key.rpartition(".")[0] for key in known} | set(Config.model_fields)
    for key in _written_keys(tree, ""):
        if key in known or key in sections:
            continue
        if key.endswith("api_key"):
            hint = "a credential is not written here; name a file that holds it in 'model.api_key_file'"
        else:
            hint = _nearest(key, [*known, *sections])
        raise ConfigError(f"{origin}: unknown key {key!r}: {hint}")


def _nearest(key: str, known: Sequence[str]) -> str:
    last = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    near = near or [last[name] for name in difflib.get_close_matches(key.rpartition(".")[2], last, n=1, cutoff=0.7)]
    return f"did you mean {near[0]!r}?" if near else f"the sections are {', '.join(Config.model_fields)}"


def _written_keys(tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value and any(k.startswith(f"{key}.") for k in config_keys()):
            yield from _written_keys(value, f"{key}.")
        else:
            yield key


def _validate(tree: Mapping[str, Any], origin: str) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(item, origin) for item in error.errors())) from None


def _explain(item: ErrorDetails, origin: str) -> str:
    key = ".".join(str(part) for part in item["loc"])
    # Somebody may have written the secret itself where its file belongs.
    value = "(not shown)" if item["loc"][:2] == ("skills", "secrets") else mask(repr(item["input"]))
    shown = value if len(value) <= 80 else f"{value[:77]}..."
    allowed = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if item["type"] == "tuple_type":
        allowed = "must be a list"
    elif item["type"] == "model_type":
        allowed = f"must be a section, written [{key}]"
    return f"{origin}: {key} = {shown}: {allowed}"


def _resolve(
    parsed: Config,
    tree: Mapping[str, Any],
    path: Path | None,
    env: Mapping[str, str],
    flags: Mapping[str, Any],
    uid: int,
    origin: str,
) -> Config:
    """Fold flags and environment in; relative paths of the file become absolute against its folder."""
    base = path.parent if path is not None else Path()
    merged: dict[str, dict[str, Any]] = {
        section: dict(iter(getattr(parsed, section))) for section in Config.model_fields
    }
    for key, value in _environment(env, tree):
        _put(merged, key, value)
    if env.get("SKILLD_SANDBOX") and "sandbox" not in tree.get("backends", {}).get("local", {}):
        merged["backends"]["local"] = {**dict(parsed.backends.local), "sandbox": env["SKILLD_SANDBOX"]}
    for key, value in flags.items():
        if key not in config_keys():
            raise ConfigError(f"unknown key {key!r} given by a flag")
        if value is not None:
            _put(merged, key, value)
    _resolve_paths(merged, parsed, tree, base, env, flags, uid)
    result = _validate(merged, origin)
    _check_skills(result, flags.get("skills.paths"), uid, origin)
    if result.backends.default:
        return result
    backends = result.backends.model_copy(update={"default": _DEFAULT_BACKENDS[result.daemon.mode]})
    return result.model_copy(update={"backends": backends})


def _environment(env: Mapping[str, str], tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if env.get("SKILLD_MODE"):
        yield "daemon.mode", env["SKILLD_MODE"]
    if env.get("ANTHROPIC_BASE_URL") and "base_url" not in tree.get("model", {}):
        yield "model.base_url", env["ANTHROPIC_BASE_URL"]


def _put(merged: dict[str, dict[str, Any]], key: str, value: Any) -> None:
    section, _, name = key.partition(".")
    merged[section][name] = value


def _resolve_paths(
    merged: dict[str, dict[str, Any]],
    parsed: Config,
    tree: Mapping[str, Any],
    base: Path,
    env: Mapping[str, str],
    flags: Mapping[str, Any],
    uid: int,
) -> None:
    written = tree.get("daemon", {})
    socket = base / parsed.daemon.socket.expanduser() if "socket" in written else None
    state = base / parsed.daemon.state_dir.expanduser() if "state_dir" in written else None
    try:
        merged["daemon"]["socket"] = paths.daemon_socket_path(_path(flags["daemon.socket"]), env, uid, socket)
        merged["daemon"]["state_dir"] = paths.state_dir(_path(flags["daemon.state_dir"]), env, uid, state)
    except paths.PathError as error:
        raise ConfigError(str(error)) from error
    _resolve_skills(merged["skills"], flags.get("skills.paths"), base)
    if parsed.model.api_key_file is not None and "model.api_key_file" not in flags:
        merged["model"]["api_key_file"] = _absolute(parsed.model.api_key_file, base)


def _resolve_skills(skills: dict[str, Any], given: Sequence[Path] | None, base: Path) -> None:
    """Folders become absolute; those of a flag are the only ones."""
    for key in ("paths", "trusted", "native", "projects"):
        skills[key] = tuple(_absolute(Path(item), base) for item in skills[key])
    skills["secrets"] = {
        skill: {name: _absolute_secret(secret, base) for name, secret in secrets.items()}
        for skill, secrets in skills["secrets"].items()
    }
    if given:
        skills["paths"] = tuple(_absolute(Path(item), Path()) for item in given)
        skills.update(user=False, system=False, bundled=False)


def _check_skills(config: Config, given: Sequence[Path] | None, uid: int, origin: str) -> None:
    """Raise ConfigError for what would silently have no effect, or show one user's skills to others."""
    for folder in () if given else config.skills.trusted:
        if not any(path.is_relative_to(folder) for path in config.skills.paths):
            raise ConfigError(f"{origin}: skills.trusted: {folder} is none of skills.paths, and none lies in it")
    if config.skills.user and config.roles.serve_others(uid):
        raise ConfigError(f"{origin}: skills.user = true is for a daemon that serves its own user only; see [roles]")


def _absolute_secret(secret: SecretConfig, base: Path) -> SecretConfig:
    return secret if secret.file is None else SecretConfig(file=_absolute(secret.file, base))


def _absolute(path: Path, base: Path) -> Path:
    return Path(os.path.abspath(base / path.expanduser()))


def _path(value: Any) -> Path | None:
    return None if value is None else Path(value)
