"""Positions, event streams and the cursor: the parts without I/O, and what importing the client brings along."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import skilld.client
from fake_daemon import TURN, a_turn, as_sse, event
from skilld.client import ConnectionLost, Event, ProtocolError, SkilldError
from skilld.client.events import Cursor, SseDecoder, order_of


def decoded(raw: bytes, cut_every: int) -> list[Event]:
    decoder = SseDecoder()
    return [e for start in range(0, len(raw), cut_every) for e in decoder.feed(raw[start : start + cut_every])]


@given(st.lists(st.text(), max_size=5), st.integers(1, 200))
def test_a_stream_means_the_same_however_it_is_cut(pieces: list[str], cut_every: int) -> None:
    raw = b"".join(as_sse(wire) for wire in a_turn(*pieces))
    whole, cut = decoded(raw, len(raw)), decoded(raw, cut_every)
    assert whole == cut
    assert len(whole) == 4 + len(pieces)


def test_carriage_returns_at_line_ends_do_no_harm() -> None:
    raw = as_sse(event(1, "turn.queued")).replace(b"\n", b"\r\n")
    assert [e.seq for e in decoded(raw, 7)] == [1]


def test_an_event_reads_back_as_it_was_sent() -> None:
    wire = event(3, "model.delta", {"text": "ü\u2028 x", "offset": 3})
    (read,) = decoded(as_sse({**wire, "offset": 3}), 1000)
    assert read.to_dict() == wire
    assert read.position == "3.3"
    assert "\n" not in read.to_json()


def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilld.client.events._MAX_EVENT_BYTES", 1000)
    with pytest.raises(ProtocolError, match="more than 1000 bytes"):
        decoded(b"x" * 2000, 100)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_whole_event_is_behind_all_its_pieces_and_before_the_next(seq: int, offset: int) -> None:
    assert order_of(f"{seq}.{offset}") < order_of(str(seq)) < order_of(f"{seq + 1}.0")


def a_cursor(turn: str | None = None) -> Cursor:
    cursor = Cursor(0, turn, 30.0)
    cursor.connected()
    return cursor


def read(wire: dict[str, object]) -> Event:
    (one,) = decoded(as_sse(wire), 1_000_000)
    return one


def test_a_cursor_takes_each_event_once() -> None:
    cursor = a_cursor()
    wires = [*a_turn("Hel", "lo")]
    assert [cursor.take(read(wire)) for wire in wires] == [True] * 6
    assert [cursor.take(read(wire)) for wire in wires] == [False] * 6
    assert not cursor.done


def test_a_cursor_of_a_turn_is_done_at_its_ending_only() -> None:
    cursor = a_cursor(TURN)
    foreign = event(1, "turn.finished", turn="trn_" + "z" * 26)
    assert not cursor.take(read(foreign))
    assert not cursor.done
    assert cursor.take(read(event(2, "turn.failed")))
    assert cursor.done


def test_pauses_grow_and_patience_ends_on_the_passed_clock() -> None:
    cursor = a_cursor()
    lost = ConnectionLost("/s", "test")
    assert [cursor.pause_s(lost, now_s) for now_s in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)] == [0.1, 0.2, 0.5, 1.0, 2.0, 2.0]
    with pytest.raises(ConnectionLost):
        cursor.pause_s(lost, 30.0)


def test_a_connection_that_works_again_renews_the_patience() -> None:
    cursor = a_cursor()
    lost = ConnectionLost("/s", "test")
    cursor.pause_s(lost, 0.0)
    cursor.connected()
    assert cursor.pause_s(lost, 29.0) > 0
    assert cursor.pause_s(lost, 58.0) > 0


def test_the_daemons_wish_to_wait_is_respected() -> None:
    asked = SkilldError("draining", "stopping", retryable=True, retry_after_s=5.0)
    assert a_cursor().pause_s(asked, 0.0) == 5.0


def test_final_errors_and_first_attempts_are_not_repeated() -> None:
    with pytest.raises(SkilldError, match="gone"):
        a_cursor().pause_s(SkilldError("not_found", "gone"), 0.0)
    with pytest.raises(ConnectionLost):
        Cursor(0, None, 30.0).pause_s(ConnectionLost("/s", "test"), 0.0)


def test_the_exported_names_are_there() -> None:
    assert all(hasattr(skilld.client, name) for name in skilld.client.__all__)
    with pytest.raises(AttributeError, match="Nothing"):
        skilld.client.Nothing  # noqa: B018


def test_importing_the_client_brings_nothing_heavy() -> None:
    code = (
        "import sys, skilld.client, skilld.client.plain\n"
        "heavy = {'trio', 'pydantic', 'httpx', 'rich', 'anyio', 'ssl', 'asyncio', 'email'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert ran.stdout.strip() == "[]"
