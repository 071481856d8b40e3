"""SIGKILL at every durable step by name, right before its commit and right after it, before anybody is told.

The daemon is the real one; the interpreter that runs it kills itself where a file says. What random kills find by
chance (`test_crash.py`) is here once for each place, with what must be there afterwards.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from e2e.crash_kit import ENDINGS, check_file, wait_for_tools_gone
from e2e.harness import JSON, Daemon, running, write_skill

pytestmark = [
    pytest.mark.e2e,
    # httpx leaks the socket of a connect that fails, and here they fail by design.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SITE = """
import os, signal, sys
if any(argument.endswith("skilld") for argument in sys.orig_argv[:3]):
    from skill_actors.store import changes, commit, copying

    def wanted():
        try:
            with open(os.environ["KILL_AT"]) as file:
                return file.read().split()
        except FileNotFoundError:
            return "", ""

    def steps(job):
        write = job.write
        change = getattr(write, "change", None)
        if change is None:
            return {type(write).__name__}
        found = {event.type for event in change.events}
        if not change.events:
            found |= {name for name in ("settings", "totals") if getattr(change, name) is not None}
        return found

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def hooked(inner):
        def call(self, batch, before_sync):
            step, when = wanted()
            here = any(step in steps(job) for job in batch)
            inner(self, batch, die if here and when == "before" else before_sync)
            if here:
                die()
        return call

    def copied(inner):
        def call(self, source):
            step, when = wanted()
            if (step, when) == ("copy", "before"):
                die()
            done = inner(self, source)
            if step == "copy":
                die()
            return done
        return call

    commit.Committer.commit = hooked(commit.Committer.commit)
    copying.JournalCopy.step = copied(copying.JournalCopy.step)
"""

SCRIPT = """
import os, sys, time
with open({outside!r}, "a") as file:
    file.write(sys.argv[1] + "\\n")
with open("made.txt", "a") as file:
    file.write(sys.argv[1] + "\\n")
if len(sys.argv) > 2:
    time.sleep(60)
print("did", sys.argv[1])
"""


class Place(NamedTuple):
    """Where the daemon dies."""

    step: str
    when: str

    def __str__(self) -> str:
        return f"{self.step}-{self.when}"


class After(NamedTuple):
    """What is there after the next start: how the turn ended, how often its tool ran, how many calls are in doubt."""

    status: str
    ran: int
    ambiguous: int


MESSAGES = {
    Place("turn.queued", "before"): After("finished", 1, 0),  # nobody was told; sent again
    Place("turn.queued", "after"): After("finished", 1, 0),
    Place("turn.started", "before"): After("finished", 1, 0),  # it only waited
    Place("turn.started", "after"): After("interrupted", 0, 0),
    Place("model.message", "before"): After("interrupted", 0, 0),
    Place("model.message", "after"): After("interrupted", 0, 0),  # asked for, never started: not in doubt
    Place("tool.started", "before"): After("interrupted", 0, 0),
    Place("tool.started", "after"): After("interrupted", 0, 1),
    Place("tool.finished", "before"): After("interrupted", 1, 1),
    Place("tool.finished", "after"): After("interrupted", 1, 0),
    Place("turn.finished", "before"): After("interrupted", 1, 0),
    Place("turn.finished", "after"): After("finished", 1, 0),
}
RECOVERIES = [Place(step, when) for step in ("totals", "turn.interrupted") for when in ("before", "after")]


class Killer:
    """A daemon that dies where it is told, and what was acknowledged by it."""

    def __init__(self, daemon: Daemon, switch: Path, outside: Path) -> None:
        self.daemon = daemon
        self._switch = switch
        self._outside = outside
        self.acked: dict[str, dict[str, str]] = {}

    def dies(self, place: Place, act: Callable[[], object]) -> None:
        """Arm, act, see it die; disarmed afterwards, and not started again."""
        armed = self._switch.with_suffix(".new")
        armed.write_text(f"{place.step} {place.when}")
        armed.replace(self._switch)  # whole at once: the daemon may look at any time
        with suppress(httpx.TransportError):
            act()
        assert self.daemon.process is not None
        assert self.daemon.process.wait(60) == -9, f"it did not die at {place}"
        self._switch.unlink()
        wait_for_tools_gone(str(self.daemon.state))

    def send(self, session: str, key: str, *words: str) -> str:
        answer = self.daemon.post(session, " ".join(["/job", key, *words]), key)
        assert answer.status_code == 202, answer.text
        turn = str(answer.json()["turn"])
        assert self.acked.setdefault(session, {}).setdefault(key, turn) == turn, "another turn under the same key"
        return turn

    def found(self, session: str, key: str, *words: str) -> After:
        """Send again under the same key, wait for the end, and look at what became of the message."""
        turn = self.daemon.wait(self.send(session, key, *words))
        events = self.daemon.events(session)
        assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})
        assert Counter(e["type"] for e in events if e["type"] in ("turn.queued", *ENDINGS)).most_common(1)[0][1] == 1
        ran = Counter(self._outside.read_text().split() if self._outside.exists() else ())[key]
        return After(turn["status"], ran, len(turn["result"].get("ambiguous", ())))


@pytest.fixture
def killer(tmp_path: Path) -> Iterator[Killer]:
    site, outside, switch = tmp_path / "site", tmp_path / "outside.txt", tmp_path / "kill-at"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    write_skill(tmp_path / "skills", "job", SCRIPT.format(outside=str(outside)))
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    env = {"PYTHONPATH": path, "KILL_AT": str(switch)}
    with running(tmp_path, skills=[tmp_path / "skills"], env=env) as daemon:
        killer = Killer(daemon, switch, outside)
        yield killer
    check_file(daemon.state, killer.acked)


def test_a_message_survives_a_kill_at_each_of_its_steps(killer: Killer) -> None:
    daemon = killer.daemon
    for place, expected in MESSAGES.items():
        session, key = daemon.create(), f"key-{place}"
        killer.dies(place, partial(killer.send, session, key))
        daemon.start()
        assert killer.found(session, key) == expected, place
        assert killer.found(session, key) == expected, place


def test_a_turn_that_was_cut_is_closed_once_though_the_start_that_closes_it_is_killed_too(killer: Killer) -> None:
    daemon = killer.daemon
    for place in RECOVERIES:
        session, key = daemon.create(), f"key-{place}"
        killer.dies(Place("tool.finished", "before"), partial(killer.send, session, key))
        killer.dies(place, daemon.launch)
        daemon.start()
        assert killer.found(session, key) == After("interrupted", 1, 1), place
        told = Counter(event["type"] for event in daemon.events(session))
        assert told["session.restarted"] == 1, place


@pytest.mark.parametrize(("when", "status"), [("before", "interrupted"), ("after", "cancelled")])
def test_a_cancel_survives_a_kill_and_its_tool_does_not(killer: Killer, when: str, status: str) -> None:
    daemon = killer.daemon
    session = daemon.create()
    turn = killer.send(session, "key", "slowly")
    deadline = time.monotonic() + 60
    while not (daemon.state / "workspaces" / session / "made.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)

    def cancel() -> None:
        with daemon.http() as http:
            http.post(f"/v1/turns/{turn}/cancel")

    killer.dies(Place("turn.cancelled", when), cancel)
    daemon.start()
    assert killer.found(session, "key", "slowly") == After(status, 1, 0)  # its tool had ended, as cancelled


def test_making_and_changing_a_session_is_whole_or_not_at_all_over_a_kill(killer: Killer) -> None:
    daemon = killer.daemon
    source = daemon.create()
    killer.send(source, "first")
    daemon.wait(killer.acked[source]["first"])
    exported = daemon.skillctl("export", source).stdout

    def create(key: str) -> httpx.Response:
        return ask(daemon, "POST", "/v1/sessions", key, json={"title": key})

    def fork(key: str) -> httpx.Response:
        return ask(daemon, "POST", f"/v1/sessions/{source}/fork", key, json={})

    def take_in(key: str) -> httpx.Response:
        return ask(daemon, "POST", "/v1/sessions/import", key, content=exported)

    ways = {"CreateWrite": [create], "FoundWrite": [fork, take_in]}
    for step, makers in ways.items():
        for make in makers:
            for when in ("before", "after"):
                place, before, key = Place(step, when), ids(daemon), f"{make.__name__}-{when}"
                killer.dies(place, partial(make, key))
                daemon.start()
                wait_for_files_of(daemon, ids(daemon))
                assert len(ids(daemon)) == len(before) + (when == "after"), place
                made = make(key).json()["id"]
                assert ids(daemon) == before | {made}, place
                ran = make is not create
                assert [e["data"]["text"] for e in daemon.events(made) if e["type"] == "turn.queued"] == [
                    "/job first"
                ] * ran
                files = daemon.state / "workspaces" / made / "made.txt"
                assert files.exists() == (make is fork), place
                assert daemon.ask(made, f"/job again-{made}")["status"] == "finished", place


def test_a_change_of_a_session_is_whole_or_not_at_all_over_a_kill(killer: Killer) -> None:
    daemon = killer.daemon
    for when in ("before", "after"):
        session, key = daemon.create(title="old"), f"key-{when}"
        assert killer.found(session, key) == After("finished", 1, 0)
        files = daemon.state / "workspaces" / session

        killer.dies(
            Place("settings", when),
            partial(ask, daemon, "PATCH", f"/v1/sessions/{session}", json={"title": "new"}),
        )
        daemon.start()
        assert shown(daemon, session)["title"] == {"before": "old", "after": "new"}[when]

        whole = daemon.events(session)
        reset = f"/v1/sessions/{session}/reset"
        killer.dies(Place("session.reset", when), partial(ask, daemon, "POST", reset, json={"workspace": True}))
        daemon.start()
        assert len(daemon.events(session)) == len(whole) + (when == "after")
        assert (files / "made.txt").exists()  # they go after the commit; nobody was told that they are gone
        assert ask(daemon, "POST", reset, json={"workspace": True}).status_code == 200
        assert not files.exists()


def test_a_deletion_is_whole_or_not_at_all_over_a_kill(killer: Killer) -> None:
    daemon = killer.daemon
    for when in ("before", "after"):
        session = daemon.create()
        turn = daemon.post(session, f"/job {session}").json()["turn"]
        assert daemon.wait(turn)["status"] == "finished"
        events = daemon.events(session)
        files = daemon.state / "workspaces" / session
        assert (files / "made.txt").exists()
        delete = f"/v1/sessions/{session}"
        killer.dies(Place("DeleteWrite", when), partial(ask, daemon, "DELETE", delete))
        daemon.start()
        if when == "before":
            assert daemon.events(session) == events
            assert (files / "made.txt").exists()
            assert ask(daemon, "DELETE", delete).status_code == 204
        assert ask(daemon, "GET", delete).status_code == 404
        assert ask(daemon, "GET", f"/v1/turns/{turn}").status_code == 404
        wait_for_files_of(daemon, set())
    daemon.stop()
    with sqlite3.connect(daemon.state / "journal.db") as db:
        left = [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("event", "turn", "session")]
    db.close()
    assert left == [0, 0, 0]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_backup_that_is_killed_leaves_no_backup_and_no_copy(killer: Killer, tmp_path: Path, when: str) -> None:
    daemon, out = killer.daemon, tmp_path / "out"
    out.mkdir()
    session = daemon.create()
    killer.send(session, "key")
    killer.dies(Place("copy", when), lambda: daemon.skillctl("backup", str(out / "b.tar"), timeout_s=60))
    assert list(out.iterdir()) == []
    daemon.start()
    assert daemon.skillctl("backup", str(out / "b.tar"), timeout_s=60).returncode == 0
    assert not list(daemon.state.glob("backup-*"))
    killer.found(session, "key")


def ask(daemon: Daemon, method: str, path: str, key: str | None = None, **rest: object) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    with daemon.http() as http:
        return http.request(method, path, headers=headers, **rest)  # type: ignore[arg-type]


def shown(daemon: Daemon, session: str) -> JSON:
    found: JSON = ask(daemon, "GET", f"/v1/sessions/{session}").json()
    return found


def ids(daemon: Daemon) -> set[str]:
    """All sessions."""
    return {item["id"] for item in json.loads(ask(daemon, "GET", "/v1/sessions").text)["items"]}


def wait_for_files_of(daemon: Daemon, sessions: set[str]) -> None:
    """Wait until no folder of files belongs to any other session: a start sweeps beside its work."""
    deadline = time.monotonic() + 60
    while {path.name for path in (daemon.state / "workspaces").iterdir()} - sessions:
        assert time.monotonic() < deadline
        time.sleep(0.02)
