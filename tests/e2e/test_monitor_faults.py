"""A watched program through whatever goes wrong around it: it gets the results that it gets unwatched, and of what it
reported nothing is lost without being counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import require
from e2e.harness import Daemon, running
from monitor_kit import run_program

pytestmark = pytest.mark.e2e

THREADS, CALLS = 8, 60
SPANS = THREADS * CALLS
APPLICATION = """
import hashlib, json, sys, threading, time
import skilld_monitor

class Messages:
    def create(self, *, model, messages):
        text = messages[-1]["content"]
        if text.endswith("7"):
            raise LookupError(text)
        return {"content": text[::-1], "usage": {"input_tokens": len(text), "output_tokens": 1}}

class Client:
    messages = Messages()

def work(number):
    client = Client()
    if made is not None:
        skilld_monitor.enable_monitoring("app", client, max_spool_bytes=SPOOL_BYTES)
    for call in range(CALLS):
        if call == CALLS // 2:
            half.wait()
        try:
            answer = client.messages.create(model="m", messages=[{"role": "user", "content": f"{number} asks {call}"}])
            results[number].append(answer["content"])
        except LookupError as error:
            results[number].append(repr(error))

made = skilld_monitor.enable_monitoring("app", max_spool_bytes=SPOOL_BYTES) if IS_WATCHED else None
results = {number: [] for number in range(THREADS)}
half = threading.Barrier(THREADS + 1)
threads = [threading.Thread(target=work, args=(number,)) for number in results]
for thread in threads:
    thread.start()
if WAITS:
    while half.n_waiting < THREADS:
        time.sleep(0.01)
    if made is not None:
        made.flush(20)
    print("half", flush=True)
    sys.stdin.readline()
half.wait()
for thread in threads:
    thread.join()
print(hashlib.sha256(json.dumps(results).encode()).hexdigest(), flush=True)
if made is not None and REPORTS:
    report = made.disable(20)
    counts = {name: getattr(report, name) for name in ("accepted", "delivered", "spooled", "refused", "dropped")}
    print(json.dumps(counts), flush=True)
"""
Counts = dict[str, int]
FILLER = "filler"
BROUGHT_S = 60.0
UNHURRIED = {"SKILLD_MONITOR_EXIT_TIMEOUT_S": "20"}  # what a busy machine may need for it


def application(*, watched: bool = True, waits: bool = False, reports: bool = True, spool_bytes: int = 32 << 20) -> str:
    values = {"IS_WATCHED": watched, "WAITS": waits, "REPORTS": reports, "SPOOL_BYTES": spool_bytes}
    values.update(THREADS=THREADS, CALLS=CALLS)
    return "".join(f"{name} = {value!r}\n" for name, value in values.items()) + APPLICATION


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the application gets when nobody looks."""
    done = run_program(application(watched=False), tmp_path_factory.mktemp("bare"))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as made:
        yield made


def environment(folder: Path) -> dict[str, str]:
    places = {"SKILLD_MONITOR_SOCKET": str(folder / "monitor.sock"), "SKILLD_MONITOR_SPOOL": str(folder / "spool")}
    return {**os.environ, **places}


def run(folder: Path, expected: str, **how: Any) -> Counts:
    """The application from its beginning to its end; what became of its events."""
    done = run_program(application(**how), folder, timeout_s=60)
    assert (done.returncode, done.stderr) == (0, "")
    return checked(done.stdout, expected)


def run_in_halves(folder: Path, expected: str, between: Callable[[], object], **how: Any) -> Counts:
    """The same, with something that happens when half of the calls are done."""
    command = [sys.executable, "-c", application(waits=True, **how)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(folder),
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "half\n"
        between()
        out, failed = program.communicate("\n", timeout=60)
        assert (program.returncode, failed) == (0, "")
    return checked(out, expected)


def checked(out: str, expected: str) -> Counts:
    digest, counts = out.splitlines()
    assert digest == expected
    found: Counts = json.loads(counts)
    assert found["accepted"] >= SPANS
    lost = found["accepted"] - found["delivered"] - found["spooled"] - found["refused"]
    assert lost == found["dropped"], f"what is not there is counted: {found}"
    return found


def stored(daemon: Daemon) -> int:
    """How many calls of the application there are; what was not acknowledged within 2 s is brought before."""
    if left_behind(daemon.folder):
        bring(daemon)
    with daemon.http() as http:
        return int(http.get("/v1/monitor/stats").json()["channels"].get("LLM", 0))


def bring(daemon: Daemon) -> None:
    """A short program brings what others left behind; one more does where the daemon took too long."""
    deadline = time.monotonic() + BROUGHT_S
    sweeper = "import skilld_monitor\nskilld_monitor.enable_monitoring('sweeper').flush(10)"
    while True:
        done = run_program(sweeper, daemon.folder)
        assert (done.returncode, done.stderr) == (0, "")
        if not left_behind(daemon.folder):
            return
        assert time.monotonic() < deadline, "it stays in the spool"


def left_behind(folder: Path) -> list[Path]:
    """What waits in the spool."""
    spool = folder / "spool"
    return [path for path in spool.iterdir() if path.name != FILLER] if spool.is_dir() else []


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own in this folder."""
    require(os.geteuid() == 0, "only root can mount a small tmpfs")
    folder.mkdir(parents=True, mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder], capture_output=True, check=False
    )
    require(mounted.returncode == 0, f"tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> Path:
    """Take all room that is left."""
    filler = disk / FILLER
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


def test_nothing_is_wrong(daemon: Daemon, expected: str) -> None:
    counts = run(daemon.folder, expected)
    assert (counts["delivered"], counts["dropped"]) == (counts["accepted"], 0)
    assert stored(daemon) == SPANS


def test_an_end_without_a_word_delivers_all(daemon: Daemon, expected: str) -> None:
    done = run_program(application(reports=False), daemon.folder, env=UNHURRIED)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, expected, "")
    assert stored(daemon) == SPANS


def test_there_is_no_daemon(tmp_path: Path, expected: str) -> None:
    counts = run(tmp_path, expected)
    assert (counts["spooled"], counts["dropped"]) == (counts["accepted"], 0)
    with running(tmp_path) as daemon:
        bring(daemon)
        assert stored(daemon) == SPANS


def test_the_daemon_is_killed(daemon: Daemon, expected: str) -> None:
    counts = run_in_halves(daemon.folder, expected, daemon.kill)
    assert (counts["spooled"] >= SPANS // 2, counts["dropped"]) == (True, 0)
    daemon.start()
    bring(daemon)
    assert stored(daemon) == SPANS


def test_the_daemon_is_killed_and_comes_back(daemon: Daemon, expected: str) -> None:
    def between() -> None:
        daemon.kill()
        daemon.start()

    assert run_in_halves(daemon.folder, expected, between)["dropped"] == 0
    bring(daemon)
    assert stored(daemon) == SPANS


def test_the_daemon_is_stopped(daemon: Daemon, expected: str) -> None:
    try:
        counts = run_in_halves(daemon.folder, expected, lambda: os.kill(daemon.pid, signal.SIGSTOP))
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    assert (counts["spooled"] > 0, counts["dropped"]) == (True, 0)
    bring(daemon)
    assert stored(daemon) == SPANS, "each once, though what was sent may have arrived and be sent again"


def test_the_spool_is_bounded(tmp_path: Path, expected: str) -> None:
    counts = run(tmp_path, expected, spool_bytes=20_000)
    assert counts["dropped"] > 0
    assert counts["spooled"] > 20_000 // 1_000
    assert sum(path.stat().st_size for path in (tmp_path / "spool").iterdir()) <= 21_000


def test_the_disk_of_the_spool_is_full(tmp_path: Path, expected: str) -> None:
    with small_disk(tmp_path / "spool", "1m") as disk:
        counts = run_in_halves(tmp_path, expected, lambda: fill(disk))
        assert counts["dropped"] > 0
        assert counts["spooled"] >= SPANS // 2
        with running(tmp_path) as daemon:
            bring(daemon)
            assert stored(daemon) >= SPANS // 2, "what was kept is whole"


def test_the_disk_of_the_daemon_is_full(tmp_path: Path, expected: str) -> None:
    with small_disk(tmp_path / "state/monitor", "4m") as disk, running(tmp_path) as daemon:
        fillers: list[Path] = []
        counts = run_in_halves(tmp_path, expected, lambda: fillers.append(fill(disk)))
        assert (counts["refused"], counts["dropped"]) == (0, 0)
        assert counts["spooled"] > 0
        assert daemon.skillctl("health").returncode == 0, "conversations go on"
        fillers[0].unlink()
        bring(daemon)
        assert stored(daemon) == SPANS
        assert daemon.stop() == 0


FAMILY = """
import multiprocessing, os, signal, sys
import skilld_monitor

def report(name, count=20):
    for n in range(count):
        skilld_monitor.log_event("burst", {"who": name, "n": n}, "LLM")

def child(name):
    skilld_monitor.enable_monitoring("app")
    report(name)

if __name__ == "__main__":
    skilld_monitor.enable_monitoring("app")
    report("parent")
    for how in ("fork", "spawn"):
        process = multiprocessing.get_context(how).Process(target=child, args=(how,))
        process.start()
        process.join()
        assert process.exitcode == 0, process.exitcode
    if os.fork() == 0:
        report("child that is ended")
        skilld_monitor.monitoring.active().flush()
        os.kill(os.getpid(), signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGTERM
    report("parent again")
    skilld_monitor.disable_monitoring()
    again = "import skilld_monitor as m; m.enable_monitoring('app'); m.log_event('burst', {}, 'LLM')"
    os.execv(sys.executable, [sys.executable, "-c", again])
"""


def test_a_family_of_processes(daemon: Daemon) -> None:
    (daemon.folder / "family.py").write_text(FAMILY)
    done = subprocess.run(
        [sys.executable, str(daemon.folder / "family.py")],
        env=environment(daemon.folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stored(daemon) == 5 * 20 + 1
    assert len(runs(daemon)) == 5


def runs(daemon: Daemon) -> set[str]:
    with daemon.http() as http:
        items: list[Mapping[str, Any]] = http.get("/v1/monitor/events", params={"limit": 1000}).json()["items"]
    return {str(item["run"]) for item in items if item["agent"] == "app"}


def test_an_exec_in_the_middle_loses_no_more_than_the_last_moment(daemon: Daemon) -> None:
    text = """
import os, sys, skilld_monitor
made = skilld_monitor.enable_monitoring("app")
for n in range(100):
    skilld_monitor.log_event("burst", {"n": n}, "LLM")
made.flush()
skilld_monitor.log_event("burst", {"n": 100}, "LLM")
os.execv(sys.executable, [sys.executable, "-c", "print('another program')"])
"""
    done = run_program(text, daemon.folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "another program\n", "")
    assert stored(daemon) in (100, 101)
