"""The client for trio programs: the same rules as the other, and cancellation."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest
import trio

from fake_daemon import SESSION, TURN, Exchange, FakeDaemon, a_turn, event, fake_daemon
from skilld.client import AsyncClient, Client, ConnectionLost, DaemonUnreachable, SkilldError
from support import run

MESSAGES = f"/v1/sessions/{SESSION}/messages"
EVENTS = f"/v1/sessions/{SESSION}/events"


def test_it_offers_what_the_other_client_offers() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(AsyncClient) - {"aclose"} == public(Client) - {"close"}


def test_calls_get_the_daemons_answers(tmp_path: Path) -> None:
    async def main(daemon: FakeDaemon) -> None:
        async with AsyncClient(daemon.path) as client:
            assert await client.version() == {"version": "9"}
            assert await client.health() == {"status": "live"}
            assert await client.ready() is False
            assert await client.metrics() == "up 1\n"
            assert (await client.status())["turns_running"] == 3
            assert (await client.create_session(title="t"))["id"] == SESSION
            assert (await client.send(SESSION, "hello")).turn == TURN
            assert (await client.turn(TURN, wait_s=1))["status"] == "finished"
            assert (await client.cancel_turn(TURN))["status"] == "cancelled"
            assert await client.cancel(SESSION) == {"cancelled": []}
            assert (await client.skills())["items"] == []
            assert await client.push_skill(b"PK") == {"name": "tides"}
            assert await client.remove_skill("tides") == {"removed": ["tides"]}
            assert await client.approve_skill("tides", "d1") == {"digest": "d1"}
            assert await client.revoke_skill("tides") == {"digest": None}
            async with client.skill_changes(after=1, follow=False) as changes:
                assert [change.seq async for change in changes] == [2, 3]
            with pytest.raises(SkilldError, match="no /v1/skills/nope"):
                await client.skill("nope")

    with fake_daemon(tmp_path) as daemon:
        accepted = {"turn": TURN, "session": SESSION, "seq": 4, "status": "queued", "duplicate": False}
        daemon.on_json("GET", "/v1/version", {"version": "9"})
        daemon.on_json("GET", "/v1/health/live", {"status": "live"})
        daemon.on_json("GET", "/v1/health/ready", {"status": "not_ready"}, 503)
        daemon.on("GET", "/metrics", lambda exchange: exchange.answer(200, b"up 1\n", "text/plain"))
        daemon.on_json("GET", "/v1/status", {"turns_running": 3})
        daemon.on_json("POST", "/v1/sessions", {"id": SESSION}, 201)
        daemon.on_json("POST", MESSAGES, accepted, 202)
        daemon.on_json("GET", f"/v1/turns/{TURN}", {"status": "finished"})
        daemon.on_json("POST", f"/v1/turns/{TURN}/cancel", {"status": "cancelled"})
        daemon.on_json("POST", f"/v1/sessions/{SESSION}/cancel", {"cancelled": []})
        daemon.on_json("GET", "/v1/skills", {"items": []})
        daemon.on_json("POST", "/v1/skills", {"name": "tides"}, 201)
        daemon.on_json("DELETE", "/v1/skills/tides", {"removed": ["tides"]})
        daemon.on_json("POST", "/v1/skills/tides/approve", {"digest": "d1"})
        daemon.on_json("DELETE", "/v1/skills/tides/approve", {"digest": None})
        daemon.on_events("GET", "/v1/skill-changes", ([event(seq, "skill.changed", {}) for seq in (2, 3)], "clean"))
        run(main, daemon)


def test_the_latest_session_is_the_callers_own(tmp_path: Path) -> None:
    def page(exchange: Exchange) -> None:
        first = "cursor" not in exchange.query
        item = {"id": "theirs", "owner_uid": -1} if first else {"id": "mine", "owner_uid": os.getuid()}
        exchange.json(200, {"items": [item], "next": "2" if first else None})

    async def main(daemon: FakeDaemon) -> None:
        async with AsyncClient(daemon.path) as client:
            latest = await client.latest_session()
            assert latest is not None
            assert latest["id"] == "mine"

    with fake_daemon(tmp_path) as daemon:
        daemon.on("GET", "/v1/sessions", page)
        run(main, daemon)


def test_a_cut_stream_goes_on_where_it_was_and_repeats_nothing(tmp_path: Path) -> None:
    turn = a_turn("Hel", "lo ", "you")

    async def main(daemon: FakeDaemon) -> None:
        async with AsyncClient(daemon.path) as client, client.send_streaming(SESSION, "hi") as events:
            got = [one async for one in events]
        assert [one.position for one in got] == ["1", "2", "3.3", "3.6", "3.9", "4", "5"]

    with fake_daemon(tmp_path) as daemon:
        daemon.on_events("POST", MESSAGES, (turn[:4], "cut"))
        daemon.on_events("GET", EVENTS, ([turn[2], turn[4]], "cut"), (turn[5:], "hang"))
        run(main, daemon)
        assert [exchange.query["after"] for exchange in daemon.requests("GET", EVENTS)] == ["3.6", "3.9"]


def test_following_can_be_cancelled_at_any_time(tmp_path: Path) -> None:
    async def main(daemon: FakeDaemon) -> None:
        got = []
        async with AsyncClient(daemon.path) as client:
            with trio.move_on_after(20) as scope:
                async with client.events(SESSION) as events:
                    async for one in events:
                        got.append(one.seq)
                        scope.deadline = trio.current_time() + 0.1  # while it waits for the next
        assert scope.cancelled_caught
        assert got == [1]

    with fake_daemon(tmp_path) as daemon:
        daemon.on_events("GET", EVENTS, ([event(1, "turn.queued")], "hang"))
        run(main, daemon)


def test_changes_of_skills_are_asked_for_behind_the_last_one_where_a_connection_is_lost(tmp_path: Path) -> None:
    changes = [event(seq, "skill.changed", {}) for seq in (2, 3, 4)]

    async def main(daemon: FakeDaemon) -> None:
        async with AsyncClient(daemon.path) as client, client.skill_changes(after=1) as told:
            assert [(await anext(told)).seq for _ in changes] == [2, 3, 4]

    def asked(daemon: FakeDaemon) -> list[str]:
        return [exchange.query["after"] for exchange in daemon.requests("GET", "/v1/skill-changes")]

    with fake_daemon(tmp_path) as daemon:
        daemon.on_events("GET", "/v1/skill-changes", (changes[:2], "cut"), (changes[2:], "hang"))
        run(main, daemon)
        assert asked(daemon) == ["1", "3"]
        daemon.seen.clear()
        daemon.on_events("GET", "/v1/skill-changes", (changes[:2], "cut"), (changes[2:], "hang"))
        with Client(daemon.path, transport="plain") as client:
            assert [change.seq for change in islice(client.skill_changes(after=1), 3)] == [2, 3, 4]
        assert asked(daemon) == ["1", "3"]


def test_events_of_the_past_end_where_the_past_ends(tmp_path: Path) -> None:
    async def main(daemon: FakeDaemon) -> None:
        async with AsyncClient(daemon.path) as client, client.events(SESSION, after="2", follow=False) as events:
            assert [one.seq async for one in events] == [3, 4, 5]

    with fake_daemon(tmp_path) as daemon:
        daemon.on_events("GET", EVENTS, (a_turn("x"), "clean"))
        run(main, daemon)
        assert daemon.seen[0].query == {"after": "2", "follow": "false"}


def test_a_refused_stream_raises(tmp_path: Path) -> None:
    async def main(daemon: FakeDaemon) -> None:
        async with AsyncClient(daemon.path) as client:
            async with client.send_streaming(SESSION, "hi") as events:
                with pytest.raises(SkilldError, match="16 wait") as caught:
                    await anext(events)
            assert caught.value.retry_after_s == 7

    with fake_daemon(tmp_path) as daemon:
        daemon.on_error("POST", MESSAGES, 429, "overloaded", "16 wait", retry_after="7")
        run(main, daemon)


def test_an_absent_daemon_and_a_lost_one_are_told_apart(tmp_path: Path) -> None:
    async def main(daemon: FakeDaemon) -> None:
        async with AsyncClient(tmp_path / "nobody") as client:
            with pytest.raises(DaemonUnreachable, match="nobody"):
                await client.send(SESSION, "hi")
        async with AsyncClient(daemon.path) as client:
            with pytest.raises(ConnectionLost) as caught:
                await client.send(SESSION, "hi", idempotency_key="k")
            assert caught.value.details == {"idempotency_key": "k"}

    with fake_daemon(tmp_path) as daemon:
        daemon.on("POST", MESSAGES, lambda exchange: setattr(exchange._handler, "close_connection", True))
        run(main, daemon)
