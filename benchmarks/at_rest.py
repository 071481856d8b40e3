"""What a daemon that does nothing takes: memory, and the time of a scrape of its metrics.

    python benchmarks/at_rest.py [--sessions N] [--live N] [--scrapes N]

Beside a bare interpreter that has imported trio, and a request that asks nothing (GET /v1/health/live). Stored
conversations are on disk alone; live ones have had a turn of the offline model since the start, and are in memory. The
memory is what the process has resident, and what of it nobody else shares, a second after the last request. Series are
the lines of the metrics that are no comment: their number must not grow with conversations. A live conversation takes
the daemon about 10 ms of processor time, so that 10,000 are there after two minutes of a core.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio
from _daemon import daemon
from ready import store

from skilld.client import Client

_WRITERS: Final = 8
_REST_S: Final = 1.0


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident, and of that private."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0])
    return found["Rss"] / 1024, (found["Private_Clean"] + found["Private_Dirty"]) / 1024


def bare_mb() -> tuple[float, float]:
    """Of an interpreter with trio."""
    command = [sys.executable, "-c", "import sys, trio; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = memory_mb(process.pid)
        process.communicate()
    return found


def times_ms(what: Callable[[], object], count: int) -> tuple[float, float]:
    """p50 and p99; of fewer than 100, the longest instead of the latter."""
    taken = []
    for _ in range(count):
        began_s = time.perf_counter()
        what()
        taken.append((time.perf_counter() - began_s) * 1e3)
    taken.sort()
    return statistics.median(taken), taken[math.ceil(len(taken) * 0.99) - 1]


def make_live(socket: str, count: int) -> None:
    """Give so many new conversations a turn each."""
    left = iter(range(count))
    lock = threading.Lock()

    def some() -> None:
        with Client(socket) as client:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                made = client.create_session()
                client.turn(client.send(made["id"], "hello").turn, wait_s=30)

    with ThreadPoolExecutor(_WRITERS) as pool:
        for done in [pool.submit(some) for _ in range(_WRITERS)]:
            done.result()


def row(title: str, client: Client, scrapes: int) -> None:
    """Print what it takes now."""
    time.sleep(_REST_S)
    rss, private = memory_mb(int(client.status()["pid"]))
    floor_ms, _ = times_ms(client.health, scrapes)
    scrape_ms, p99_ms = times_ms(client.metrics, scrapes)
    series = sum(not line.startswith("#") for line in client.metrics().splitlines())
    print(
        f"{title:40} {rss:8.1f} {private:8.1f} {scrape_ms:10.2f} {p99_ms:8.2f} {scrape_ms / floor_ms:7.1f} {series:7}",
        flush=True,  # the next row takes minutes
    )


@contextmanager
def folder_with(sessions: int) -> Iterator[Path]:
    """A folder whose state has so many conversations."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if sessions:
            trio.run(store, folder / "state" / "journal.db", sessions)
        yield folder


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--live", type=int, default=10_000)
    parser.add_argument("--scrapes", type=int, default=100)
    options = parser.parse_args()
    head = f"{'at rest':40} {'RSS MB':>8} {'private':>8} {'scrape p50':>10} {'p99 ms':>8} {'x live':>7} {'series':>7}"
    print(head)
    rss, private = bare_mb()
    print(f"{'python, trio imported':40} {rss:8.1f} {private:8.1f}")
    with folder_with(0) as folder, daemon(folder) as client:
        row("skilld, nothing stored", client, options.scrapes)
        make_live(os.fspath(folder / "skilld.sock"), 1)
        row("skilld, after its first turn", client, options.scrapes)
    with folder_with(options.sessions) as folder, daemon(folder) as client:
        row(f"skilld, {options.sessions:,} stored", client, options.scrapes)
        make_live(os.fspath(folder / "skilld.sock"), options.live)
        row(f"skilld, {options.live:,} live besides", client, options.scrapes)


if __name__ == "__main__":
    main()
