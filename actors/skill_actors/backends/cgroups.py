"""Control groups: a place that a process and all it starts cannot leave, whatever they fork and forget.

Where this process may make groups of its own (root, or a service with Delegate=yes), each runner gets one, and what
must die is killed by it: at once on version 2 (`cgroup.kill`, Linux 5.14), by freezing first on version 1. Elsewhere
`make` gives None, and process trees and marks have to do. Blocks: call it in a worker thread.

Calls have no group each: moving a process into one takes 5-20 ms, the rest of a call 2.

Where the memory controller can be had as well, a program may be held to so many bytes by the kernel: by its own group
on version 2, by one of the memory hierarchy on version 1, which has nothing to do with the first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

__all__ = ["end", "find_home", "limit_memory", "make", "members", "out_of_memory", "remove", "sweep", "sweep_memory"]

_log = logging.getLogger(__name__)

_END_S: Final = 2.0
_PAUSE_S: Final = 0.002
_PROCS: Final = "cgroup.procs"
_KILL: Final = "cgroup.kill"
_FREEZER: Final = "freezer.state"
_MEMORY: Final = "memory.max"
_MEMORY_1: Final = "memory.limit_in_bytes"


def find_home(proc: Path = Path("/proc/self")) -> Path | None:
    """The folder of the control group this process is in, version 2 preferred; None if there is none to be seen."""
    return _home(("", "freezer"), proc)


def _home(controllers: Sequence[str], proc: Path) -> Path | None:
    """The group of this process in the first of these hierarchies that there is; "" is version 2."""
    paths = dict(_own_paths((proc / "cgroup").read_text()))
    for controller in controllers:
        for kind, options, root, point in _mounts((proc / "mountinfo").read_text()):
            fits = kind == "cgroup2" if controller == "" else kind == "cgroup" and controller in options
            if fits and controller in paths:
                inside = os.path.relpath(paths[controller], root)
                if not inside.startswith(".."):
                    return Path(point, inside)
    return None


def _own_paths(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _mounts(text: str) -> Iterator[tuple[str, list[str], str, str]]:
    """(type, super options, root within the file system, mount point), as proc(5) has them."""
    for line in text.splitlines():
        mount, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        root, point = (_unescape(part) for part in mount.split(" ")[3:5])
        yield kind, options.split(","), root, point


def _unescape(path: str) -> str:
    return path.encode("latin-1", "backslashreplace").decode("unicode_escape") if "\\" in path else path


def make(home: Path | None, name: str) -> Path | None:
    """A new group below `home`; None if it may not be made here, or could not kill what is in it."""
    if home is None:
        return None
    group = home / name
    try:
        group.mkdir()
    except OSError:
        return None
    if (group / _KILL).exists() or (group / _FREEZER).exists():
        return group
    with contextlib.suppress(OSError):  # an empty folder that nobody will use
        group.rmdir()
    return None


def limit_memory(group: Path | None, name: str, limit_bytes: int) -> Path | None:
    """A group whose processes the kernel holds to so much memory together; None if it cannot be had here.

    Args:
        group: where they live, as `make` gave it: on version 2 it is that one.
        name: of a group of its own on version 1, which `remove` takes away.

    """
    try:
        if group is not None and (limited := _limited_2(group, limit_bytes)) is not None:
            return limited
        home = _home(("memory",), Path("/proc/self"))
        return None if home is None else _limited_1(home / name, limit_bytes)
    except OSError:
        return None


def _limited_2(group: Path, limit_bytes: int) -> Path | None:
    if not (group / _MEMORY).exists():  # not handed down yet, which it is only where no process lives above
        with contextlib.suppress(OSError):
            (group.parent / "cgroup.subtree_control").write_text("+memory")
    if not (group / _MEMORY).exists():
        return None
    (group / _MEMORY).write_text(str(limit_bytes))
    for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
        with contextlib.suppress(OSError):  # there may be no swap to be bounded
            (group / name).write_text(value)
    return group


def _limited_1(group: Path, limit_bytes: int) -> Path:
    group.mkdir()
    try:
        (group / _MEMORY_1).write_text(str(limit_bytes))
        with contextlib.suppress(OSError):  # swap may not be counted
            (group / "memory.memsw.limit_in_bytes").write_text(str(limit_bytes))
    except OSError:
        group.rmdir()
        raise
    return group


def out_of_memory(group: Path | None) -> bool:
    """Whether the kernel has killed something in the group for its memory."""
    for name in ("memory.events", "memory.oom_control"):
        try:
            lines = [line.split() for line in ((group or Path()) / name).read_text().splitlines()]
        except OSError:
            continue
        return any(line[0] == "oom_kill" and int(line[1]) > 0 for line in lines if len(line) > 1)
    return False


def remove(group: Path | None) -> None:
    """Remove a group in which nothing lives any more, once what has been killed there is gone."""
    deadline = time.monotonic() + _END_S
    while group is not None and group.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(_PAUSE_S)


def sweep_memory(prefix: str) -> None:
    """Remove the groups of `limit_memory` that an earlier life has left, once `sweep` has ended what was in them."""
    home = _home(("memory",), Path("/proc/self"))
    if home is not None and home.is_dir():
        for entry in home.iterdir():
            if entry.name.startswith(prefix) and entry.is_dir():
                remove(entry)


def members(group: Path) -> list[int]:
    """Processes in the group, not those of groups below it. None of them once it has been removed."""
    try:
        return [int(line) for line in (group / _PROCS).read_text().split()]
    except OSError:
        return []


def end(group: Path) -> int:
    """Kill everything in the group and remove it; how many could not be killed in time."""
    deadline = time.monotonic() + _END_S
    while left := _survivors(group):
        if time.monotonic() > deadline:
            _log.error("%d processes in %s cannot be killed", len(left), group)
            return len(left)
        _kill(group, left)
        time.sleep(_PAUSE_S)
    with contextlib.suppress(OSError):  # removed by somebody else; or busy for a moment: then the next sweep does it
        for below in sorted(_tree(group), reverse=True):
            below.rmdir()
    return 0


def sweep(home: Path | None, prefix: str) -> int:
    """End every group below `home` whose name begins so: what an earlier life left. How many there were."""
    if home is None or not home.is_dir():
        return 0
    found = [entry for entry in home.iterdir() if entry.name.startswith(prefix) and entry.is_dir()]
    for group in found:
        end(group)
    return len(found)


def _tree(group: Path) -> list[Path]:
    return [Path(folder) for folder, _, _ in os.walk(group)]


def _survivors(group: Path) -> list[int]:
    return [pid for part in _tree(group) for pid in members(part)]


def _kill(group: Path, pids: list[int]) -> None:
    kill_all = group / _KILL
    if kill_all.exists():
        kill_all.write_text("1")
        return
    _set_freezer(group, "FROZEN")  # else what forks faster than it is killed goes on for ever
    try:
        for pid in {*pids, *_survivors(group)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    finally:
        _set_freezer(group, "THAWED")


def _set_freezer(group: Path, state: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
        (group / _FREEZER).write_text(state)
