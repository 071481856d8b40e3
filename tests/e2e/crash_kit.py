"""Load on a daemon that is killed again and again, and a checker that trusts nothing but what it was told and the file.

Senders send numbered messages with keys; each message has the model run a tool that appends the key to a file outside.
Followers read the events of a session and resume, after every cut, behind the last one they have seen.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from e2e.harness import JSON, Daemon, processes_with

ENDINGS = frozenset({"turn.finished", "turn.failed", "turn.cancelled", "turn.interrupted"})
RESTING = frozenset({"finished", "failed", "cancelled", "interrupted"})
ORPHANS_S = 2.0  # the figure; the test fails past ten times that

MakeText = Callable[[str], str]


class Sender(threading.Thread):
    """Sends messages one after the other until the daemon goes away, and remembers which were acknowledged."""

    def __init__(self, daemon: Daemon, session: str, name: str, text: MakeText) -> None:
        super().__init__(daemon=True)
        self._daemon, self._session, self._name, self._text = daemon, session, name, text
        self.acked: dict[str, str] = {}  # key -> turn, in order
        self.unsure: str | None = None  # sent when the daemon went away: taken or not
        self._enough = threading.Event()

    def run(self) -> None:
        with self._daemon.http(timeout_s=20) as http:  # a kill is heard at once; this is for a machine that is busy
            for number in range(200):
                if self._enough.is_set():
                    return
                key = f"{self._name}-{number}"
                try:
                    answer = self.send(http, key)
                except httpx.TransportError:
                    self.unsure = key
                    return
                if answer.status_code == 202:
                    self.acked[key] = answer.json()["turn"]
                else:
                    time.sleep(0.02)

    def send(self, http: httpx.Client, key: str) -> httpx.Response:
        return http.post(
            f"/v1/sessions/{self._session}/messages",
            json={"text": self._text(key)},
            headers={"Idempotency-Key": key},
        )

    def stop(self) -> None:
        self._enough.set()
        self.join(30)
        assert not self.is_alive(), "what it was acknowledged is not known yet"


class Follower(threading.Thread):
    """Reads a session's events, over every cut and every start of the daemon. `seen` holds all it was told."""

    def __init__(self, daemon: Daemon, session: str) -> None:
        super().__init__(daemon=True)
        self._daemon, self.session = daemon, session
        self.seen: list[tuple[int, int | None, JSON]] = []
        self.cuts = 0
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.is_set():
            try:
                if self._daemon.listens():
                    self._read()
            except (httpx.HTTPError, OSError):
                self.cuts += 1
            time.sleep(0.02)

    def _read(self) -> None:
        headers = {"accept": "text/event-stream"}
        if self.seen:
            seq, offset, _ = self.seen[-1]
            headers["last-event-id"] = str(seq) if offset is None else f"{seq}.{offset}"
        with (
            self._daemon.http(timeout_s=1.0) as http,
            http.stream("GET", f"/v1/sessions/{self.session}/events", headers=headers) as stream,
        ):
            stream.raise_for_status()
            position = ""
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    position = line[4:]
                elif line.startswith("data: "):
                    number, _, chars = position.partition(".")
                    self.seen.append((int(number), int(chars) if chars else None, json.loads(line[6:])))
                if self._done.is_set():
                    return

    def finish(self, last_seq: int, timeout_s: float = 30.0) -> None:
        """Wait until the event `last_seq` has been seen, then end."""
        deadline = time.monotonic() + timeout_s
        while not self.seen or self.seen[-1][0] < last_seq:
            assert time.monotonic() < deadline, f"event {last_seq} never came, the last was {self.seen[-1:]}"
            time.sleep(0.02)
        self._done.set()
        self.join(10)


@dataclass
class Toll:
    """What a whole test was told: acknowledgements by session, and events by follower."""

    acked: dict[str, dict[str, str]] = field(default_factory=dict)  # session -> key -> turn
    unsure: set[str] = field(default_factory=set)
    slowest_orphan_s: float = 0.0

    def add(self, session: str, sender: Sender) -> None:
        self.acked.setdefault(session, {}).update(sender.acked)
        if sender.unsure is not None:
            self.unsure.add(sender.unsure)

    @property
    def count(self) -> int:
        return sum(map(len, self.acked.values()))


def wait_for_acknowledged(senders: Sequence[Sender], count: int, timeout_s: float = 20.0) -> None:
    """Wait until so many messages were acknowledged in all, or nobody sends any more: threads may start late."""
    deadline = time.monotonic() + timeout_s
    while sum(len(sender.acked) for sender in senders) < count and any(sender.is_alive() for sender in senders):
        assert time.monotonic() < deadline, f"fewer than {count} messages were acknowledged"
        time.sleep(0.005)


def wait_for_tools_gone(marker: str) -> float:
    """Seconds until no process carries the marker."""
    began = time.monotonic()
    while left := processes_with(marker):
        assert time.monotonic() - began < 10 * ORPHANS_S, f"processes left behind: {left}"
        time.sleep(0.02)
    return time.monotonic() - began


# The checker


def check_all(daemon: Daemon, toll: Toll, followers: Iterable[Follower], outside: Path) -> None:
    """Hold what clients were told against what the daemon says and, apart from it, against the file on disk."""
    stored = {session: daemon.events(session) for session in toll.acked}
    for session, acked in toll.acked.items():
        check_session(stored[session], acked)
    for follower in followers:
        check_follower(stored[follower.session], follower)
    check_tools(outside, toll, stored)


def check_session(events: Sequence[JSON], acked: Mapping[str, str]) -> None:
    """Every acknowledged message once, in the order of acknowledgement, with exactly one ending."""
    seqs = [event["seq"] for event in events]
    assert seqs == sorted(set(seqs))
    queued = [(key_of(event), event["turn"]) for event in events if event["type"] == "turn.queued"]
    keys = Counter(key for key, _ in queued)
    assert not [key for key, count in keys.items() if count > 1], "stored twice"
    turns = dict(queued)
    missing = {key: turn for key, turn in acked.items() if turns.get(key) != turn}
    assert not missing, f"acknowledged and lost: {missing}"
    order = [key for key, _ in queued if key in acked]
    by_sender: dict[str, list[int]] = {}
    for key in order:
        sender, _, number = key.rpartition("-")
        by_sender.setdefault(sender, []).append(int(number))
    assert all(numbers == sorted(numbers) for numbers in by_sender.values()), "out of order"
    endings = Counter(event["turn"] for event in events if event["type"] in ENDINGS)
    assert set(endings.values()) <= {1}
    assert {turn for _, turn in queued} == set(endings), "turns without an ending"


def key_of(event: JSON) -> str:
    """The key a message was sent with: its first line, or the last word of a command."""
    return str(event["data"]["text"]).splitlines()[0].split()[-1]


def check_follower(events: Sequence[JSON], follower: Follower) -> None:
    """Every stored event once and in order; the pieces of each block make up its text as it was stored."""
    positions = [(seq, float("inf") if offset is None else offset) for seq, offset, _ in follower.seen]
    assert all(before < after for before, after in itertools.pairwise(positions)), "seen twice"
    whole = {event["seq"]: event for event in events}
    told = [seq for seq, _, event in follower.seen if event["type"] != "model.delta"]
    assert told == [seq for seq, event in whole.items() if event["type"] != "model.delta"], "a gap, or an invention"
    pieces: dict[int, str] = {}
    for seq, _, event in follower.seen:
        if event["type"] == "model.delta":
            pieces[seq] = pieces.get(seq, "") + event["data"]["text"]
    for seq, event in whole.items():
        if event["type"] == "model.delta":
            assert pieces.get(seq) == event["data"]["text"], f"the pieces of event {seq} are not what was stored"
    lost = pieces.keys() - whole.keys()  # a block that a kill cut short: its number is used for nothing else
    assert not [seq for seq in lost if seq in whole]


def check_tools(outside: Path, toll: Toll, stored: Mapping[str, Sequence[JSON]]) -> None:
    """No tool ran twice, and what the journal says has finished did run."""
    ran = Counter(outside.read_text().split()) if outside.exists() else Counter[str]()
    assert not [key for key, count in ran.items() if count > 1], "ran twice"
    known = {key for acked in toll.acked.values() for key in acked} | toll.unsure
    assert ran.keys() <= known, "a tool ran for a message that nobody sent"
    for events in stored.values():
        keys = {event["turn"]: key_of(event) for event in events if event["type"] == "turn.queued"}
        for event in events:
            if event["type"] == "tool.finished" and event["data"]["outcome"] == "ok":
                assert ran[keys[event["turn"]]] == 1, f"{keys[event['turn']]} is said to have run and did not"


def check_file(state: Path, acked: Mapping[str, Mapping[str, str]]) -> None:
    """The journal as SQLite sees it, with no code of ours: sound, every turn there once and at rest."""
    db = sqlite3.connect(f"file:{state / 'journal.db'}?mode=ro", uri=True)
    try:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for session, turns in acked.items():
            rows: list[Any] = db.execute(
                "SELECT idempotency_key, id, status FROM turn WHERE session = ? ORDER BY seq", [session]
            ).fetchall()
            found = {key: turn for key, turn, _ in rows}
            assert len(found) == len(rows)
            assert {key: found.get(key) for key in turns} == dict(turns)
            assert {status for *_, status in rows} <= RESTING
            queued, last = db.execute(
                "SELECT count(*) FILTER (WHERE type = 'turn.queued'), max(seq) FROM event WHERE session = ?", [session]
            ).fetchone()
            assert queued == len(rows)
            assert last <= db.execute("SELECT last_seq FROM session WHERE id = ?", [session]).fetchone()[0]
    finally:
        db.close()
