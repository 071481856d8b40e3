"""What a command of the local backend may see, and how it is kept to that: by Landlock or by bubblewrap.

Both start from nothing and add: the system's programs and libraries, harmless files of /etc, this workspace, the
skills of the call, and what the operator names. So state, runtime and credential directories need not be listed to be
out of reach; but if one lies inside of what is added, `check` refuses.

    landlock   the runner gives up rights after the fork (`confinement`); same files at the same places, no /tmp
    bwrap      the command is a child of bwrap(1): other mounts, other process numbers, a private /tmp, no network

Pure but for `check` and what looks at the file system, which block.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from . import confinement
from .base import BackendUnavailable

__all__ = ["Fence", "SandboxKind", "make_fence"]

SandboxKind = Literal["none", "landlock", "bwrap"]

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store")
# Of /etc, what programs need to run at all; never the whole, which has keys and passwords. Each costs bwrap 0.2 ms.
_ETC: Final = tuple(
    f"/etc/{name}"
    for name in (
        *("alternatives", "ca-certificates", "crypto-policies", "fonts", "group", "hosts", "ld.so.cache", "localtime"),
        *(
            "gitconfig",
            "mime.types",
            "nsswitch.conf",
            "os-release",
            "passwd",
            "pki/ca-trust",
            "pki/tls/certs",
            "protocols",
        ),
        *("resolv.conf", "services", "ssl/certs", "ssl/openssl.cnf"),
    )
)
_PROC: Final = ("/proc", "/sys/devices/system/cpu")  # of others' processes only what everybody may know
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_FAMILIES: Final = ("inet", "inet6", "netlink")
_TMP_BYTES: Final = 256 << 20
_MAX_MOUNTED_SKILLS: Final = 64  # the kernel takes longer for each further mount
_BWRAP_TRIAL_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """How commands are kept in. Made by `make_fence`.

    Args:
        network: whether they have the host's.
        readable: files and folders that may be read besides the system's.
        program: of bubblewrap.
        scoped: whether abstract sockets of others are kept out of reach where the network is the host's.

    """

    kind: SandboxKind = "none"
    network: Literal["host", "none"] = "host"
    readable: tuple[str, ...] = ()
    program: str = "bwrap"
    scoped: bool = False
    system: tuple[str, ...] = field(default=(), repr=False)

    @property
    def missing(self) -> Mapping[str, str]:
        """What it does not do, by the name of the capability."""
        return {"sandbox": "; ".join(_missing(self))} if self.kind != "none" else {}

    def path(self, path: str) -> str:
        """Of a PATH, the folders whose programs can be run."""
        if self.kind == "none":
            return path
        shown = [*self.system, *self.readable]
        return ":".join(part for part in path.split(":") if _is_below(os.path.realpath(part), shown)) or "/usr/bin:/bin"

    def temporary(self, own: str) -> str:
        """The folder of temporary files, where `own` is the workspace's own one."""
        return "/tmp" if self.kind == "bwrap" else own

    def confine(self, root: str, skills: Iterable[Path]) -> Mapping[str, Any] | None:
        """What `confinement.confine` is called with in the runner; None if it is not."""
        if self.kind != "landlock":
            return None
        return {
            "read": [*self.system, *_PROC, *self.readable, *map(str, skills)],
            "write": [root],
            "devices": _DEVICES,
            "families": _FAMILIES if self.network == "host" else (),
        }

    @property
    def scopes(self) -> bool:
        """Whether `confinement.scope_sockets` is to be called in the runner."""
        return self.scoped and self.network == "host"

    def argv(self, argv: Sequence[str], root: str, skills: Iterable[Path]) -> list[str]:
        """The command that runs this one inside. Raises ValueError where there are more skills than can be shown."""
        if self.kind != "bwrap":
            return list(argv)
        copies = sorted(map(str, skills))
        if len(copies) > _MAX_MOUNTED_SKILLS:  # the folder they are in would show those of all other conversations
            raise ValueError(
                f"the sandbox 'bwrap' shows at most {_MAX_MOUNTED_SKILLS} skills, and this conversation has "
                f"{len(copies)}: use fewer skills, or the sandbox 'landlock'"
            )
        shown = _read_only(copies)
        return [*self._bwrap(), *shown, "--bind", root, root, "--remount-ro", "/", "--chdir", root, "--", *argv]

    def _bwrap(self) -> list[str]:
        size = str(_TMP_BYTES)
        return [
            self.program,
            *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL", "--die-with-parent"),
            *(("--share-net",) if self.network == "host" else ()),
            *_system_mounts(self.system),
            # As root, /proc/sys would be the host's to write.
            *("--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"),
            *("--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev", "--size", size, "--tmpfs", "/tmp"),
            *_read_only(self.readable),
        ]


def make_fence(
    kind: SandboxKind, network: Literal["host", "none"] | None, readable: Sequence[str], private: Sequence[Path]
) -> Fence:
    """The fence, if this host can build it. Blocks.

    Args:
        network: None for what the kind has by default: none under bubblewrap, else the host's.
        readable: absolute paths, of files and folders.
        private: folders that must stay out of reach.

    Raises:
        BackendUnavailable: naming the remedy; nothing weaker is used instead.

    """
    if kind == "none":
        if network == "none" or readable:
            raise BackendUnavailable(
                "the local backend's options network and readable need a sandbox: set its sandbox option, or drop them"
            )
        return Fence()
    fence = Fence(
        kind=kind,
        network=network or ("none" if kind == "bwrap" else "host"),
        readable=tuple(os.path.realpath(_absolute(path)) for path in readable),
        program=_program() if kind == "bwrap" else "",
        scoped=kind == "bwrap" and confinement.landlock_abi() >= confinement.SCOPE_ABI,
        system=tuple(path for path in (*_SYSTEM, *_ETC) if os.path.exists(path)),
    )
    _check_private(fence, private)
    if kind == "landlock":
        _check_landlock()
    else:
        _check_bwrap(fence)
    return fence


def _missing(fence: Fence) -> Iterator[str]:
    if fence.kind == "landlock":
        yield "paths that are known can be asked for their kind and size"
        yield "modes of the daemon's files can be changed, unless it is root"
        yield "before Linux 6.12 its processes can be signalled"
        return
    yield "commands have the daemon's user id"
    if fence.network == "host" and not fence.scoped:
        yield "local sockets without a path are reached with the host's network, before Linux 6.12 or without Landlock"


def _absolute(path: str) -> str:
    if not os.path.isabs(path) or not os.path.exists(path):
        raise BackendUnavailable(f"the local backend's option readable: {path!r} is not an absolute path of something")
    return path


def _check_private(fence: Fence, private: Sequence[Path]) -> None:
    for folder in map(os.path.realpath, private):
        for shown in map(os.path.realpath, (*fence.system, *fence.readable)):
            if _is_below(folder, [shown]) or _is_below(shown, [folder]):
                raise BackendUnavailable(
                    f"the sandbox of the local backend would show {shown} to commands, and {folder} must stay out of "
                    "their reach: move one of them"
                )


def _check_landlock() -> None:
    abi = confinement.landlock_abi()
    if abi < confinement.MIN_ABI or not confinement.supported_machine():
        raise BackendUnavailable(
            f"the local backend's sandbox 'landlock' needs Linux 5.19 with landlock among its security modules, on "
            f"x86_64 or aarch64 (here is ABI {abi} on {os.uname().machine}): start with lsm=landlock,..., or choose "
            "the sandbox 'bwrap' or the docker backend"
        )


def _program() -> str:
    program = shutil.which("bwrap")
    if program is None:
        raise BackendUnavailable("the local backend's sandbox 'bwrap' needs bubblewrap 0.8 or newer: install it")
    return program


def _check_bwrap(fence: Fence) -> None:
    """One trial run tells whether it is new enough, and may make namespaces here."""
    try:
        done = subprocess.run(
            [*fence._bwrap(), "--", "/bin/sh", "-c", "exit 7"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_BWRAP_TRIAL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendUnavailable(f"the local backend's sandbox 'bwrap' cannot be used: {error}") from error
    if done.returncode != 7:
        said = done.stderr.decode(errors="replace").strip()[:300]
        raise BackendUnavailable(
            f"the local backend's sandbox 'bwrap' cannot be used: {said or f'exit {done.returncode}'}; it needs "
            "bubblewrap 0.8 or newer and the right to make user namespaces (RestrictNamespaces= of a systemd unit "
            "takes it away)"
        )


def _system_mounts(paths: Iterable[str]) -> list[str]:
    made: list[str] = []
    for path in paths:
        # /bin is a link to usr/bin on most hosts; a link below /etc may lead to where nothing is shown.
        if os.path.islink(path) and path.count("/") == 1:
            made += ["--symlink", os.readlink(path), path]
        else:
            made += ["--ro-bind", path, path]
    return made


def _read_only(paths: Iterable[str]) -> list[str]:
    return [part for path in paths for part in ("--ro-bind", path, path)]


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
