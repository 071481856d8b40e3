"""The store and the events of the workshop in the real daemon: kills, races, and the commands."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.harness import Daemon, running
from skilld.client import Client, SkilldError

pytestmark = pytest.mark.e2e

KILLS = 2
WRITERS = 3


def test_what_was_acknowledged_is_there_after_kills_and_every_event_came_once(tmp_path: Path) -> None:
    """Writers raise counters by compare-and-set while the daemon is killed; a follower sees the whole line."""
    with running(tmp_path) as daemon, ThreadPoolExecutor(WRITERS + 1) as pool:
        told, done = [0] * WRITERS, threading.Event()
        follower = pool.submit(follow, daemon, WRITERS)
        writers = [pool.submit(write, daemon, number, told, done) for number in range(WRITERS)]
        for round_ in range(1, KILLS + 1):
            while min(told) < 10 * round_:
                assert not any(writer.done() for writer in writers), [writer.exception() for writer in writers]
                done.wait(0.01)
            daemon.kill()
            daemon.start()
        done.set()
        for writer in writers:
            writer.result()
        with Client(daemon.socket) as client:
            for number in range(WRITERS):
                entry = client.value("counts", str(number))
                assert entry["value"] == entry["version"] >= told[number] >= 10 * KILLS
                client.publish_event("custom.end", f"w{number}")
        seen = follower.result()
        assert seen == list(range(1, len(seen) + 1))
        daemon.stop()
        daemon.start()
        assert "damaged" not in daemon.log.read_text()


def write(daemon: Daemon, number: int, told: list[int], done: threading.Event) -> None:
    """The value is the version that it is put at, so that a lost or doubled write shows."""
    version = 0
    while not done.is_set():
        with Client(daemon.socket, transport="plain") as client:
            try:
                while not done.is_set():
                    version = client.put_value("counts", str(number), version + 1, expected=version)["version"]
                    told[number] = version
            except SkilldError as error:
                if error.code == "conflict" and error.details["found"] != version + 1:
                    raise
                version += error.code == "conflict"  # it was written, and the answer lost
                done.wait(0.05)


def follow(daemon: Daemon, endings: int) -> list[int]:
    seen, ended = [], 0
    with Client(daemon.socket, transport="plain", reconnect_s=60) as client:
        for event in client.workshop_events():
            seen.append(event.seq)
            ended += event.type.startswith("custom.end.")
            if ended == endings:
                break
    return seen


def test_of_two_clients_that_race_for_a_version_one_wins(tmp_path: Path) -> None:
    with running(tmp_path) as daemon, ThreadPoolExecutor(2) as pool:
        for number in range(20):
            start = threading.Barrier(2)
            results = [pool.submit(claim, daemon, number, start, who) for who in ("one", "other")]
            won = [who for future in results if (who := future.result()) is not None]
            assert len(won) == 1
            with Client(daemon.socket) as client:
                assert client.value("claims", str(number))["value"] == won[0]


def claim(daemon: Daemon, number: int, start: threading.Barrier, who: str) -> str | None:
    with Client(daemon.socket) as client:
        start.wait(10)
        try:
            client.put_value("claims", str(number), who, expected=0)
        except SkilldError as error:
            if (error.code, error.details) != ("conflict", {"expected": 0, "found": 1}):
                raise
            return None
        return who


def test_the_commands(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:

        def call(*arguments: str, status: int = 0, input: str | None = None) -> str:
            done = daemon.skillctl("workshop", *arguments, input=input)
            assert done.returncode == status, done.stderr
            return done.stdout if status == 0 else done.stderr

        assert call("store", "put", "notes", "today", "it rains") == "1\n"
        assert call("store", "put", "notes", "today", '{"rain": true}', "--expect", "1") == "2\n"
        assert "is at version 2" in call("store", "put", "notes", "today", "x", "--expect", "0", status=1)
        assert json.loads(call("store", "get", "notes", "today")) == {"rain": True}
        assert json.loads(call("store", "get", "notes", "today", "--json"))["version"] == 2
        call("store", "put", "notes", "-", "7", "--text", "--ttl", "60")
        assert json.loads(call("store", "get", "notes", "-", "--json"))["value"] == "7"
        call("store", "put", "notes", "large", "-", input="y" * 500_000)
        assert call("store", "get", "notes", "large") == "y" * 500_000 + "\n"
        keys = call("store", "keys", "notes", "--prefix", "t").splitlines()
        assert [line.split()[:3] for line in keys] == [["NAMESPACE", "KEY", "VERSION"], ["notes", "today", "2"]]
        assert "there is no value" in call("store", "get", "notes", "yesterday", status=1)
        assert "no value" in call("store", "delete", "notes", "yesterday", status=1)
        call("store", "delete", "notes", "today", "--expect", "2")
        for wrong in (("notes",), ("notes", "a", "--all"), ("notes", "--all", "--expect", "1")):
            call("store", "delete", *wrong, status=2)
        call("store", "delete", "notes", "--all")
        assert json.loads(call("store", "keys", "--json")) == {"items": []}

        number = int(call("publish", "custom.deploy", "done", "--data", '{"v": "1.4", "x": "\\u001b[2J"}'))
        call("publish", "agent", "done", status=1)
        for data in ("[]", "{", "1"):
            call("publish", "custom.deploy", "done", "--data", data, status=2)
        (line,) = call("events", "--topic", "custom").splitlines()
        assert line.split()[0] == str(number)
        assert line.endswith("custom.deploy.done v: 1.4, x: [2J")
        last = call("events", "--last", "2", "--json").splitlines()
        assert [json.loads(line)["type"] for line in last] == ["store.clear", "custom.deploy.done"]
        after = call("events", "--after", str(number - 1), "--json").splitlines()
        assert [json.loads(line)["owner_uid"] for line in after] == [os.getuid()]
        assert "did you mean 'agent'" in call("events", "--topic", "agnet", status=1)
        call("events", "--last", "1", "--after", "1", status=2)
