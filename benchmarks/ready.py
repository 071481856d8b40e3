"""From exec to a daemon that answers, and a whole `skillctl status`, beside a bare interpreter, in one run.

    python benchmarks/ready.py [--sessions N] [--rounds N]

A start is over when GET /v1/health/ready answers 200 on the socket. Everything is started in turns, after one round
that is not counted and leaves the bytecode in its caches. The processor time, all threads, is what the wall time comes
to where nothing else runs. Reach: ready in less than 1 s with 10,000 stored conversations, `skillctl status` in less
than 150 ms.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.ids import new_id
from skill_actors.sessions.events import Event, utc_now
from skill_actors.store import Append, SessionRecord, SqliteJournal, TurnRecord

_GIVE_UP_S: Final = 30.0
_POLL_S: Final = 0.002
_WRITERS: Final = 128
_ASK: Final = b"GET /v1/health/ready HTTP/1.1\r\nhost: skilld\r\nconnection: close\r\n\r\n"
_REACH_MS: Final = {"ready": 1_000, "status": 150}
_QUESTION: Final = "What do the logs say about the disk? " * 4
_ANSWER: Final = "Nothing that should worry anybody. " * 20


@dataclass(frozen=True, slots=True)
class Took:
    """How long a start took, and the processor time of it."""

    wall_ms: float
    cpu_ms: float


def environment() -> dict[str, str]:
    """The children's: with bytecode caches, without what would make the daemon behave differently elsewhere."""
    foreign = ("SKILLD_", "ANTHROPIC_", "XDG_", "NOTIFY_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


async def store(file: Path, count: int) -> None:
    """Write `count` conversations with one ended turn each."""
    left = iter(range(count))

    async with await SqliteJournal.open(file) as journal, trio.open_nursery() as nursery:

        async def some() -> None:
            for _ in left:
                await _store_one(journal)

        for _ in range(_WRITERS):
            nursery.start_soon(some)


async def _store_one(journal: SqliteJournal) -> None:
    session, turn, now = new_id("ses"), new_id("trn"), utc_now()
    result = {"text": _ANSWER, "stop_reason": "end_turn", "cost_usd": 0.01, "duration_ms": 900}
    told: tuple[tuple[str, dict[str, Any]], ...] = (
        ("turn.queued", {"text": _QUESTION, "files": []}),
        ("turn.started", {"model": "benchmark"}),
        ("model.delta", {"block": 0, "text": _ANSWER, "offset": len(_ANSWER)}),
        ("model.message", {"content": [{"type": "text", "text": _ANSWER}]}),
        ("turn.finished", result),
    )
    events = tuple(
        Event(seq=seq, type=type, time=now, session=session, turn=turn, data=data)
        for seq, (type, data) in enumerate(told, 1)
    )
    ended = TurnRecord(id=turn, session=session, seq=1, status="finished", created=now, updated=now, result=result)
    await journal.create_session(SessionRecord(id=session, owner_uid=os.getuid(), created=now, updated=now))
    await journal.append(
        Append(session=session, expected_last_seq=0, last_seq=len(events), events=events, turns=(ended,))
    )


class Daemon:
    """skilld with a state of its own. It is started again and again."""

    def __init__(self, folder: Path, **extra: str) -> None:
        self.socket = folder / "s"
        self._log = folder / "log"
        self._command = [*_program("skilld"), f"--socket={self.socket}", f"--state-dir={folder / 'state'}"]
        self._environment = environment() | {"HOME": str(folder)} | extra
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Took:
        """Return when it is ready.

        Raises:
            RuntimeError: it ended, or was not ready in 30 s.

        """
        with self._log.open("ab") as log:
            began_s = time.perf_counter()
            self._process = subprocess.Popen(self._command, env=self._environment, stderr=log, stdin=subprocess.DEVNULL)
        while not self._answers():
            waited_s = time.perf_counter() - began_s
            if self._process.poll() is not None or waited_s > _GIVE_UP_S:
                raise RuntimeError(f"skilld was not ready after {waited_s:.1f} s:\n{self._log.read_text()}")
            time.sleep(_POLL_S)
        wall_ms = (time.perf_counter() - began_s) * 1e3
        user, system = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return Took(wall_ms, (int(user) + int(system)) * 1e3 / os.sysconf("SC_CLK_TCK"))

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_GIVE_UP_S)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self.socket))
                connection.sendall(_ASK)
                return connection.recv(64).startswith(b"HTTP/1.1 200")
            except OSError:
                return False


def _program(name: str) -> list[str]:
    beside = Path(sys.executable).with_name(name)
    return [str(beside)] if beside.exists() else [sys.executable, "-m", {"skillctl": "skilld.cli"}.get(name, name)]


def _restart(daemon: Daemon) -> Took:
    try:
        return daemon.start()
    finally:
        daemon.stop()


def _run(command: Sequence[str], extra: Mapping[str, str] | None = None) -> Took:
    before_ms, began_s = _children_cpu_ms(), time.perf_counter()
    subprocess.run(command, env={**environment(), **(extra or {})}, check=True, stdout=subprocess.DEVNULL)
    return Took((time.perf_counter() - began_s) * 1e3, _children_cpu_ms() - before_ms)


def _children_cpu_ms() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e3


def measure(ways: Mapping[str, Callable[[], Took]], rounds: int) -> dict[str, list[Took]]:
    """What each way took; the first round is left out."""
    found: dict[str, list[Took]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, take in ways.items():
            took = take()
            if number:
                found[way].append(took)
    return found


def report(title: str, found: Mapping[str, Sequence[Took]], reach_ms: float) -> None:
    """Print a table; the first way is the floor."""
    floor_ms = 0.0
    print(f"{title:40} {'p50 ms':>8} {'min ms':>8} {'max ms':>8} {'ratio':>6} {'cpu p50 ms':>11}")
    for way, all_took in found.items():
        walls_ms = [took.wall_ms for took in all_took]
        p50_ms = statistics.median(walls_ms)
        floor_ms = floor_ms or p50_ms
        cpu_ms = statistics.median(took.cpu_ms for took in all_took)
        walls = f"{p50_ms:8.0f} {min(walls_ms):8.0f} {max(walls_ms):8.0f}"
        print(f"{way:40} {walls} {p50_ms / floor_ms:6.2f} {cpu_ms:11.0f}")
    print(f"reach: less than {reach_ms:g} ms")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    python = [sys.executable, "-c"]
    with tempfile.TemporaryDirectory() as name:
        folders = {kind: Path(name, kind) for kind in ("empty", "full")}
        for folder in folders.values():
            folder.mkdir()
        trio.run(store, folders["full"] / "state" / "journal.db", options.sessions)
        stored = f"{options.sessions:,} stored"
        starts = {
            "python -c 'import trio'": partial(_run, [*python, "import trio"]),
            "skilld, nothing stored": partial(_restart, Daemon(folders["empty"])),
            f"skilld, {stored}": partial(_restart, Daemon(folders["full"])),
            f"skilld, {stored}, with an API key": partial(
                _restart, Daemon(folders["full"], ANTHROPIC_API_KEY="no-key")
            ),
        }
        report("exec to ready", measure(starts, options.rounds), _REACH_MS["ready"])
        daemon = Daemon(folders["full"])
        daemon.start()
        try:
            status = partial(_run, [*_program("skillctl"), "status"], {"SKILLD_SOCKET": str(daemon.socket)})
            commands = {
                "python -c pass": partial(_run, [*python, "pass"]),
                "python -c 'import click'": partial(_run, [*python, "import click"]),
                f"skillctl status, {stored}": status,
                "skillctl --help": partial(_run, [*_program("skillctl"), "--help"]),
            }
            print()
            report("a whole process", measure(commands, 2 * options.rounds), _REACH_MS["status"])
        finally:
            daemon.stop()


if __name__ == "__main__":
    main()
