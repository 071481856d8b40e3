"""Who descends from whom, and who of them lives."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from skill_actors.backends import processes

# A parent with two children, the second started by a thread, and a grandchild. It says their numbers.
TREE = """
import subprocess, sys, threading
first = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
hold = threading.Event()
def start():
    print(first.pid, int(first.stdout.readline()), subprocess.Popen(["sleep", "60"]).pid, flush=True)
    hold.wait()
threading.Thread(target=start).start()
"""


@contextmanager
def _tree() -> Iterator[tuple[int, int, int, int]]:
    """The parent, its child, that one's child, and the child of a thread."""
    parent = subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert parent.stdout is not None
        first, grandchild, second = map(int, parent.stdout.readline().split())
        yield parent.pid, first, grandchild, second
    finally:
        os.killpg(parent.pid, 9)
        parent.communicate()


def _without_children_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: False)


def _with_children_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.path.exists("/proc/thread-self/children")


@pytest.mark.parametrize("kernel", [_with_children_files, _without_children_files])
def test_all_below_a_process_are_found_but_the_spared_and_theirs(
    kernel: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with _tree() as (parent, first, grandchild, second):
        kernel(monkeypatch)
        assert sorted(processes.below(parent)) == sorted([first, grandchild, second])
        assert list(processes.below(first)) == [grandchild]
        assert list(processes.below(parent, spared={first})) == [second]
        assert list(processes.below(second)) == []


def test_nobody_is_below_a_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert list(processes.below(process.pid)) == []


def _without_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)


def _with_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    os.close(os.pidfd_open(os.getpid()))


@pytest.mark.parametrize("kernel", [_with_handles, _without_handles])
def test_a_process_that_has_ended_does_not_live_whether_reaped_or_not(
    kernel: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel(monkeypatch)
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert processes.lives(process.pid)
    assert process.stdin is not None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.lives(process.pid)
    process.wait()
    assert not processes.lives(process.pid)


# 300 children have ended; with the first that is reaped, the runner says something.
ORPHANS = """
import os, socket, time
from skill_actors.backends.keeper import Keeper

runner, control = socket.socketpair()
wake, waker = os.pipe()
os.set_blocking(wake, False)

class Statuses(dict):
    def __setitem__(self, pid, code):
        super().__setitem__(pid, code)
        if len(self) == 1:
            runner.send(b"k")

main = os.fork() or time.sleep(20) or os._exit(0)
for _ in range(300):
    ended = os.fork() or os._exit(0)
    os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
os.write(waker, b"c")
keeper = Keeper(control, control, (0, 0))
keeper._wake, keeper._statuses = wake, Statuses()
keeper._wait(main)
os.kill(main, 9)
print(len(keeper._statuses))
"""


def test_a_keeper_hears_its_runner_while_orphans_end() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True, timeout=30, check=True)
    assert 0 < int(done.stdout) < 100
