"""Events over the socket: framing, resuming, leaving."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from http_kit import Served, read_all, read_until, serving, wait_until
from skill_actors.sessions.events import Event
from skilld.http import ServerLimits
from skilld.http.connection import ClientGone
from skilld.http.sse import EventStream, as_json_line, as_sse
from support import run, run_virtual

DELTA = Event(seq=4, type="model.delta", time="t", session="s", turn="x", data={"text": "a\u2028\nb"}, offset=7)
HEAD = "GET /v1/sessions/{}/events{} HTTP/1.1\r\nhost: x\r\n{}\r\n"


async def open_stream(served: Served, session: str, query: str = "", headers: str = "") -> trio.SocketStream:
    stream = await trio.open_unix_socket(str(served.path))
    await stream.send_all(HEAD.format(session, query, headers).encode())
    await wait_until(lambda: served.sessions.followers > 0)
    return stream


def test_an_event_is_framed_with_its_position_as_id() -> None:
    lines = as_sse(DELTA).decode().split("\n")
    assert lines[0] == "id: 4.7"
    assert lines[1] == "event: model.delta"
    assert json.loads(lines[2].removeprefix("data: "))["data"] == {"text": "a\u2028\nb"}
    assert lines[3:] == ["", ""]


def test_a_line_of_json_carries_the_offset_too() -> None:
    line = as_json_line(DELTA)
    assert line.count(b"\n") == 1
    assert json.loads(line)["offset"] == 7


@pytest.mark.parametrize("text", ["half a pair \ud83d", "\udcff", "whole \U0001f600 and half \ude00"])
def test_text_that_utf8_cannot_carry_is_escaped_and_does_not_end_the_stream(text: str) -> None:
    event = Event(seq=1, type="tool.started", time="t", session="s", turn="x", data={"input": {"command": text}})
    framed = as_sse(event).decode().split("data: ")[1]
    for line in (framed, as_json_line(event).decode()):
        assert json.loads(line)["data"]["input"]["command"] == text


def test_events_that_are_there_already_go_out_together_and_the_last_of_them_at_once() -> None:
    events = [Event(seq=n, type="tool.output", time="t", session="s", turn="x", data={"n": n}) for n in range(1, 4_001)]

    class Stored:
        """All of them at once, then a long wait."""

        def __init__(self) -> None:
            self.left = list(reversed(events))

        @property
        def buffered(self) -> int:
            return len(self.left)

        def __aiter__(self) -> AsyncIterator[Event]:
            return self

        async def __anext__(self) -> Event:
            if not self.left:
                assert b"".join(sent) == b"".join(map(as_json_line, events)), "something was held back"
                await trio.sleep(60)
                raise StopAsyncIteration
            return self.left.pop()

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[Event]]:
        yield Stored()

    sent: list[bytes] = []

    async def receive() -> MutableMapping[str, Any]:
        await trio.sleep_forever()
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("body", b""))

    async def main() -> None:
        await EventStream(opened(), sse=False)({"type": "http"}, receive, send)

    run_virtual(main)
    assert b"".join(sent) == b"".join(map(as_json_line, events))
    assert len(sent) < 20
    assert max(map(len, sent)) < 128 << 10


def test_a_message_streams_its_turn_to_the_ending(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            for accept in ("text/event-stream", "application/x-ndjson"):
                answer = await served.http.post(
                    f"/v1/sessions/{session}/messages", json={"text": "hi"}, headers={"accept": accept}
                )
                assert answer.headers["content-type"].startswith(accept)
                assert "turn.queued" in answer.text
                assert "you said hi" in answer.text
                assert answer.text.count("turn.finished") >= 1
            assert served.sessions.followers == 0

    run(main)


def test_events_are_replayed_and_then_followed(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            for n in range(3):
                served.sessions.publish(session, "tool.output", None, n=n)
            async with await open_stream(served, session, "?after=1") as stream:
                replayed = await read_until(stream, b'"n":1', b'"n":2')
                assert b'"n":0' not in replayed
                served.sessions.publish(session, "tool.output", None, n=9)
                assert b'"n":0' not in await read_until(stream, b'"seq":4')

    run(main)


def test_without_follow_the_answer_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            served.sessions.publish(session, "tool.output")
            answer = await served.http.get(f"/v1/sessions/{session}/events?follow=false")
            assert answer.text.count("\n") == 1
            assert (await served.http.get(f"/v1/sessions/{session}/events?follow=maybe")).status_code == 400

    run(main)


def test_last_event_id_wins_over_the_query(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            for _ in range(3):
                served.sessions.publish(session, "tool.output")
            path = f"/v1/sessions/{session}/events?follow=false&after=0"
            answer = await served.http.get(path, headers={"last-event-id": "2"})
            assert json.loads(answer.text)["seq"] == 3

    run(main)


@pytest.mark.parametrize("position", ["-1", "1.x", "x", "", "1e3", "9" * 30, "\u0661"])
def test_a_position_that_is_none_is_refused(tmp_path: Path, position: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            answer = await served.http.get(f"/v1/sessions/{session}/events", params={"after": position})
            assert answer.status_code == 400

    run(main)


def test_the_head_of_a_stream_comes_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            with trio.fail_after(2):
                async with served.http.stream("GET", f"/v1/sessions/{session}/events") as answer:
                    assert answer.status_code == 200

    run(main)


def test_a_foreign_or_missing_session_is_refused_before_the_stream_begins(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            answer = await served.http.get("/v1/sessions/ses_aaaaaaaaaaaaaaaaaaaaaaaaaa/events")
            assert answer.status_code == 404

    run(main)


def test_a_client_that_leaves_ends_the_handler_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            stream = await open_stream(served, session)
            await stream.aclose()
            await wait_until(lambda: served.sessions.followers == 0 and served.server.connections <= 1)

    run(main)


def test_a_stream_lasts_longer_than_the_time_for_a_body_that_it_has_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=ServerLimits(body_timeout_s=0.1)) as served:
            session = await served.session()
            async with await open_stream(served, session) as stream:
                assert (await read_all(stream)).startswith(b"HTTP/1.1 200")  # until it is silent, and open still
                served.sessions.publish(session, "tool.output", None, said="after a while")
                await read_until(stream, b"after a while")

    run(main)


def test_a_half_closed_client_still_gets_its_events(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            stream = await open_stream(served, session)
            await stream.send_eof()
            await trio.sleep(0.4)
            served.sessions.publish(session, "tool.output", None, said="after the half-close")
            await read_until(stream, b"after the half-close")
            await stream.aclose()
            await wait_until(lambda: served.sessions.followers == 0)

    run(main)


@pytest.mark.parametrize(("choice", "cancelled"), [("cancel", 1), ("continue", 0), (None, 0)])
def test_a_client_that_leaves_its_turn_follows_on_disconnect(
    tmp_path: Path, choice: str | None, cancelled: int
) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session(**({"on_disconnect": choice} if choice else {}))
            stream = await trio.open_unix_socket(str(served.path))
            body = b'{"text": "slow"}'
            head = f"POST /v1/sessions/{session}/messages HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n"
            await stream.send_all(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            await wait_until(lambda: served.sessions.followers == 1)
            await stream.aclose()
            await wait_until(lambda: served.sessions.followers == 0)
            await wait_until(lambda: served.server.connections <= 1)
            assert len(served.sessions.cancelled) == cancelled

    run(main)


def test_a_stop_of_the_daemon_cuts_streams_but_cancels_no_turn(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session(on_disconnect="cancel")
            stream = await open_stream(served, session)
            served.server.drain(0.1)
            assert not (await read_all(stream)).endswith(b"0\r\n\r\n")
            await stream.aclose()
            await wait_until(lambda: served.server.connections == 0)
            assert served.sessions.cancelled == []

    run(main)


def test_a_subscriber_that_never_reads_is_dropped_and_hurts_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=ServerLimits(send_timeout_s=0.5)) as served:
            session = await served.session()
            stream = await open_stream(served, session)
            for _ in range(40):
                served.sessions.publish(session, "tool.output", None, text="x" * 20_000)
            assert (await served.http.get("/v1/version")).status_code == 200
            await wait_until(lambda: served.sessions.followers == 0)
            await stream.aclose()

    run(main)


def test_silence_is_broken_by_a_comment_every_fifteen_seconds() -> None:
    sent: list[bytes] = []

    @asynccontextmanager
    async def quiet() -> AsyncIterator[AsyncIterator[Event]]:
        async def events() -> AsyncIterator[Event]:
            await trio.sleep(40)
            yield DELTA

        yield events()

    async def receive() -> MutableMapping[str, Any]:
        await trio.sleep_forever()
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("body", b""))

    async def main() -> None:
        await EventStream(quiet(), sse=True)({"type": "http"}, receive, send)

    run_virtual(main)
    assert sent.count(b": still here\n\n") == 2
    assert sent[-2:] == [as_sse(DELTA), b""]


def test_a_failing_source_is_raised_as_it_is_and_cuts_the_answer() -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[AsyncIterator[Event]]:
        async def events() -> AsyncIterator[Event]:
            yield DELTA
            raise OSError("the disk is on fire")

        yield events()

    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        await trio.sleep_forever()
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def main() -> None:
        with pytest.raises(OSError, match="on fire") as caught:
            await EventStream(broken(), sse=True)({"type": "http"}, receive, send)
        assert not isinstance(caught.value, ClientGone)

    run_virtual(main)
    assert sent[-1]["more_body"] is True
