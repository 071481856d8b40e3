"""Steering, pausing and options of a message, as the clients send them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_daemon import SESSION, TURN, FakeDaemon, fake_daemon
from skilld.client import AsyncClient, Client
from support import run

MESSAGES = f"/v1/sessions/{SESSION}/messages"
STEERED = {"turn": TURN, "session": SESSION, "seq": 9, "status": "steered", "duplicate": False}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        yield daemon


def test_a_message_to_the_running_turn_has_a_key_and_an_answer_of_its_own(daemon: FakeDaemon) -> None:
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/steer", STEERED, 202)
    with Client(daemon.path) as client:
        first = client.steer(SESSION, "more")
        client.steer(SESSION, "more", idempotency_key="k")
        with pytest.raises(ValueError, match="1 to 255 visible ASCII"):
            client.steer(SESSION, "more", idempotency_key="two words")
    assert (first.status, first.turn, first.seq) == ("steered", TURN, 9)
    assert json.loads(daemon.seen[0].body) == {"text": "more"}
    assert daemon.seen[0].headers["idempotency-key"] == first.idempotency_key
    assert daemon.seen[1].headers["idempotency-key"] == "k"
    assert len(daemon.seen) == 2


def test_a_session_is_paused_and_resumed(daemon: FakeDaemon) -> None:
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/pause", {"status": "paused"})
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/resume", {"status": "idle"})
    with Client(daemon.path) as client:
        assert client.pause_session(SESSION) == {"status": "paused"}
        assert client.resume_session(SESSION) == {"status": "idle"}


def test_a_message_says_what_it_asks_for_and_nothing_else(daemon: FakeDaemon) -> None:
    daemon.on_json("POST", MESSAGES, {**STEERED, "status": "queued"}, 202)
    with Client(daemon.path) as client:
        client.send(SESSION, "a")
        client.send(SESSION, "b", schema=False, options={"effort": "low", "tools": []}, mode="interrupt", pinned=True)
    assert json.loads(daemon.seen[0].body) == {"text": "a"}
    assert json.loads(daemon.seen[1].body) == {
        "text": "b",
        "schema": None,
        "options": {"effort": "low", "tools": []},
        "mode": "interrupt",
        "pinned": True,
    }


def test_the_async_client_says_the_same(daemon: FakeDaemon) -> None:
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/steer", STEERED, 202)
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/pause", {"status": "paused"})
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/resume", {"status": "idle"})
    daemon.on_json("POST", MESSAGES, {**STEERED, "status": "queued"}, 202)

    async def main() -> None:
        async with AsyncClient(daemon.path) as client:
            assert (await client.steer(SESSION, "more")).status == "steered"
            assert await client.pause_session(SESSION) == {"status": "paused"}
            assert await client.resume_session(SESSION) == {"status": "idle"}
            await client.send(SESSION, "b", options={"max_tokens": 5})

    run(main)
    assert json.loads(daemon.seen[-1].body) == {"text": "b", "options": {"max_tokens": 5}}
