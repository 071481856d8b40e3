"""Agents of the workshop, as the clients speak of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_daemon import SESSION, TURN, FakeDaemon, fake_daemon
from skilld.client import AsyncClient, Client, SkilldError
from skilld.client.errors import NotAName
from support import run

W = "/v1/workshop"
ACCEPTED = {"agent": "a", "turn": TURN, "session": SESSION, "seq": 3, "status": "queued", "duplicate": False}
ENDED: dict[str, Any] = {"turn": TURN, "session": SESSION, "status": "finished", "result": {"text": "x"}}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        daemon.on_json("POST", f"{W}/cast", ACCEPTED, 202)
        daemon.on_json("POST", f"{W}/ask", {**ENDED, "status": "running", "result": None, "agent": "a"})
        daemon.on_json("GET", f"/v1/turns/{TURN}", ENDED)
        daemon.on_json("PUT", f"{W}/agents/a", {"name": "a"})
        yield daemon


def test_an_ask_is_waited_for_however_long_it_takes(daemon: FakeDaemon) -> None:
    with Client(daemon.path) as client:
        assert client.ask_agent("a", "hello", timeout_s=9, idempotency_key="k") == {**ENDED, "agent": "a"}
    assert json.loads(daemon.seen[0].body) == {"agent": "a", "wait_s": 300.0, "text": "hello", "timeout_s": 9}
    assert daemon.seen[0].headers["idempotency-key"] == "k"
    assert [seen.headers.get("idempotency-key") for seen in daemon.seen[1:]] == [None]


def test_a_cast_names_the_key_that_it_was_sent_with(daemon: FakeDaemon) -> None:
    with Client(daemon.path) as client:
        accepted = client.cast_agent("a", "hello", options={"effort": "low"}, force=True)
        with pytest.raises(ValueError, match="1 to 255 visible ASCII"):
            client.cast_agent("a", "hello", idempotency_key="two words")
    assert (accepted.turn, accepted.seq) == (TURN, 3)
    assert daemon.seen[0].headers["idempotency-key"] == accepted.idempotency_key
    assert json.loads(daemon.seen[0].body)["options"] == {"effort": "low"}


def test_a_name_that_would_be_another_path_is_not_sent(daemon: FakeDaemon) -> None:
    with Client(daemon.path) as client:
        for name in ("", "..", "."):
            with pytest.raises(NotAName):
                client.agent(name)
        with pytest.raises(SkilldError):
            client.agent("a/../b")
    assert daemon.seen[0].path.endswith("/a%2F..%2Fb")


def test_the_async_client_says_the_same(daemon: FakeDaemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.path) as client:
            assert (await client.cast_agent("a", "hello")).turn == TURN
            assert (await client.ask_agent("a", "hello"))["status"] == "finished"
            assert await client.define_agent("a", replace=False, role="r") == {"name": "a"}

    run(main)
    assert daemon.seen[-1].headers["if-none-match"] == "*"
    assert json.loads(daemon.seen[-1].body) == {"role": "r"}
