"""Processes as a runner and its keepers see them: who descends from whom, and how all of it is ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and collections.abc are not free to import, and the runner starts often
    from collections.abc import Callable, Collection, Iterator
    from typing import Any, Final

__all__ = [
    "GROUP",
    "KILL_S",
    "MARK",
    "adopt_orphans",
    "adopts_orphans",
    "be_marked",
    "below",
    "die_with_parent",
    "end_family",
    "family",
    "join_group",
    "kill",
    "lives",
    "no_new_privileges",
    "reap",
    "started_at",
]

GROUP: Final = "SKILLD_CGROUP"  # environment variable with the control group to live in, if there is one
MARK: Final = "SKILLD_RUNNER"  # environment variable that whoever starts the runner may set, to find what it left
KILL_S: Final = 1.0  # how long a keeper tries to end a call's processes (some may be unkillable)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_GET_CHILD_SUBREAPER: Final = 37
_PR_SET_NO_NEW_PRIVS: Final = 38
_QUEUE_BYTES: Final = 819_200  # the kernel's own default


def family(root: int, spared: Collection[int] = ()) -> list[tuple[int, int, int, str]]:
    """(pid, parent, process group, state) of the descendants of `root`, leaving out `spared` and theirs."""
    children: dict[int, list[tuple[int, int, int, str]]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:  # gone meanwhile
            continue
        if len(fields) > 2:
            entry = (int(name), int(fields[1]), int(fields[2]), fields[0].decode("ascii"))
            children.setdefault(entry[1], []).append(entry)
    found: list[tuple[int, int, int, str]] = []
    parents = [root]
    while parents:
        for entry in children.get(parents.pop(), ()):
            if entry[0] not in spared:
                found.append(entry)
                parents.append(entry[0])
    return found


def below(root: int, spared: Collection[int] = ()) -> Iterator[int]:
    """Each descendant of `root`, ended ones too, while it is looked for; leaving out `spared` and theirs.

    Unlike `family` it looks at nobody else, and reads nothing that may hold it up: see `lives`. One whose parent ends
    meanwhile can be missed. Where `root` adopts orphans, none is found only where there is none.
    """
    if not os.path.exists("/proc/thread-self/children"):  # a kernel without CONFIG_PROC_CHILDREN
        yield from (entry[0] for entry in family(root, spared))
        return
    seen = {root, *spared}
    parents = [root]
    while parents:
        for pid in reversed(_children(parents.pop())):  # what was orphaned or forked last is likeliest to live
            if pid not in seen:
                seen.add(pid)
                parents.append(pid)
                yield pid


def _children(pid: int) -> list[int]:
    """Of all threads of a process; none if it is gone."""
    found: list[int] = []
    tasks = f"/proc/{pid}/task"
    with contextlib.suppress(OSError):
        for thread in (pid,) if os.stat(tasks).st_nlink == 3 else os.listdir(tasks):
            with open(f"{tasks}/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def lives(pid: int) -> bool:
    """Whether there is such a process that has not ended.

    Its stat would tell as well. But who reads that while the process ends may be left with the end of its memory, and
    then waits for what all forks of a program wait for: with thousands of them, for seconds.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except OSError:  # not to be had, as under gVisor
        return _state(pid) not in ("", "Z")
    try:
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        return not poller.poll(0)
    finally:
        os.close(handle)


def _state(pid: int) -> str:
    """Its letter; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode("ascii")
    except (OSError, IndexError):
        return ""


def started_at(pid: int) -> int | None:
    """When a process started, in ticks since the machine did; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name before it may hold anything: what counts is behind its last parenthesis.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def end_family(spared: Collection[int], statuses: dict[int, int]) -> tuple[int, int]:
    """SIGKILL and reap every descendant of this process but `spared`.

    Exit statuses of reaped children go to `statuses`. Returns how many were killed, and how many are still
    there after KILL_S (asleep in the kernel, or another user's).
    """
    me = os.getpid()
    deadline = time.monotonic() + KILL_S
    pause_s = 0.0005
    killed: set[int] = set()
    while victims := list(below(me, spared)):
        living = [pid for pid in victims if not reap(pid, statuses) and lives(pid)]
        killed.update(living)
        # A whole group dies at once, before any of it can fork again; only then the stragglers one by one.
        for victim_group in {_group(pid) for pid in living} - {os.getpgrp(), 0}:
            kill(victim_group, os.killpg)
        for pid in living:
            kill(pid)
        if time.monotonic() > deadline:
            return len(killed), len(living)
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.02)
    return len(killed), 0


def _group(pid: int) -> int:
    """Its process group; 0 if it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def kill(target: int, how: Callable[[int, int], None] = os.kill) -> None:
    """SIGKILL; for a process group with `how` as os.killpg."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # what cannot be killed is counted as left
        how(target, signal.SIGKILL)


def reap(pid: int, statuses: dict[int, int]) -> bool:
    """Collect one child, or any (-1), that has ended. False if there is none to collect."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    if ended:
        statuses[ended] = os.waitstatus_to_exitcode(status)
    return ended != 0


def _prctl(option: int, value: int) -> None:
    """prctl(2). Raises OSError."""
    libc = _libc()
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = sys.modules["ctypes"].get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent() -> None:
    """Be killed when the parent ends. Taking another user's id undoes this. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent ends. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def adopts_orphans() -> bool:
    """Whether this process has called `adopt_orphans`."""
    ctypes = sys.modules.get("ctypes")
    if ctypes is None:  # without it nothing can have been called
        return False
    answer = ctypes.c_int(0)
    _libc().prctl(_PR_GET_CHILD_SUBREAPER, ctypes.addressof(answer), 0, 0, 0)
    return bool(answer.value)


def no_new_privileges() -> None:
    """Of this process and all it will start: no set-uid program gives any. Raises OSError."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def be_marked() -> None:
    """This process and all it will start may keep a byte less in message queues, which none of them can undo.

    By that they are known where nothing else tells them from whoever started them. Root could undo it.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
    marked = _QUEUE_BYTES if hard == resource.RLIM_INFINITY else max(hard - 1, 0)
    resource.setrlimit(
        resource.RLIMIT_MSGQUEUE, (marked if soft == resource.RLIM_INFINITY else min(soft, marked), marked)
    )


def join_group() -> None:
    """Enter the control group that the environment names, if it does."""
    if group := os.environ.pop(GROUP, ""):
        with contextlib.suppress(OSError), open(f"{group}/cgroup.procs", "w") as members:
            members.write("0")  # without a group, trees and marks have to do


def _libc(cache: list[Any] = []) -> Any:  # noqa: B006  # one handle for the process, loaded before the first fork
    if not cache:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
        cache.append(libc)
    return cache[0]
