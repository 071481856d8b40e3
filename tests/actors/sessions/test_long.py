"""A conversation of very many messages: what is at its end is found at once, and others do not wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from session_kit import ME, Kit, open_kit
from skill_actors.ids import new_id
from skill_actors.sessions.events import Event, Position
from skill_actors.store import Append, TurnRecord
from skill_actors.testing import Reply, ScriptedModel, Text

TIME = "2026-01-01T12:00:00.000Z"
CHUNK = 250  # messages in one append
EVENTS_EACH = 4


@dataclass
class Lag:
    """How late a task that wakes every 10 ms was at worst."""

    worst_s: float = 0.0

    async def watch(self) -> None:
        while True:
            due = trio.current_time() + 0.01
            await trio.sleep_until(due)
            self.worst_s = max(self.worst_s, trio.current_time() - due)


def message(session: str, first: int) -> tuple[list[Event], TurnRecord]:
    """The events of one whole turn from the number `first` on."""
    turn = new_id("trn")
    said: dict[str, Any] = {"text": "x", "stop_reason": "end_turn", "usage": {}, "cost_usd": 0.0, "duration_ms": 1}
    content = [{"type": "text", "text": "x"}]
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("turn.queued", {"text": "hello", "files": []}),
        ("turn.started", {}),
        ("model.message", {"model": "m", "content": content, "stop_reason": "end_turn", "usage": None}),
        ("turn.finished", said),
    )
    events = [
        Event(seq=first + place, type=type, time=TIME, session=session, turn=turn, data=data)
        for place, (type, data) in enumerate(kinds)
    ]
    record = TurnRecord(
        id=turn, session=session, seq=first, status="finished", created=TIME, updated=TIME, digest="d", result=said
    )
    return events, record


async def fill(kit: Kit, session: str, messages: int) -> int:
    """Store so many messages that have been answered; the number of the last event."""
    last = 0
    for _ in range(messages // CHUNK):
        events, turns, start = [], [], last
        for _ in range(CHUNK):
            more, turn = message(session, last + 1)
            events += more
            turns.append(turn)
            last += EVENTS_EACH
        change = Append(session=session, expected_last_seq=start, last_seq=last, events=events, turns=turns)
        await kit.journal.append(change)
    return last


@pytest.mark.parametrize("messages", [5_000, pytest.param(250_000, marks=pytest.mark.deep)])
def test_a_conversation_of_very_many_messages_is_read_reset_and_deleted_and_others_go_on(
    tmp_path: Path, messages: int
) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel(respond=lambda _: Reply([Text("y")]))) as kit:
            session, other = await kit.session(), await kit.session()
            last = await fill(kit, session, messages)
            lag = Lag()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lag.watch)

                began = trio.current_time()
                assert (await kit.manager.get(session, ME))["last_seq"] == last
                for after in (0, last // 2, last - 3):
                    async with kit.manager.follow(session, ME, after=Position(after), live=False) as events:
                        assert (await anext(aiter(events))).seq == after + 1
                assert trio.current_time() - began < 10  # loading compares sums over all rows: 0.2 s for a million

                await kit.manager.reset(session, ME)
                assert (await kit.ask(session, "and now?"))["result"]["text"] == "y"

                await kit.manager.delete(session, ME)
                for _ in range(20):  # while its events go
                    began = trio.current_time()
                    assert (await kit.ask(other, "still there?"))["status"] == "finished"
                    assert trio.current_time() - began < 10
                nursery.cancel_scope.cancel()
            assert lag.worst_s < 2.5  # a tenth of it where nothing else runs

    trio.run(main)
