"""Rows to records and back. JSON is written compactly; every row carries a CRC-32 of what it says.

Encoding happens before a write is queued, so what cannot be stored is refused to the caller at once, and a caller
who goes on changing a dict changes nothing that is on its way to disk.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final, get_args

from skill_actors.sessions.events import Event
from skill_actors.store.base import ApprovalRecord, ApprovalStatus, SessionRecord, TurnRecord, TurnStatus
from skill_actors.store.faults import DamagedRow

__all__ = [
    "APPROVAL_COLUMNS",
    "EVENT_COLUMNS",
    "SESSION_COLUMNS",
    "TURN_COLUMNS",
    "Row",
    "decode_approval",
    "decode_event",
    "decode_session",
    "decode_turn",
    "dump",
    "encode_approval",
    "encode_event",
    "encode_turn",
    "head_sum",
    "row_sum",
    "settings_sum",
]

Row = tuple[Any, ...]  # as SQLite hands it out: checked by its sum before it is believed

EVENT_COLUMNS: Final = "session, seq, type, time, turn, offset, data, sum"
TURN_COLUMNS: Final = "session, seq, id, status, created, updated, idempotency_key, digest, result, sum"
APPROVAL_COLUMNS: Final = (
    "id, session, turn, call, owner_uid, status, created, expires, updated, request, decision, sum"
)
SESSION_COLUMNS: Final = (
    "session.id, owner_uid, created, updated, last_seq, fence, head_sum, totals, totals_sum,"
    " settings.data, settings.sum"
)


def _plain(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON-ready")


# Kept, since json.dumps makes a new encoder for every call that has options; and a mapping may be any Mapping.
_JSON: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
_ASCII_JSON: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain)
_STATUSES: Final = frozenset(get_args(TurnStatus))
_APPROVAL_STATUSES: Final = frozenset(get_args(ApprovalStatus))


def dump(value: Mapping[str, Any]) -> str:
    """`value` as compact JSON that UTF-8 can carry (lone surrogates, which tools do print, are escaped).

    Raises:
        TypeError, ValueError: if `value` is not JSON-ready (NaN and infinities are not).

    """
    text = _JSON.encode(value)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _ASCII_JSON.encode(value)
    return text


def row_sum(*values: str | int | None) -> int:
    """CRC-32 over the values and where each ends (None differs from the empty string)."""
    texts = [value if type(value) is str else "\x00" if value is None else str(value) for value in values]
    return zlib.crc32("\x1f".join(texts).encode())


def head_sum(session: str, updated: str, last_seq: int, fence: int) -> int:
    """Sum of the part of a session row that every append rewrites."""
    return row_sum(session, updated, last_seq, fence)


def settings_sum(session: str, owner_uid: int, created: str, data: str) -> int:
    """Sum of the part of a session that seldom changes; owner and time of creation are covered by it too."""
    return row_sum(session, owner_uid, created, data)


def encode_event(event: Event) -> Row:
    """A row of EVENT_COLUMNS."""
    row = (event.session, event.seq, event.type, event.time, event.turn, event.offset, dump(event.data))
    return (*row, row_sum(*row))


def decode_event(row: Row) -> Event:
    """Raises DamagedRow."""
    session, seq, type_, time, turn, offset, data, stored = row
    _verify(row[:-1], stored, session, "event", seq)
    return Event(seq=seq, type=type_, time=time, session=session, turn=turn, offset=offset, data=json.loads(data))


def encode_turn(turn: TurnRecord) -> Row:
    """A row of TURN_COLUMNS.

    Raises:
        ValueError: if its status is not one of TurnStatus.

    """
    if turn.status not in _STATUSES:
        raise ValueError(f"turn {turn.id} has status {turn.status!r}; known are {', '.join(sorted(_STATUSES))}")
    result = None if turn.result is None else dump(turn.result)
    row = (
        turn.session, turn.seq, turn.id, turn.status, turn.created, turn.updated,
        turn.idempotency_key, turn.digest, result,
    )  # fmt: skip
    return (*row, row_sum(*row))


def decode_turn(row: Row) -> TurnRecord:
    """Raises DamagedRow."""
    session, seq, id_, status, created, updated, key, digest, result, stored = row
    _verify(row[:-1], stored, session, "turn", seq)
    return TurnRecord(
        id=id_,
        session=session,
        seq=seq,
        status=status,
        created=created,
        updated=updated,
        idempotency_key=key,
        digest=digest,
        result=None if result is None else json.loads(result),
    )


def encode_approval(approval: ApprovalRecord) -> Row:
    """A row of APPROVAL_COLUMNS.

    Raises:
        ValueError: if its status is not one of ApprovalStatus.

    """
    if approval.status not in _APPROVAL_STATUSES:
        known = ", ".join(sorted(_APPROVAL_STATUSES))
        raise ValueError(f"approval {approval.id} has status {approval.status!r}; known are {known}")
    decision = None if approval.decision is None else dump(approval.decision)
    row = (
        approval.id, approval.session, approval.turn, approval.call, approval.owner_uid, approval.status,
        approval.created, approval.expires, approval.updated, dump(approval.request), decision,
    )  # fmt: skip
    return (*row, row_sum(*row))


def decode_approval(row: Row) -> ApprovalRecord:
    """Raises DamagedRow."""
    id_, session, turn, call, owner_uid, status, created, expires, updated, request, decision, stored = row
    _verify(row[:-1], stored, session, "approval", None)
    return ApprovalRecord(
        id=id_,
        session=session,
        turn=turn,
        call=call,
        owner_uid=owner_uid,
        status=status,
        created=created,
        expires=expires,
        updated=updated,
        request=json.loads(request),
        decision=None if decision is None else json.loads(decision),
    )


def decode_session(row: Row) -> SessionRecord:
    """Raises DamagedRow."""
    id_, owner_uid, created, updated, last_seq, fence, head, totals, totals_sum, settings, settings_stored = row
    _verify((id_, updated, last_seq, fence), head, id_, "session", None)
    _verify((id_, totals), totals_sum, id_, "session", None)
    if settings is None:
        raise DamagedRow(id_, "session", None, "its settings are missing")
    _verify((id_, owner_uid, created, settings), settings_stored, id_, "session", None)
    return SessionRecord(
        id=id_,
        owner_uid=owner_uid,
        created=created,
        updated=updated,
        last_seq=last_seq,
        fence=fence,
        settings=json.loads(settings),
        totals=json.loads(totals),
    )


def _verify(values: Row, stored: int, session: str, what: str, seq: int | None) -> None:
    try:
        found = row_sum(*values)
    except UnicodeEncodeError:
        found = -1
    if found != stored:
        raise DamagedRow(session, what, seq, "its checksum does not match")
