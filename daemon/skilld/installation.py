"""What `skillctl install` puts into a host, and how that is told from what its operator has made of it.

A record beside the configuration has the hash of every file as it was installed. By it a file that is there already is
one of: the same; ours, of an earlier version, and brought up to date; or edited, and then left alone unless that is
asked for. Nothing here runs a program, and nothing but `apply` writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

__all__ = [
    "DOCKER_PROFILES",
    "PROFILES",
    "Change",
    "InstallError",
    "Layout",
    "Record",
    "Verdict",
    "apply",
    "packaged",
    "plan_install",
    "plan_removal",
    "read_record",
    "system",
    "unit_files",
    "user",
    "write_record",
]

PROFILES: Final = ("none", "tools", "bwrap", "docker", "broker")

DOCKER_PROFILES: Final = ("docker", "broker")  # their units name the group of the engine's socket

Verdict = Literal["create", "update", "same", "keep", "replace", "remove", "gone"]

_PROFILE_FILE: Final = "skilld.service.d/50-profile.conf"
_PROGRAMS: Final = ("skilld", "skillctl", "skilld-broker")
_MODE: Final = b'# mode = "development"\n'
_UNITS: Final = ("skilld.service", "skilld.socket")
_BROKER: Final = ("skilld-broker.service", "skilld-broker.socket")
_MAX_BYTES: Final = 1 << 20
_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # what the system's unit cannot see


class InstallError(Exception):
    """Nothing can be installed so; the message names what is in the way, and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where things go.

    Args:
        units: the folder of units.
        config: the folder of the configuration and of the record.
        sysusers: the folder of what systemd-sysusers reads; None where no account is made.
        share: the folder of manual pages and completions; None where each user has them where they like.
        shipped: the folder of our units, in the data that came with the program.
        keeps_record: false for a package, whose files are the package manager's to keep.

    """

    units: Path
    config: Path
    sysusers: Path | None
    share: Path | None = None
    shipped: str = "."
    keeps_record: bool = True

    @property
    def record(self) -> Path:
        return self.config / ".installed.json"


def system() -> Layout:
    """For this host, by its administrator."""
    return Layout(
        units=Path("/etc/systemd/system"),
        config=Path("/etc/skilld"),
        sysusers=Path("/etc/sysusers.d"),
        share=Path("/usr/local/share"),
    )


def user(config_home: Path) -> Layout:
    """For one user; `config_home` is XDG_CONFIG_HOME."""
    return Layout(units=config_home / "systemd/user", config=config_home / "skilld", sysusers=None, shipped="user")


def packaged(root: Path) -> Layout:
    """For whoever builds a package below `root`: the vendor's folders, and no record."""
    return Layout(
        units=root / "usr/lib/systemd/system",
        config=root / "etc/skilld",
        sysusers=root / "usr/lib/sysusers.d",
        share=root / "usr/share",
        keeps_record=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What an earlier installation did: the SHA-256 of each file, by path."""

    files: Mapping[str, str] = field(default_factory=dict)
    profile: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to become of one file. `content` is None where none is written."""

    path: Path
    verdict: Verdict
    content: bytes | None = None

    @property
    def writes(self) -> bool:
        return self.verdict in ("create", "update", "replace")


def unit_files(layout: Layout, systemd: Path, etc: Path, bin_dir: Path, profile: str) -> dict[Path, bytes]:
    """The files of an installation, by their place.

    Args:
        systemd, etc: the folders that came with the program.
        bin_dir: where skilld and skillctl are; the units then name them by their path.
        profile: one of PROFILES.

    Raises:
        InstallError: a program is missing, the unit could not see it, or there is no such profile here.
        OSError: what should have come with the program is not there.

    """
    _check_programs(bin_dir, hidden=() if layout.sysusers is None else _HIDDEN)
    if profile != "none" and layout.sysusers is None:
        raise InstallError("profiles are for the system's service: what a user's may do is little already")
    shipped = systemd / layout.shipped
    units = (*_UNITS, *(_BROKER if profile == "broker" else ()))
    files = {layout.units / name: _with_paths((shipped / name).read_bytes(), bin_dir) for name in units}
    if profile != "none":
        files[layout.units / _PROFILE_FILE] = (systemd / "profiles" / f"{profile}.conf").read_bytes()
    if layout.sysusers is not None:
        files[layout.sysusers / "skilld.conf"] = (systemd / "skilld.sysusers.conf").read_bytes()
        if profile == "broker":
            files[layout.sysusers / "skilld-broker.conf"] = (systemd / "skilld-broker.sysusers.conf").read_bytes()
    config = (etc / "skilld.toml").read_bytes()
    files[layout.config / "skilld.toml"] = config if layout.sysusers is None else _in_production(config)
    return files


def _in_production(config: bytes) -> bytes:
    """The shipped configuration as the system's service has it, where others than its author use it."""
    if config.count(_MODE) != 1:
        raise InstallError(
            f"the configuration that came with the program does not have {_MODE.decode().strip()!r} once"
        )
    return config.replace(_MODE, b'mode = "production"\n')


def _check_programs(bin_dir: Path, hidden: Sequence[str]) -> None:
    if not bin_dir.is_absolute() or any(character in str(bin_dir) for character in " \t\n%$\\\"';"):
        raise InstallError(f"{bin_dir}: units name programs by an absolute path without spaces, quotes, % and $")
    if any(bin_dir.is_relative_to(place) for place in hidden):
        raise InstallError(f"{bin_dir}: the service sees no home and no shared /tmp; install skilld below /opt, say")


def _with_paths(unit: bytes, bin_dir: Path) -> bytes:
    for program in _PROGRAMS:
        unit = unit.replace(f"/usr/bin/env {program} ".encode(), f"{bin_dir / program} ".encode())
    return unit


def read_record(path: Path) -> Record:
    """What is written there; an empty record where nothing is, or nothing that could be one of ours."""
    content = _read(path)
    try:
        told = json.loads(content or b"{}")
        files = {str(name): str(digest) for name, digest in told.get("files", {}).items()}
        profile = told.get("profile", "none")
    except (ValueError, AttributeError, RecursionError):
        return Record()
    return Record(files=files, profile=profile if profile in PROFILES else "none")


def plan_install(wanted: Mapping[Path, bytes], record: Record, *, force: bool = False) -> list[Change]:
    """What has to be done for these files to be there; what an earlier installation had besides goes."""
    return [
        *(Change(path=path, verdict=_verdict(path, new, record, force), content=new) for path, new in wanted.items()),
        *(change for change in plan_removal(record, force=force) if change.path not in wanted),
    ]


def _verdict(path: Path, new: bytes, record: Record, force: bool) -> Verdict:
    if not os.path.lexists(path):
        return "create"
    now = _read(path)
    if now == new:
        return "same"
    if now is not None and _digest(now) == record.files.get(str(path)):
        return "update"
    return "replace" if force else "keep"


def plan_removal(record: Record, *, force: bool = False) -> list[Change]:
    """What has to be done for nothing of an installation to be there; what was edited stays."""

    def verdict(path: Path, digest: str) -> Verdict:
        if not os.path.lexists(path):
            return "gone"
        now = _read(path)
        return "remove" if force or (now is not None and _digest(now) == digest) else "keep"

    return [Change(path=Path(name), verdict=verdict(Path(name), digest)) for name, digest in record.files.items()]


def apply(changes: Sequence[Change], report: Callable[[str], object]) -> None:
    """Do it. Each file appears whole or not at all; one that was edited is moved to FILE.old before it is replaced.

    Raises:
        OSError: naming the file.

    """
    for change in changes:
        if change.verdict == "replace":
            old = change.path.with_name(f"{change.path.name}.old")
            os.replace(change.path, old)
            report(f"what was there is {old} now")
        if change.writes and change.content is not None:
            _write(change.path, change.content)
        elif change.verdict == "remove":
            change.path.unlink()
            _drop_if_empty(change.path.parent)


def write_record(path: Path, changes: Sequence[Change], profile: str, before: Record) -> None:
    """Remember what is there now; of a file that was left alone, what was known before. Raises OSError."""
    files = dict(_recorded(changes, before))
    if not files:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        _drop_if_empty(path.parent)
        return
    _write(path, json.dumps({"profile": profile, "files": files}, indent=1).encode() + b"\n")


def _recorded(changes: Sequence[Change], before: Record) -> Iterator[tuple[str, str]]:
    for change in changes:
        name = str(change.path)
        if change.content is not None and (change.writes or change.verdict == "same"):
            yield name, _digest(change.content)
        elif change.verdict == "keep" and name in before.files:
            yield name, before.files[name]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> bytes | None:
    """What the file holds; None if it is a link (as that of a masked unit), no file, missing, or not to be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read(_MAX_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "wb") as out:
            os.fchmod(fd, 0o644)  # whatever the umask of whoever installs is: services read them
            out.write(content)
            out.flush()
            os.fsync(fd)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _drop_if_empty(folder: Path) -> None:
    """Only what we may have made: drop-in folders and that of the configuration."""
    if folder.name in ("skilld", "skilld.service.d"):
        with contextlib.suppress(OSError):
            folder.rmdir()
