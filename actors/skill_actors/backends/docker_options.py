"""What an operator may say about containers, and what the engine is told. Pure functions.

Everything is applied or refused: there is no option that is taken and then has no effect.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from .base import BackendUnavailable, OptionRefused
from .container_boot import COMMAND
from .container_forward import FOLDER, PROXY
from .container_runner import FIRST_USER, GROUP_ID, SKILLS, SKILLS_USER, USERS, WORKSPACE
from .docker_image import FULL_IMAGE
from .docker_mounts import given_away
from .egress_rules import rule_of

__all__ = ["DockerOptions", "SessionLimits", "check_sense", "checked", "create_arguments", "mount_of"]

_RESERVED: Final = ("/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/usr", SKILLS, WORKSPACE)
_MIN_MEMORY: Final = 64 << 20
_OWN_PROCESSES: Final = 32  # of the runner and its keepers, kept free of what calls may start


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """What single sessions may choose, beyond less of the same; `docker_limits` applies it.

    Args:
        images: which ones besides the operator's own, by exactly these names or digests.
        pull: "missing" and "always", where the operator's own is less.
        networks: besides "none" and the operator's own: "allow", "full", or names of networks.
        hosts: what the `allow` of a session may name besides the operator's own; entries as there.
        memory_bytes: at most; 0 for the operator's own, here and below.
        cpus: likewise.
        processes: likewise.
        workspace_bytes: likewise.
        tmp_bytes: likewise.
        mounts: folders of the host by a name that sessions use: "/on/the/host:/inside".
        users: what `user` may be besides the operator's own.

    """

    images: Sequence[str] = ()
    pull: Sequence[str] = ()
    networks: Sequence[str] = ()
    hosts: Sequence[str] = ()
    memory_bytes: int = 0
    cpus: float = 0.0
    processes: int = 0
    workspace_bytes: int = 0
    tmp_bytes: int = 0
    mounts: Mapping[str, str] = field(default_factory=dict)
    users: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerOptions:
    """How containers are made.

    Args:
        address: of the engine, unix:///path or tcp://host:port; "" for DOCKER_HOST, else Docker's own socket.
        image: any with python3 (3.11 or later) and bash.
        pull: "never" takes only what the engine has, "missing" pulls what it has not, "always" asks before each start.
        network: "none"; "allow" (what `allow` lists, through a proxy of ours: `egress`); "full" (the engine's bridge);
            or the name of a network that the operator made, with what is allowed there.
        allow: hosts, as `egress_rules` reads them.
        network_bytes: that one container may send and receive by way of `allow`, together; 0 for no limit.
        runtime: of the engine, such as "runsc"; "" for its default.
        memory_bytes: of one container, its files included; there is no swap. More than `workspace_bytes`, `tmp_bytes`
            and `skills_bytes` together: files alone must never use up what its runner needs.
        cpus: processors' worth of time.
        processes: in one container; a single call may have 32 less.
        workspace_bytes: of a conversation's files, which are in memory.
        workspace_files: how many files and folders these may be.
        tmp_bytes: of /tmp.
        skills_bytes: of the skills' copies.
        mounts: folders of the host that every container sees, read-only: path on the host to path inside.
        user: the first of the 40,000 uids that calls take one after another; 0 for a range that no person and, as far
            as chance goes, no other container has.
        environment: added to the clean environment of every command.
        path: PATH of commands.
        pool: how many containers wait, ready, for the next conversations.
        max_containers: of conversations at the same time; then the one that has been idle longest makes room.
        session: what single sessions may choose for themselves.

    """

    address: str = ""
    image: str = FULL_IMAGE
    pull: Literal["never", "missing", "always"] = "never"
    network: str = "none"
    allow: Sequence[str] = ()
    network_bytes: int = 0
    runtime: str = ""
    memory_bytes: int = 1 << 30
    cpus: float = 1.0
    processes: int = 512
    workspace_bytes: int = 256 << 20
    workspace_files: int = 20_000
    tmp_bytes: int = 64 << 20
    skills_bytes: int = 64 << 20
    mounts: Mapping[str, str] = field(default_factory=dict)
    user: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    pool: int = 2
    max_containers: int = 64
    session: SessionLimits = SessionLimits()

    @property
    def processes_of_a_call(self) -> int:
        return self.processes - _OWN_PROCESSES


def checked(options: Mapping[str, Any]) -> DockerOptions:
    """The options, if they make sense. Raises BackendUnavailable, naming the option, the value and what is allowed."""
    given = dict(options)
    try:
        session = given.pop("session", SessionLimits())
        if not isinstance(session, SessionLimits):
            session = _made(SessionLimits, session, "session.")
        made: DockerOptions = dataclasses.replace(_made(DockerOptions, given, ""), session=session)
        _check_limits(check_sense(made))
    except OptionRefused as error:
        raise BackendUnavailable(str(error)) from error
    return made


def _made(kind: type[Any], options: Any, prefix: str) -> Any:
    if not isinstance(options, Mapping):
        raise _refused(prefix.rstrip("."), options, "a table")
    entries = {option.name: option for option in dataclasses.fields(kind)}
    for name, value in options.items():
        if name not in entries:
            words = f"the docker backend has no option {prefix + str(name)!r}; it has {', '.join(sorted(entries))}"
            raise BackendUnavailable(words) from OptionRefused("docker", f"{prefix}{name}", value, "there is none such")
        _check_type(f"{prefix}{name}", value, entries[name].default)
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})


def check_sense(made: DockerOptions) -> DockerOptions:
    """The same, if its values go together. Raises OptionRefused."""
    for name, least, most in (
        ("memory_bytes", _MIN_MEMORY, 1 << 50),
        ("cpus", 0.05, 1024),
        ("processes", _OWN_PROCESSES + 16, 100_000),
        ("workspace_bytes", 1 << 20, made.memory_bytes),
        ("workspace_files", 100, 200_000),
        ("tmp_bytes", 1 << 20, made.memory_bytes),
        ("skills_bytes", 1 << 20, made.memory_bytes),
        ("network_bytes", 0, 1 << 50),
        ("pool", 0, made.max_containers),
        ("max_containers", 1, 10_000),
    ):
        if not least <= getattr(made, name) <= most:
            raise _refused(name, getattr(made, name), f"a number from {least:g} to {most:g}")
    in_files = made.workspace_bytes + made.tmp_bytes + made.skills_bytes
    if made.memory_bytes <= in_files:
        raise _refused(
            "memory_bytes",
            made.memory_bytes,
            f"more than workspace_bytes, tmp_bytes and skills_bytes, which are in memory and together {in_files}",
        )
    if made.pull not in ("never", "missing", "always"):
        raise _refused("pull", made.pull, "never, missing or always")
    if not made.image:
        raise _refused("image", made.image, "the name of an image")
    _check_network("network", made.network)
    _check_hosts("allow", made.allow)
    if made.network == "allow" and not made.allow:
        raise _refused("allow", list(made.allow), "a list of at least one host, where the network is allow")
    _check_user("user", made.user)
    _check_mounts("mounts", list(made.mounts.items()))
    return made


def _check_limits(made: DockerOptions) -> None:
    """What the operator permits sessions. Raises OptionRefused."""
    limits = made.session
    for name in ("memory_bytes", "cpus", "processes", "workspace_bytes", "tmp_bytes"):
        most, own = getattr(limits, name), getattr(made, name)
        if most and not most >= own:
            raise _refused(f"session.{name}", most, f"0, or at least {own}, which is what others get")
    for network in limits.networks:
        _check_network("session.networks", network)
    for pull in limits.pull:
        if pull not in ("missing", "always"):
            raise _refused("session.pull", pull, "missing or always")
    if not all(limits.images):
        raise _refused("session.images", list(limits.images), "names of images")
    _check_hosts("session.hosts", limits.hosts)
    if "allow" not in (made.network, *limits.networks):
        unused = {"allow": made.allow, "network_bytes": made.network_bytes, "session.hosts": limits.hosts}
        for name, value in unused.items():
            if value:
                raise _refused(name, value, "left out where neither network nor session.networks has allow")
    for user in limits.users:
        _check_user("session.users", user)
    for name, mount in limits.mounts.items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", name) or mount.count(":") != 1:
            raise _refused("session.mounts", f"{name} = {mount}", "NAME = /on/the/host:/inside")
    _check_mounts("session.mounts", [*made.mounts.items(), *map(mount_of, limits.mounts.values())])


def _check_network(name: str, value: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", value) or value in ("host", "default"):
        raise _refused(name, value, "none, allow, full, or the name of a network of the engine")


def _check_hosts(name: str, hosts: Sequence[str]) -> None:
    for host in hosts:
        try:
            rule_of(host)
        except ValueError as error:
            raise OptionRefused("docker", name, host, f"{error}") from error


def _check_user(name: str, value: int) -> None:
    if value and not FIRST_USER <= value <= (1 << 31) - USERS:
        raise _refused(name, value, f"0, or a uid from {FIRST_USER} on; {USERS} are taken")


def mount_of(text: str) -> tuple[str, str]:
    """A named mount: the path on the host, and that inside."""
    outside, _, inside = text.partition(":")
    return outside, inside


def _check_type(name: str, value: object, default: object) -> None:
    if default is dataclasses.MISSING:  # of tables: they are made anew for each
        fits = isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)
        wanted = "a table of texts"
    elif isinstance(default, tuple):
        kind: type = int if name.endswith("users") else str
        listed = isinstance(value, list | tuple)
        fits = isinstance(value, list | tuple) and all(type(item) is kind for item in value)
        wanted = f"a list of {'whole numbers' if kind is int else 'texts'}" if not listed or not fits else ""
    elif isinstance(default, str):
        fits, wanted = isinstance(value, str), "a text"
    elif isinstance(default, float):
        fits, wanted = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
    else:
        fits, wanted = type(value) is int, "a whole number"
    if not fits:
        raise _refused(name, value, wanted)


def _check_mounts(name: str, mounts: Sequence[tuple[str, str]]) -> None:
    taken: set[str] = set()
    shared: set[str] = set()
    for outside, inside in mounts:
        shown = f"{outside} = {inside}"
        for path in (outside, inside):
            # To normpath // is a root of its own; to the kernel it is the same.
            if not path.startswith("/") or path.startswith("//") or posixpath.normpath(path) != path or ":" in path:
                raise _refused(name, shown, "absolute paths, without .. and :")
        if inside == "/" or any(inside == place or inside.startswith(f"{place}/") for place in _RESERVED):
            raise _refused(name, shown, f"places outside of {', '.join(_RESERVED)}, and not /")
        if (reason := given_away(outside)) is not None:
            raise _refused(name, shown, f"no folder that gives the host away; {reason}")
        if inside in taken:
            raise _refused(name, shown, "one folder for each place inside")
        if outside in shared:
            raise _refused(name, shown, "one place inside for each folder")
        taken.add(inside)
        shared.add(outside)


def _refused(name: str, value: object, allowed: str) -> OptionRefused:
    return OptionRefused("docker", name, value, f"has to be {allowed}")


def create_arguments(
    options: DockerOptions,
    labels: Mapping[str, str],
    binds: Sequence[tuple[str, str]] | None = None,
    proxy: str | None = None,
) -> dict[str, Any]:
    """The body of POST /containers/create.

    Args:
        options: of the container.
        labels: on it.
        binds: the mounts, path on the host and path inside, with their links resolved; those of the options if None.
        proxy: the folder on the host with the socket of its proxy.

    """
    size = options.workspace_bytes
    mounts = list(options.mounts.items() if binds is None else binds)
    environment = ["LANG=C.UTF-8", f"SKILLD_FIRST_USER={options.user}"]
    if proxy is not None:
        mounts.append((proxy, FOLDER))
        environment.append(f"{PROXY}=1")
    tmpfs = {
        WORKSPACE: f"rw,exec,nosuid,nodev,size={size},nr_inodes={options.workspace_files},"
        f"mode=2770,uid=0,gid={GROUP_ID}",
        SKILLS: f"rw,exec,nosuid,nodev,size={options.skills_bytes},mode=0755,uid={SKILLS_USER},gid={GROUP_ID}",
        "/tmp": f"rw,exec,nosuid,nodev,size={options.tmp_bytes},mode=1777",
    }
    host = {
        "AutoRemove": True,  # with StdinOnce: when the daemon is gone, in whatever way, so is the container
        "Init": True,
        "NetworkMode": {"full": "bridge", "allow": "none"}.get(options.network, options.network),
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "CapAdd": ["SETUID", "SETGID", "KILL"],
        "SecurityOpt": ["no-new-privileges:true"],  # the engine's own seccomp filter stays
        "Tmpfs": tmpfs,
        "Mounts": [_bind(outside, inside) for outside, inside in mounts],
        "Memory": options.memory_bytes,
        "MemorySwap": options.memory_bytes,
        "NanoCpus": round(options.cpus * 1e9),
        "PidsLimit": options.processes,
        "OomScoreAdj": 500,
        "IpcMode": "private",
        "ShmSize": 16 << 20,
        "LogConfig": {"Type": "none"},
        "Ulimits": [
            {"Name": "nofile", "Soft": 4096, "Hard": 4096},
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "fsize", "Soft": size, "Hard": size},
        ],
    }
    if options.runtime:
        host["Runtime"] = options.runtime
    return {
        "Image": options.image,
        "Entrypoint": list(COMMAND),
        "Cmd": [],
        "User": f"0:{GROUP_ID}",
        "WorkingDir": "/",
        "Env": environment,
        "Healthcheck": {"Test": ["NONE"]},  # an image's own would run in here as the runner does
        "Labels": dict(labels),
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": host["NetworkMode"] == "none",
        "HostConfig": host,
    }


def _bind(outside: str, inside: str) -> dict[str, Any]:
    """Read-only; without what is mounted below it, which would be writable. A missing folder is an error, not made."""
    mount = {"Type": "bind", "Source": outside, "Target": inside}
    return {**mount, "ReadOnly": True, "BindOptions": {"NonRecursive": True}}
