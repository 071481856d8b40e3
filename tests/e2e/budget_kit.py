"""Money under load and kills: turns that spend, and books that are read out of the file with no code of ours."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from e2e.harness import Daemon
from skill_actors.testing import Answer, Cut, FakeMessagesApi, HttpError, Reply, StreamError, Text
from skill_actors.testing.load_reply import default_reply

ROUND_S = 1.0  # at most, since caps may let nothing more through
NANO = 1_000_000_000
BASH = '#call bash_tool {"command": "true", "description": "d"}'


class Moods:
    """Answers as an API in a bad hour does: most are good, others are cut, fail halfway, or are refused."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.seen: Counter[str] = Counter()

    def __call__(self, body: Mapping[str, Any]) -> Answer:
        mood = self._random.choices(("good", "cut", "error", "busy"), (80, 8, 6, 6))[0]
        self.seen[mood] += 1
        match mood:
            case "cut":
                return Reply([Text("word " * 40)], fail=Cut(after=self._random.randrange(1, 8)))
            case "error":
                return Reply([Text("word " * 40)], fail=StreamError(after=3))
            case "busy":
                return HttpError(529)
            case _:
                return default_reply(body)


@dataclass
class Books:
    """What the file says was recorded, what is set aside included, in nano-dollars: the sums of its entries."""

    total: int = 0
    by_session: Counter[str] = field(default_factory=Counter)
    by_turn: Counter[str] = field(default_factory=Counter)
    by_day: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)  # of tools, by session
    holds: int = 0  # of model calls
    open_holds: int = 0
    lost: int = 0  # of calls that a kill has cut, charged in full

    unsure: set[str] = field(default_factory=set)  # turns with a call of which nobody knows the whole usage

    @classmethod
    def read(cls, state: Path) -> Books:
        """From a journal, whether somebody has it open or not."""
        books = cls()
        db = sqlite3.connect(f"file:{state / 'journal.db'}?mode=ro", uri=True)
        try:
            columns = "id, kind, hold, session, turn, day, model, data, nanousd, tool_calls"
            rows = db.execute(f"SELECT {columns} FROM ledger").fetchall()
        finally:
            db.close()
        closed = {row[2] for row in rows}
        for id, kind, _, session, turn, day, model, data, nanousd, tool_calls in rows:
            if kind == "hold":
                books.holds += model is not None  # without one it is time that is set aside
                if id in closed:
                    continue  # the entry that closes it says what became of it
                books.open_holds += model is not None
            if model is not None and (kind in ("hold", "lost") or json.loads(data).get("cut")):
                books.unsure.add(turn)
            books.lost += kind == "lost" and model is not None
            books.total += nanousd
            books.by_session[session] += nanousd
            books.by_turn[turn] += nanousd
            books.by_day[day] += nanousd
            books.calls[session] += tool_calls
        return books


@dataclass
class Storm:
    """Rounds of parallel turns on a daemon, each ended by SIGKILL, under caps that change from round to round.

    Args:
        turns: parallel ones in each round.

    """

    daemon: Daemon
    api: FakeMessagesApi
    random: random.Random
    turns: int
    sessions: list[str] = field(default_factory=list)
    caps: dict[str, float] = field(default_factory=dict)  # dollars, by name
    sent: dict[int, str] = field(default_factory=dict)  # turns by what their messages say
    _read: int = 0
    _bill: Counter[str] = field(default_factory=Counter)

    def round(self) -> Books:
        """One round, with the daemon up before and dead after it; the books as the kill has left them."""
        self.begin()
        enough = len(self.api.requests) + self.random.randrange(2 * self.turns)
        deadline = time.monotonic() + ROUND_S
        while len(self.api.requests) < enough and time.monotonic() < deadline:
            time.sleep(0.002)
        self.daemon.kill()
        return Books.read(self.daemon.state)

    def begin(self) -> None:
        """Change the caps, and say something in every conversation."""
        with self.daemon.http() as http:
            del self.sessions[: self.turns // 3]  # the oldest have had their share
            while len(self.sessions) < self.turns:
                self.sessions.append(str(http.post("/v1/sessions", json={}).json()["id"]))
            self.change_caps(http)
            for session in self.random.sample(self.sessions, self.turns):
                number = len(self.sent)
                answer = http.post(f"/v1/sessions/{session}/messages", json={"text": self.message(number)})
                if answer.status_code == 202:
                    self.sent[number] = answer.json()["turn"]

    def message(self, number: int) -> str:
        calls = [BASH] * self.random.randrange(3)
        more = [f"#words {self.random.randrange(60)}", f"#delay {self.random.choice((0, 0.01, 0.03))}"]
        return "\n".join([f"spend {number}", *calls, *more])

    def change_caps(self, http: httpx.Client) -> None:
        """Allow a little more than was spent by now, or nothing more."""
        for name in ("global", "global/day", f"session/{self.random.choice(self.sessions)}"):
            room = (
                self.random.choice((0.0, *(1.0, 2.0, 4.0, 8.0) * 2)) * self.random.uniform(0.2, 1.0) * self.turns / 12
            )
            limit = spent_of(http, name) + room
            http.post("/v1/budgets", json={"name": name, "usd": limit}).raise_for_status()
            # Turns of the round before may still spend, and no cap forbids what was spent before it was set.
            self.caps[name] = max(limit, spent_of(http, name))

    def billed(self) -> Counter[str]:
        """The API's own bill by turn. The last message of a request says which it belongs to."""
        for entry in self.api.bill[self._read :]:
            self._read += 1
            request = self.api.requests[int(entry.request_id.rpartition("_")[2]) - 1]
            said = re.findall(r"spend (\d+)", json.dumps(request.body["messages"]))
            request.body = None  # thousands of them, each with all that was said before
            self._bill[self.sent[int(said[-1])]] += entry.nanousd or 0
        return self._bill

    def check(self, books: Books, billed: Mapping[str, int], each: Mapping[str, float], *, whole: bool = False) -> None:
        """Recorded never above a cap, never below the bill; to the last digit where no call was cut.

        Args:
            billed: also after the kill, since what arrives then was set aside before it was sent.
            each: dollars that each turn and each session may spend.
            whole: all that was recorded is on the bill by now.

        """
        for turn, nanousd in billed.items():
            assert books.by_turn[turn] >= nanousd, f"{turn}: the API has billed more than was recorded"
            assert not whole or turn in books.unsure or books.by_turn[turn] == nanousd, turn
        for session, nanousd in books.by_session.items():
            assert nanousd <= _nano(each["session"]), session
        for turn, nanousd in books.by_turn.items():
            assert nanousd <= _nano(each["turn"]), turn
        for name, usd in self.caps.items():
            first, _, rest = name.partition("/")
            of = books.by_session[rest] if first == "session" else books.total
            if rest != "day" or len(books.by_day) == 1:  # over midnight a day is less than all
                assert of <= _nano(usd), f"{name}: {of} recorded of {usd}"


def spent_of(http: httpx.Client, name: str) -> float:
    """Dollars that were spent, or are set aside, under a cap of all or of one session."""
    answer = http.get("/v1/usage", params={"by": "session"})
    assert answer.status_code == 200, answer.text
    items = answer.json()["items"]
    first, _, rest = name.partition("/")
    return sum(float(item["known_usd"]) for item in items if first != "session" or item["key"] == rest)


def wait_all(daemon: Daemon, turns: Sequence[str]) -> Counter[str]:
    """Wait for the endings of turns; how many ended with which status, or code of an error."""
    ended: Counter[str] = Counter()
    with daemon.http(timeout_s=90) as http:
        for turn in turns:
            found = http.get(f"/v1/turns/{turn}", params={"wait": 60}).json()
            assert found["result"] is not None, found
            ended[(found["result"].get("error") or {}).get("code") or found["status"]] += 1
    return ended


def _nano(usd: float) -> int:
    return int(usd * NANO) + 1  # a cap is a float, and every amount is rounded up
