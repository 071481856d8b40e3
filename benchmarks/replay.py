"""Reading a conversation again through the socket: events a second, and what a client that comes back waits for.

A real skilld holds one conversation. Beside it, in turns in the same run: the same rows read by SQLite alone, and for
the client that comes back, a request on a fresh connection that reads nothing (GET /v1/version).

    python benchmarks/replay.py [--turns N] [--rounds N]
"""

from __future__ import annotations

import argparse
import http.client
import socket
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from _daemon import daemon

from skilld.client import Client

_LINES: Final = "application/x-ndjson"


class _Unix(http.client.HTTPConnection):
    """http.client on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("skilld", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def fill(client: Client, turns: int) -> tuple[str, int]:
    """A conversation of so many turns: its id, and the number of its last event."""
    session = str(client.create_session()["id"])
    for number in range(turns):
        sent = client.send(session, f"message {number}")
        client.turn(sent.turn, wait_s=30)
    return session, int(client.session(session)["last_seq"])


def read_all(path: Path, session: str, after: int) -> int:
    """Events behind `after`, read to the end; how many."""
    with closing(_Unix(path)) as connection:
        headers = {"accept": _LINES}
        connection.request("GET", f"/v1/sessions/{session}/events?after={after}&follow=false", headers=headers)
        return connection.getresponse().read().count(b"\n")


def first_event(path: Path, session: str, after: int) -> None:
    """Come back with a position, as a client does that lost its connection; until its first event is there."""
    with closing(_Unix(path)) as connection:
        headers = {"accept": "text/event-stream", "last-event-id": str(after)}
        connection.request("GET", f"/v1/sessions/{session}/events", headers=headers)
        assert connection.getresponse().readline().startswith(b"id:")


def version(path: Path) -> None:
    """A request that reads nothing."""
    with closing(_Unix(path)) as connection:
        connection.request("GET", "/v1/version")
        connection.getresponse().read()


def read_rows(journal: Path, session: str) -> int:
    """The same rows by SQLite alone; how many."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT seq, type, time, turn, data FROM event WHERE session = ? ORDER BY seq", [session])
        return len(rows.fetchall())


def timed_ms(action: Callable[[], object]) -> float:
    """Milliseconds it takes."""
    began_s = time.perf_counter()
    action()
    return (time.perf_counter() - began_s) * 1000


def measure(turns: int, rounds: int) -> tuple[int, dict[str, list[float]]]:
    """How many events there are, and milliseconds by way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "skills").mkdir()
        path, journal = folder / "skilld.sock", folder / "state" / "journal.db"
        with daemon(folder) as client:
            session, last = fill(client, turns)
            count = read_all(path, session, 0)
            ways: dict[str, Callable[[], object]] = {
                "SQLite alone": lambda: read_rows(journal, session),
                "skilld, all events": lambda: read_all(path, session, 0),
                "GET /v1/version": lambda: version(path),
                "back at the end": lambda: first_event(path, session, last - 1),
                "back at the start": lambda: first_event(path, session, 0),
            }
            times_ms: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, action in ways.items():
                    times_ms[way].append(timed_ms(action))
    return count, times_ms


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=500, help="turns of the conversation")
    parser.add_argument("--rounds", type=int, default=20, help="how often each way is taken")
    options = parser.parse_args()
    count, times_ms = measure(options.turns, options.rounds)
    p50_ms = {way: statistics.median(values) for way, values in times_ms.items()}
    print(f"{f'replay of {count} events':24} {'p50 ms':>8} {'events/s':>10} {'ratio':>6}")
    for way in ("SQLite alone", "skilld, all events"):
        rate = count / p50_ms[way] * 1000
        print(f"{way:24} {p50_ms[way]:8.2f} {rate:10,.0f} {p50_ms[way] / p50_ms['SQLite alone']:6.2f}")
    print(f"\n{'until the first event':24} {'p50 ms':>8} {'max ms':>10} {'added':>6}")
    for way in ("GET /v1/version", "back at the end", "back at the start"):
        added = p50_ms[way] - p50_ms["GET /v1/version"]
        print(f"{way:24} {p50_ms[way]:8.2f} {max(times_ms[way]):10.2f} {added:6.2f}")


if __name__ == "__main__":
    main()
