"""An event log on a disk that is really full: whole lines, all of them once there is room, and nobody else waits."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from otlp_kit import in_trio
from sink_kit import report
from skilld.monitor.sinks.log_files import CURRENT, ended_files, verify
from tree_kit import Tree, open_tree

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small tmpfs")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilld.monitor.sinks.event_log._FIRST_WAIT_S", 0.05)


def numbers(folder: Path) -> list[int]:
    """Of the events in all files. Half a line fails here."""
    paths = [*ended_files(folder), folder / CURRENT]
    found = [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    return [line["data"]["n"] for line in found if "data" in line]


async def status_of(tree: Tree, state: str, problem: str = "") -> dict[str, Any]:
    with trio.fail_after(30):
        async with tree.http() as http:
            while True:
                (found,) = (await http.get("/v1/monitor/sinks")).json()["items"]
                if found["state"] == state and problem in found["problem"] and (state == "waiting" or not found["lag"]):
                    return dict(found)
                await trio.sleep(0.05)


@in_trio
async def test_it_waits_for_room_and_nothing_is_lost_or_twice(tmp_path: Path, disk: Path) -> None:
    (disk / "ballast").write_bytes(b"x" * (128 << 10))
    log = disk / "log"
    flags: dict[str, Any] = {
        "monitor.event_log.folder": str(log),
        "monitor.event_log.max_file_bytes": 32 << 10,
        "monitor.event_log.gzip": False,
    }
    async with open_tree(tmp_path, **flags) as tree:
        monitor = await tree.parts.monitor.wait()
        await trio.to_thread.run_sync(lambda: report(monitor, *[{}] * 600))
        monitor.arrived.set()
        full = await status_of(tree, "waiting", "No space left")
        assert full["lag"] > 0
    before = numbers(log)  # when nobody tries any more, who would have half a line there for a moment
    assert before == list(range(len(before)))
    assert 0 < len(before) < 600
    async with open_tree(tmp_path, **flags) as tree:  # it is full still
        await status_of(tree, "waiting", "No space left")
        (disk / "ballast").unlink()
        await status_of(tree, "following")
    assert numbers(log) == list(range(600))
    assert [one.problem for one in verify(log)] == [""] * len(ended_files(log))


@in_trio
async def test_what_the_rules_let_go_makes_room(tmp_path: Path, disk: Path) -> None:
    """Files that are too old go also while nothing can be written: otherwise nothing ever could be."""
    log = disk / "log"
    log.mkdir()
    for day in range(1, 8):
        old = log / f"events-2020010{day}T000000.000000Z.jsonl"
        old.write_bytes(b"x" * (36 << 10))
    flags: dict[str, Any] = {"monitor.event_log.folder": str(log), "monitor.event_log.gzip": False}
    async with open_tree(tmp_path, **flags) as tree:
        monitor = await tree.parts.monitor.wait()
        await trio.to_thread.run_sync(lambda: report(monitor, *[{}] * 100))
        monitor.arrived.set()
        await status_of(tree, "waiting", "No space left")
        for old in log.glob("events-2020*"):
            os.utime(old, (0, 0))
        await status_of(tree, "following")
    assert numbers(log) == list(range(100))
