"""Records for the tests of the store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skill_actors.ids import new_id
from skill_actors.sessions.events import Event
from skill_actors.store import Append, SessionRecord, TurnRecord

NOON = "2026-01-01T12:00:00.000Z"


@pytest.fixture
def db_path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def new_session() -> Callable[..., SessionRecord]:
    """new_session(**fields): a record with a fresh id."""

    def make(**fields: Any) -> SessionRecord:
        values: dict[str, Any] = {"id": new_id("ses"), "owner_uid": 1000, "created": NOON, "updated": NOON}
        return SessionRecord(**(values | fields))

    return make


@pytest.fixture
def step() -> Callable[..., Append]:
    """step(session, seq, text): an append of the one event `seq`, after `seq - 1`."""

    def make(session: str, seq: int, text: str = "hello", **fields: Any) -> Append:
        event = Event(seq=seq, type="model.message", time=NOON, session=session, turn=None, data={"text": text})
        values: dict[str, Any] = {"expected_last_seq": seq - 1, "last_seq": seq, "events": (event,)}
        return Append(session=session, **(values | fields))

    return make


@pytest.fixture
def new_turn() -> Callable[..., TurnRecord]:
    """new_turn(session, seq, **fields): a queued turn with a fresh id."""

    def make(session: str, seq: int, **fields: Any) -> TurnRecord:
        values: dict[str, Any] = {"id": new_id("trn"), "status": "queued", "created": NOON, "updated": NOON}
        return TurnRecord(session=session, seq=seq, **(values | fields))

    return make
