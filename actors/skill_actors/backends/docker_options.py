"""What an operator may say about containers, and what the engine is told. Pure functions.

Everything is applied or refused: there is no option that is taken and then has no effect.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from .base import BackendUnavailable
from .container_boot import COMMAND
from .container_runner import GROUP_ID, SKILLS, SKILLS_USER, WORKSPACE
from .docker_image import FULL_IMAGE

__all__ = ["DockerOptions", "checked", "create_arguments"]

_RESERVED: Final = ("/", "/dev", "/etc", "/proc", "/sys", "/tmp", "/usr", SKILLS, WORKSPACE)
_MIN_MEMORY: Final = 64 << 20
_OWN_PROCESSES: Final = 32  # of the runner and its keepers, kept free of what calls may start


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerOptions:
    """How containers are made.

    Args:
        address: of the engine, unix:///path or tcp://host:port; "" for DOCKER_HOST, else Docker's own socket.
        image: any with python3 (3.11 or later) and bash.
        pull: "never" takes only what the engine has, "missing" pulls what it has not, "always" asks before each start.
        network: "none"; "full" (the engine's bridge); or the name of a network that the operator made, with what is
            allowed there.
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
        environment: added to the clean environment of every command.
        path: PATH of commands.
        pool: how many containers wait, ready, for the next conversations.
        max_containers: of conversations at the same time; then the one that has been idle longest makes room.

    """

    address: str = ""
    image: str = FULL_IMAGE
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
    mounts: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    pool: int = 2
    max_containers: int = 64

    @property
    def processes_of_a_call(self) -> int:
        return self.processes - _OWN_PROCESSES


def checked(options: Mapping[str, Any]) -> DockerOptions:
    """The options, if they make sense. Raises BackendUnavailable, naming the option, the value and what is allowed."""
    names = {option.name: option.default for option in dataclasses.fields(DockerOptions)}
    for name, value in options.items():
        if name not in names:
            raise BackendUnavailable(f"the docker backend has no option {name!r}; it has {', '.join(sorted(names))}")
        _check_type(name, value, names[name])
    made = DockerOptions(**options)
    for name, least, most in (
        ("memory_bytes", _MIN_MEMORY, 1 << 50),
        ("cpus", 0.05, 1024),
        ("processes", _OWN_PROCESSES + 16, 100_000),
        ("workspace_bytes", 1 << 20, made.memory_bytes),
        ("workspace_files", 100, 200_000),
        ("tmp_bytes", 1 << 20, made.memory_bytes),
        ("skills_bytes", 1 << 20, made.memory_bytes),
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
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", made.network) or made.network in ("host", "default"):
        raise _refused("network", made.network, "none, full, or the name of a network of the engine")
    _check_mounts(made.mounts)
    return made


def _check_type(name: str, value: object, default: object) -> None:
    if name in ("mounts", "environment"):
        fits = isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)
        wanted = "a table of texts"
    elif isinstance(default, str):
        fits, wanted = isinstance(value, str), "a text"
    elif isinstance(default, float):
        fits, wanted = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
    else:
        fits, wanted = type(value) is int, "a whole number"
    if not fits:
        raise _refused(name, value, wanted)


def _check_mounts(mounts: Mapping[str, str]) -> None:
    for outside, inside in mounts.items():
        for path in (outside, inside):
            if not path.startswith("/") or posixpath.normpath(path) != path or ":" in path:
                raise _refused("mounts", f"{outside} = {inside}", "absolute paths, without .. and :")
        if outside.endswith("docker.sock") or any(
            inside == taken or inside.startswith(f"{taken}/") for taken in _RESERVED if taken != "/"
        ):
            raise _refused("mounts", f"{outside} = {inside}", f"places outside of {', '.join(_RESERVED[1:])}")


def _refused(name: str, value: object, allowed: str) -> BackendUnavailable:
    return BackendUnavailable(f"the docker backend's option {name} is {value!r}, but has to be {allowed}")


def create_arguments(options: DockerOptions, labels: Mapping[str, str]) -> dict[str, Any]:
    """The body of POST /containers/create."""
    size = options.workspace_bytes
    tmpfs = {
        WORKSPACE: f"rw,exec,nosuid,nodev,size={size},nr_inodes={options.workspace_files},"
        f"mode=2770,uid=0,gid={GROUP_ID}",
        SKILLS: f"rw,exec,nosuid,nodev,size={options.skills_bytes},mode=0755,uid={SKILLS_USER},gid={GROUP_ID}",
        "/tmp": f"rw,exec,nosuid,nodev,size={options.tmp_bytes},mode=1777",
    }
    host = {
        "AutoRemove": True,  # with StdinOnce: when the daemon is gone, in whatever way, so is the container
        "Init": True,
        "NetworkMode": "bridge" if options.network == "full" else options.network,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "CapAdd": ["SETUID", "SETGID", "KILL"],
        "SecurityOpt": ["no-new-privileges:true"],  # the engine's own seccomp filter stays
        "Tmpfs": tmpfs,
        "Binds": [f"{outside}:{inside}:ro" for outside, inside in options.mounts.items()],
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
        "Env": ["LANG=C.UTF-8"],
        "Labels": dict(labels),
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": options.network == "none",
        "HostConfig": host,
    }
