"""A root filesystem made of Debian's packages alone: what the slim image holds, and the other begins with."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Timer
from typing import Final

from skill_actors.backends.base import BackendUnavailable

__all__ = ["SUITE", "BootstrapFailed", "apt_sources", "bootstrap_command", "make_root"]

SUITE: Final = "bookworm"
_MIRROR: Final = "http://deb.debian.org/debian"
_SECURITY_MIRROR: Final = "http://deb.debian.org/debian-security"
_PACKAGES: Final = ("ca-certificates", "python3")
_LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_TOOL: Final = "mmdebstrap"
_LOOK_S: Final = 20.0
_GRACE_S: Final = 10.0  # for the tool to remove its temporary folder
_LAST_LINES: Final = 8


class BootstrapFailed(Exception):
    """The root filesystem could not be made. The message has the last words of the tool."""


def apt_sources(mirror: str | None = None, suite: str = SUITE) -> list[str]:
    """The sources.list of the image: `mirror` alone, else what this host's apt has of Debian, else Debian's own.

    Those of this host, because they are what it can reach. Blocks for as long as apt needs to say them.
    """
    if mirror is not None:
        return [f"deb {mirror} {suite} main"]
    return _host_sources(suite) or [
        f"deb {_MIRROR} {suite} main",
        f"deb {_MIRROR} {suite}-updates main",
        f"deb {_SECURITY_MIRROR} {suite}-security main",
    ]


def _host_sources(suite: str) -> list[str]:
    """Empty where this host is not of Debian's `suite`, or has never fetched its lists."""
    wanted = ["$(REPO_URI)", "$(RELEASE)", "$(COMPONENT)", "$(ORIGIN)"]
    command = ["apt-get", "indextargets", "--format", "|".join(wanted), "Created-By: Packages"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_LOOK_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found = [line.split("|") for line in said.splitlines() if line.count("|") == len(wanted) - 1]
    known = {suite, f"{suite}-updates", f"{suite}-security"}
    lines = [
        f"deb {uri} {release} main"
        for uri, release, component, origin in found
        if origin == "Debian" and component == "main" and release in known
    ]
    has_suite = any(f" {suite} " in line for line in lines)
    return list(dict.fromkeys(lines)) if has_suite else []


def bootstrap_command(tar: Path, sources: Sequence[str], suite: str = SUITE) -> list[str]:
    """How the tool is called: no documentation, no name or resolver of this host, no setuid program."""
    return [
        _TOOL,
        "--variant=minbase",
        "--format=tar",
        f"--include={','.join(_PACKAGES)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        '--customize-hook=chroot "$1" find / -xdev -type f -perm /6000 -exec chmod a-s {} +',
        '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
        suite,
        str(tar),
        *sources,
    ]


def make_root(
    tar: Path, sources: Sequence[str], *, timeout_s: float, progress: Callable[[str], object], suite: str = SUITE
) -> None:
    """Write the root filesystem of `suite` to `tar`. Blocks; `progress` gets the tool's lines.

    Root or not: without it the tool needs user namespaces, and says so where they are missing.

    Raises:
        BackendUnavailable: the tool is not installed.
        BootstrapFailed: it failed, or took longer than `timeout_s`.

    """
    if shutil.which(_TOOL) is None:
        raise BackendUnavailable(f"{_TOOL} is not installed: apt-get install {_TOOL}")
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        bootstrap_command(tar, sources, suite),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # a group of its own: apt and dpkg end with it
    ) as process:
        overdue = Event()

        def end_overdue() -> None:
            overdue.set()
            _end(process)

        deadline = Timer(timeout_s, end_overdue)
        deadline.start()
        try:
            for line in process.stderr or ():
                last.append(line.rstrip())
                progress(line.rstrip())
        except BaseException:
            _end(process)
            raise
        finally:
            deadline.cancel()
            deadline.join()
    if overdue.is_set():
        raise BootstrapFailed(f"{_TOOL} took longer than {timeout_s:g} s and was ended")
    if process.returncode != 0:
        raise BootstrapFailed(f"{_TOOL} failed: {'; '.join(line for line in last if line)}")


def _end(process: subprocess.Popen[str]) -> None:
    """Ask it to clean up and go; then kill it and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        os.killpg(process.pid, signal.SIGKILL)
