"""Money, asked for with both clients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fake_daemon import FakeDaemon, fake_daemon
from skilld.client import AsyncClient, Client
from support import run

SPENT: dict[str, Any] = {"by": "user", "since": "2026-01-15", "until": None, "items": [], "total": {}}
CAP: dict[str, Any] = {"name": "global/day", "limits": {"usd": 5.0}}


def answering(folder: Path) -> FakeDaemon:
    daemon = FakeDaemon(folder / "skilld.sock")
    daemon.on_json("GET", "/v1/usage", SPENT)
    daemon.on_json("GET", "/v1/budgets", {"items": [CAP], "next": None})
    daemon.on_json("POST", "/v1/budgets", CAP)
    daemon.on("DELETE", "/v1/budgets/user/1000/day", lambda exchange: exchange.answer(204, b"", "text/plain"))
    return daemon


def asked(daemon: FakeDaemon) -> list[tuple[str, dict[str, str], Any]]:
    return [(e.method, e.query, json.loads(e.body) if e.body else None) for e in daemon.seen]


ASKED: list[tuple[str, dict[str, str], Any]] = [
    ("GET", {"by": "user", "since": "2026-01-15"}, None),
    ("GET", {}, None),
    ("GET", {"name": "day"}, None),
    ("POST", {}, {"name": "day", "usd": 5.0, "tokens": None}),
    ("DELETE", {}, None),
]


def test_what_was_spent_and_what_may_be_is_asked_for(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, answering(tmp_path)) as daemon, Client(daemon.path, transport="plain") as client:
        assert client.usage(by="user", since="2026-01-15") == SPENT
        assert client.budgets() == [CAP]
        assert client.budgets("day") == [CAP]
        assert client.set_budget("day", usd=5.0, tokens=None) == CAP
        client.unset_budget("user/1000/day")
        assert asked(daemon) == ASKED


def test_the_same_from_trio(tmp_path: Path) -> None:
    async def main(daemon: FakeDaemon) -> None:
        async with AsyncClient(daemon.path) as client:
            assert await client.usage(by="user", since="2026-01-15") == SPENT
            assert await client.budgets() == [CAP]
            assert await client.budgets("day") == [CAP]
            assert await client.set_budget("day", usd=5.0, tokens=None) == CAP
            await client.unset_budget("user/1000/day")

    with fake_daemon(tmp_path, answering(tmp_path)) as daemon:
        run(main, daemon)
        assert asked(daemon) == ASKED
