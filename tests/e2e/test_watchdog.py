"""The event loop of a real daemon hangs, is stopped and goes on; what its log, its metrics and its manager show.

The loop is held by a backend of a package of its own, found by its entry point as any other: it is the local one,
but obeys a word in a tool's input first.
"""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from e2e.harness import Daemon, running, write_skill

pytestmark = pytest.mark.e2e

PACKAGE = '''
import os, re, time
import trio
from skill_actors.backends.local import LocalWorkspace
from skill_actors.backends.registry import factory
from contextlib import asynccontextmanager

opened = []

@asynccontextmanager
async def open_hog(*given):
    if os.environ["HOG_AT"] == "start":
        spin_on_the_loop(300)
    opened.append(1)
    try:
        async with (await factory("local"))(*given) as executor:
            yield executor
    finally:
        if os.environ["HOG_AT"] == "stop" and len(opened) == 2:  # the first was only to see whether it can be opened
            spin_on_the_loop(300)

def spin_on_the_loop(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass

def hang(name):
    """The canary, or the root supervisor, answers nobody any more."""
    from skill_actors.runtime import Supervisor
    from skilld.observability import Canary
    hung = Canary if name == "canary" else Supervisor
    plain = hung.on_receive

    async def on_receive(self, message):
        if name == "canary" or self.path == "root":
            await trio.sleep_forever()
        return await plain(self, message)

    hung.on_receive = on_receive

plain = LocalWorkspace.execute

async def execute(self, call, context):
    text = str(call.input)
    if found := re.search(r"hog=([0-9.]+)", text):
        spin_on_the_loop(float(found[1]))
    if found := re.search(r"hang=(root|canary)", text):
        hang(found[1])
    return await plain(self, call, context)

LocalWorkspace.execute = execute
'''
EXIT_S = 4.0  # long enough for a machine that lets a process wait for a second or two
CONFIG = '[backends]\ndefault = ["hog"]\n[daemon]\nstall_dump_s = {dump_s}\nstall_exit_s = {exit_s}\n'


def daemon_for(folder: Path, *, dump_s: float = 2.0, exit_s: float = 60.0, env: dict[str, str] | None = None) -> Daemon:
    """A daemon, not started, whose loop a message can hold."""
    packages = folder / "packages"
    info = packages / "hog-1.dist-info"
    info.mkdir(parents=True)
    (packages / "hog.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hog\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[skilld.backends]\nhog = hog:open_hog\n")
    skills = write_skill(folder / "skills", "obey", "print('obeyed')\n").parent
    config = CONFIG.format(dump_s=dump_s, exit_s=exit_s)
    return Daemon(
        folder, skills=[skills], config=config, env={"PYTHONPATH": str(packages), "HOG_AT": "", **(env or {})}
    )


@contextmanager
def started(daemon: Daemon) -> Iterator[Daemon]:
    try:
        yield daemon.start()
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()


def until(holds: Callable[[], object], what: str, limit_s: float = 30.0) -> None:
    """Wait for something in another process."""
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.05)


def stalls(daemon: Daemon) -> float:
    with daemon.http() as http:
        (count,) = re.findall(r"^skilld_loop_stalls_total (.*)$", http.get("/metrics").text, re.MULTILINE)
    return float(count)


def test_a_held_loop_is_dumped_naming_the_function_and_counted_when_it_goes_on(tmp_path: Path) -> None:
    with started(daemon_for(tmp_path)) as daemon:
        assert stalls(daemon) == 0
        turn = daemon.ask(daemon.create(), "/obey hog=5")
        assert turn["status"] == "finished", "the daemon went on"
        log = daemon.log.read_text()
        assert log.count("all threads") == 1
        assert "in spin_on_the_loop" in log
        until(lambda: stalls(daemon) == 1, "the stall is counted")
        assert "answers again" in daemon.log.read_text()
        assert daemon.stop() == 0


def test_a_loop_that_stays_held_ends_the_process_with_70_and_the_state_is_good(tmp_path: Path) -> None:
    daemon = daemon_for(tmp_path, exit_s=EXIT_S)
    with started(daemon):
        assert daemon.process is not None
        session = daemon.create()
        daemon.post(session, "/obey hog=300")
        assert daemon.process.wait(30) == 70
        assert "ending the process" in daemon.log.read_text()
        daemon.start()
        until(lambda: daemon.events(session)[-1]["type"] == "turn.interrupted", "the turn is closed")


def test_a_loop_that_is_held_while_the_daemon_starts_or_stops_ends_the_process_as_well(tmp_path: Path) -> None:
    daemon = daemon_for(tmp_path, exit_s=EXIT_S, env={"HOG_AT": "start"})
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(30) == 70
    assert "in spin_on_the_loop" in daemon.log.read_text()
    (tmp_path / "other").mkdir()
    with started(daemon_for(tmp_path / "other", exit_s=EXIT_S, env={"HOG_AT": "stop"})) as other:
        assert other.stop() == 70
        assert "in spin_on_the_loop" in other.log.read_text()


def test_a_process_that_is_stopped_for_longer_than_every_limit_goes_on_without_a_word(tmp_path: Path) -> None:
    with started(daemon_for(tmp_path, exit_s=EXIT_S)) as daemon:
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(EXIT_S + 2)
        daemon.process.send_signal(signal.SIGCONT)
        assert daemon.ask(daemon.create(), "hello")["status"] == "finished"
        assert stalls(daemon) == 0
        assert "hung" not in daemon.log.read_text()
        assert daemon.stop() == 0


class Manager(threading.Thread):
    """A service manager's socket; `heard` holds what came, with its time."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.2)
        self._over = threading.Event()
        self.heard: list[tuple[float, str]] = []

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self.heard.append((time.monotonic(), self._socket.recv(4096).decode()))
            except TimeoutError:
                continue
        self._socket.close()

    def times(self, text: str) -> list[float]:
        return [at for at, said in list(self.heard) if text in said]

    def close(self) -> None:
        self._over.set()
        self.join(10)


@contextmanager
def managed(folder: Path, interval_s: float) -> Iterator[tuple[Daemon, Manager]]:
    manager = Manager(folder / "notify")
    manager.start()
    env = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(int(interval_s * 1e6))}
    try:
        with started(daemon_for(folder, env=env)) as daemon:
            yield daemon, manager
    finally:
        manager.close()


def test_the_manager_is_fed_more_often_than_it_asks_and_asked_for_time_at_both_ends(tmp_path: Path) -> None:
    with managed(tmp_path, 6.0) as (daemon, manager):
        until(lambda: manager.times("READY=1"), "it is ready")
        (ready,) = manager.times("READY=1")
        until(lambda: time.monotonic() - ready > 7, "some time passes")
        fed = [ready, *(at for at in manager.times("WATCHDOG=1") if at > ready), time.monotonic()]
        assert max(later - at for at, later in pairwise(fed)) < 6.0
        assert any(at < ready for at in manager.times("EXTEND_TIMEOUT_USEC"))
        before = len(manager.times("EXTEND_TIMEOUT_USEC"))
        assert daemon.stop() == 0
        until(lambda: len(manager.times("EXTEND_TIMEOUT_USEC")) > before, "it asked for time")
        until(lambda: manager.times("STOPPING=1"), "it said that it stops")
        assert len(manager.times("STOPPING=1")) == 1


@pytest.mark.parametrize("who", ["canary", "root"])
def test_the_manager_is_no_longer_fed_when_an_actor_hangs_though_the_loop_turns(tmp_path: Path, who: str) -> None:
    with managed(tmp_path, 3.0) as (daemon, manager):
        until(lambda: manager.times("WATCHDOG=1"), "it is fed")
        assert daemon.ask(daemon.create(), f"/obey hang={who}")["status"] == "finished"
        until(lambda: "does not answer itself" in daemon.log.read_text(), "it is said", 60)
        until(lambda: time.monotonic() - manager.times("WATCHDOG=1")[-1] > 3.0, "the feeding ends", 60)
        with daemon.http() as http:
            assert http.get("/v1/health/live").status_code == 200
        assert daemon.process is not None
        assert daemon.process.poll() is None, "the manager decides, not the daemon"


def test_what_the_managers_abort_leaves_is_the_stack_of_every_thread(tmp_path: Path) -> None:
    """The signal of WatchdogSec=: written in C, so that it works even where no Python code can run any more."""
    with running(tmp_path) as daemon:
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGABRT)
        assert daemon.process.wait(30) == -signal.SIGABRT
        log = daemon.log.read_text()
        assert "Fatal Python error: Aborted" in log
        assert "on_tick" in log or "take" in log, "the watchdog's thread is among them"
