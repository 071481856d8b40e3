"""What doctor looks at on the host: limits, watches, clock, who may read what, sandbox, engine, units."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import stat
import sysconfig
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skilld.cli.check import Check

if TYPE_CHECKING:
    from skilld.config import Config

__all__ = [
    "check_clock",
    "check_engine",
    "check_files",
    "check_host",
    "check_private_file",
    "check_sandbox",
    "check_units",
    "check_watches",
]

_MIN_FILES: Final = 4096
_INOTIFY: Final = Path("/proc/sys/fs/inotify")
_WATCHES_SPARE: Final = 2  # of the folders there are now: skills come, and others watch too


def check_host(config: Config, file: Path | None, environ: Mapping[str, str]) -> Iterator[Check]:
    """Everything that the configuration makes worth looking at."""
    yield check_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield check_clock(time.time(), Path(__file__).stat().st_mtime)
    if config.skills.watch:
        yield check_watches(_folders(config, environ), _INOTIFY)
    secrets = [secret.file for of_skill in config.skills.secrets.values() for secret in of_skill.values()]
    for private in (config.model.api_key_file, *secrets):
        if private is not None:
            yield check_private_file(private)
    if file is not None:
        yield from _check_writable(file)
    yield from check_sandbox(config)
    yield from check_engine(config, environ)
    yield from check_units(environ)


def check_files(most: int) -> Check:
    """How many files a process may have open: a connection is one, and so is each pipe of a tool."""
    if most == resource.RLIM_INFINITY or most >= _MIN_FILES:
        return Check(name="open files", level="ok", message="no limit" if most < 0 else f"at most {most}")
    remedy = "raise LimitNOFILE= of the unit, or 'ulimit -Hn'"
    return Check(name="open files", level="warn", message=f"at most {most}", remedy=remedy)


def check_clock(now_s: float, installed_s: float) -> Check:
    """A clock that goes back makes ages of conversations meaningless, and certificates invalid."""
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    if now_s >= installed_s - 86_400:
        return Check(name="clock", level="ok", message=text)
    message = f"{text}, which is before this program was installed"
    return Check(name="clock", level="fail", message=message, remedy="set it: 'timedatectl set-ntp true'")


def check_watches(folders: int, inotify: Path) -> Check:
    """Edits of skills are followed with a watch on each of their folders."""
    try:
        most = int((inotify / "max_user_watches").read_text())
    except (OSError, ValueError):
        return Check(name="watches", level="ok", message=f"{folders} folders; the kernel tells no limit")
    message = f"{folders} folders of skills, {most} watches allowed"
    if folders * _WATCHES_SPARE <= most:
        return Check(name="watches", level="ok", message=message)
    remedy = "sysctl fs.inotify.max_user_watches=524288; else edits are found only by skills.reload_s"
    return Check(name="watches", level="warn", message=message, remedy=remedy)


def check_private_file(path: Path) -> Check:
    """A file with a credential is for its owner alone."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        remedy = "correct the configuration, or make the file"
        return Check(name="credential", level="fail", message=f"{path}: {error.strerror}", remedy=remedy)
    if not mode & 0o077:
        return Check(name="credential", level="ok", message=f"{path}, for its owner alone")
    message = f"{path} can be read by others (mode {mode:04o})"
    return Check(
        name="credential", level="warn", message=message, remedy=f"chmod 600 {path}", fix=partial(os.chmod, path, 0o600)
    )


def check_sandbox(config: Config) -> Iterator[Check]:
    """Whether what local commands are to be kept in can be had here."""
    wanted = config.backends.local.sandbox
    if "local" not in config.backends.names or wanted == "none":
        return
    if wanted == "bwrap":
        found = shutil.which("bwrap")
        if found is not None:
            yield Check(name="sandbox", level="ok", message=found)
        else:
            yield Check(name="sandbox", level="fail", message="bwrap not found", remedy="apt-get install bubblewrap")
        return
    from skill_actors.backends.confinement import landlock_abi

    abi = landlock_abi()
    if abi > 0:
        yield Check(name="sandbox", level="ok", message=f"landlock, version {abi}")
    else:
        remedy = "boot a kernel with landlock (lsm=landlock,...), or set backends.local.sandbox = 'bwrap'"
        yield Check(name="sandbox", level="fail", message="this kernel has no landlock", remedy=remedy)


def check_engine(config: Config, environ: Mapping[str, str]) -> Iterator[Check]:
    """Whether the container engine answers and has the image, where containers are configured."""
    if "docker" not in config.backends.names:
        return
    from skill_actors.backends import BackendUnavailable
    from skill_actors.backends.docker_image import connect, engine_address
    from skilld.cli.docker_checks import check_image

    options = config.backends.docker
    address = options.address or engine_address(environ)
    try:
        client = connect(address, environ)
    except BackendUnavailable as error:
        yield Check(name="engine", level="fail", message=str(error), remedy="start it; 'skillctl docker check'")
        return
    with contextlib.closing(client):
        yield Check(name="engine", level="ok", message=f"answers at {address}")
        yield check_image(client, options.image, pulled=options.pull != "never")


def check_units(environ: Mapping[str, str]) -> Iterator[Check]:
    """Whether the units that were installed are those of this version."""
    from skilld import installation
    from skilld.paths import data_dir, home

    layouts = [installation.system()]
    if os.getuid():
        layouts.append(installation.user(home(environ) / ".config"))
    for layout in layouts:
        systemd, etc = data_dir("systemd"), data_dir("etc")
        if systemd is None or etc is None or not layout.record.is_file():
            continue
        record = installation.read_record(layout.record)
        bin_dir = Path(sysconfig.get_path("scripts"))
        try:
            wanted = installation.unit_files(layout, systemd, etc, bin_dir, record.profile)
        except installation.InstallError as error:
            yield Check(name="units", level="warn", message=str(error), remedy="skillctl install --bin-dir DIR")
            continue
        changed = [change.path for change in installation.plan_install(wanted, record) if change.writes]
        if changed:
            remedy = "skillctl install, which keeps what you edited, then 'systemctl daemon-reload'"
            message = f"{', '.join(path.name for path in changed)}: not of this version"
            yield Check(name="units", level="warn", message=message, remedy=remedy)
        else:
            yield Check(name="units", level="ok", message="as installed by this version")


def _check_writable(file: Path) -> Iterator[Check]:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return  # what reads it has said so
    if mode & 0o022:
        message = f"{file} can be written by others (mode {mode:04o})"
        fix = partial(os.chmod, file, mode & ~0o022)
        yield Check(name="config file", level="fail", message=message, remedy=f"chmod go-w {file}", fix=fix)


def _folders(config: Config, environ: Mapping[str, str]) -> int:
    """How many folders the sources of skills have, links not followed."""
    from skilld.skill_sources import skill_sources

    return sum(1 for source in skill_sources(config.skills, environ) for _ in os.walk(source.path))
