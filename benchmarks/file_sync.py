"""Files to a bucket through the storage, beside the S3 client alone on the same server; and what a look costs.

    python benchmarks/file_sync.py [--rounds N] [--megabytes N] [--looks N]

The server is moto's, on the loopback: it is slow, so the ratio says more than the megabytes. Needs the packages of
the tests. Prints MB/s of uploads and downloads, of one large file and of many small ones, and milliseconds a look.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import trio
from moto.server import ThreadedMotoServer

from skill_actors.files import WorkspaceWatch
from skill_actors.files.changes import Known
from skill_actors.files.snapshot import mark_of
from skill_actors.files.storage import Credentials, S3Options, S3Storage

_BUCKET = "bench"
_KEYS = Credentials(access_key_id="k", secret_access_key="s")
_PARALLEL = 4


def _client(url: str) -> Any:
    import boto3

    return boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=_KEYS.access_key_id,
        aws_secret_access_key=_KEYS.secret_access_key,
    )


def _fill(folder: Path, count: int, size: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"f{number:05}").write_bytes(os.urandom(size))


def _alone(url: str, folder: Path, prefix: str) -> tuple[float, float]:
    """Seconds of the client alone, as many requests at once as the storage makes: up, and down again."""
    client, names = _client(url), sorted(path.name for path in folder.iterdir())
    target = folder.with_name(f"{folder.name}-alone-{prefix}")
    target.mkdir()

    def up(name: str) -> None:
        client.upload_file(str(folder / name), _BUCKET, f"{prefix}/{name}")

    def down(name: str) -> None:
        client.download_file(_BUCKET, f"{prefix}/{name}", str(target / name))

    try:
        return _timed(up, names), _timed(down, names)
    finally:
        client.close()


def _timed(work: Callable[[str], None], names: Sequence[str]) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(_PARALLEL) as pool:
        list(pool.map(work, names))
    return time.perf_counter() - began


async def _stored(url: str, folder: Path, session: str) -> tuple[float, float]:
    """Seconds of the storage: up, and down again."""
    options = S3Options(bucket=_BUCKET, cache=folder, endpoint=url, style="path", credentials=_KEYS, parallel=_PARALLEL)
    storage = S3Storage(options)
    began = time.perf_counter()
    report = await storage.sync_to_remote(session, folder)
    up_s = time.perf_counter() - began
    assert report.is_whole, report.failed
    began = time.perf_counter()
    report = await storage.sync_from_remote(session, folder.with_name(f"{folder.name}-stored-{session}"))
    down_s = time.perf_counter() - began
    assert report.is_whole, report.failed
    await storage.aclose()
    return up_s, down_s


async def _sync(url: str, root: Path, megabytes: int, rounds: int) -> None:
    print(f"{'sync':>28} {'client MB/s':>12} {'storage MB/s':>13} {'ratio':>6}")
    for label, count, size in (("one file", 1, megabytes << 20), ("small files", 200, 20_000)):
        folder = root / label.replace(" ", "-")
        _fill(folder, count, size)
        total = count * size / 1e6
        alone, stored = [], []
        for number in range(rounds):  # by turns, so that both meet the same machine
            alone.append(await trio.to_thread.run_sync(_alone, url, folder, f"a{number}"))
            stored.append(await _stored(url, folder, f"s{number}"))
        for way, which in enumerate(("up", "down")):
            floor_s = statistics.median(pair[way] for pair in alone)
            ours_s = statistics.median(pair[way] for pair in stored)
            print(f"{label + ', ' + which:>28} {total / floor_s:12.1f} {total / ours_s:13.1f} {ours_s / floor_s:6.2f}")


async def _looks(root: Path, looks: int) -> None:
    print(f"{'look at a workspace':>28} {'p50 ms':>12} {'p95 ms':>13}")
    for count in (10, 1_000, 20_000):
        folder = root / f"look-{count}"
        for number in range(count):
            inner = folder / f"d{number // 100}"
            if number % 100 == 0:
                inner.mkdir(parents=True)
            (inner / f"f{number}").write_bytes(b"x")
        events = [
            (f"d{number // 100}/f{number}", (folder / f"d{number // 100}/f{number}").stat()) for number in range(count)
        ]
        known = {name: Known(mark_of(facts), None, "") for name, facts in events}
        watch = WorkspaceWatch(folder, "local", known=known)
        times_ms = []
        for _ in range(looks):
            began = time.perf_counter()
            assert not await watch.changes()
            times_ms.append((time.perf_counter() - began) * 1000)
        p50_ms, p95_ms = statistics.median(times_ms), statistics.quantiles(times_ms, n=20)[-1]
        print(f"{f'{count} files, no change':>28} {p50_ms:12.2f} {p95_ms:13.2f}")


async def main(megabytes: int, rounds: int, looks: int) -> None:
    """Measure and print both tables."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        client = _client(url)
        client.create_bucket(Bucket=_BUCKET)
        client.close()
        with tempfile.TemporaryDirectory() as folder:
            await _sync(url, Path(folder), megabytes, rounds)
            await _looks(Path(folder), looks)
    finally:
        server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=32, help="size of the large file")
    parser.add_argument("--looks", type=int, default=40, help="at each workspace; at least 2")
    options = parser.parse_args()
    trio.run(main, options.megabytes, options.rounds, options.looks)
