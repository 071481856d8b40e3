"""The writes of the ledger, applied on the journal's writer thread inside its transaction (see `store.changes`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import apsw

from skill_actors.store.base import StoreError
from skill_actors.store.changes import Outcome
from skill_actors.store.codec import Row
from skill_actors.store.ledger.base import (
    Amounts,
    Closed,
    Entered,
    Entry,
    EntryKind,
    Judge,
    LedgerDamaged,
    StoredCap,
    Sums,
)
from skill_actors.store.ledger.codec import (
    CAP_COLUMNS,
    ENTRY_COLUMNS,
    SUM_COLUMNS,
    decode_cap,
    decode_entry,
    decode_sums,
    encode_cap,
    encode_entry,
    encode_sums,
)
from skill_actors.store.ledger.keys import GLOBAL, TURN_PREFIX, keys_of

__all__ = [
    "CapWrite",
    "CloseWrite",
    "EntryWrite",
    "ForgetTurnsWrite",
    "RebuildWrite",
    "UncapWrite",
    "close_lost",
    "sums_of_entries",
]

_log = logging.getLogger(__name__)

_ROW_BYTES: Final = 400  # a guess; it only sizes batches
_TURNS_AT_ONCE: Final = 500
_TURN_RANGE: Final = (TURN_PREFIX, TURN_PREFIX[:-1] + "0")  # "0" is behind "/"
_NONE: Final = Sums()
_NOTHING: Final = Amounts()

_INSERT_ENTRY: Final = f"INSERT INTO ledger ({ENTRY_COLUMNS}) VALUES ({', '.join('?' * 18)})"
_NEXT_ID: Final = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'ledger'), 0) + 1"
_OPEN: Final = f"SELECT {ENTRY_COLUMNS} FROM ledger WHERE id = ?1 AND EXISTS (SELECT 1 FROM ledger_hold WHERE id = ?1)"
_ALL_OPEN: Final = f"SELECT {ENTRY_COLUMNS} FROM ledger WHERE id IN (SELECT id FROM ledger_hold) ORDER BY id"
_PUT_SUM: Final = f"INSERT OR REPLACE INTO ledger_sum ({SUM_COLUMNS}) VALUES ({', '.join('?' * 11)})"
_PUT_CAP: Final = f"INSERT OR REPLACE INTO cap ({CAP_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"


class _LedgerWrite:
    """What all of them have in common: they close work rather than open it, so a full disk does not refuse them."""

    __slots__ = ()

    @property
    def size_bytes(self) -> int:
        return _ROW_BYTES

    @property
    def opens_work(self) -> bool:
        return False


class EntryWrite(_LedgerWrite):
    """A hold or a charge; `entered` is set when it was applied."""

    __slots__ = ("_budget", "_caps", "_entry", "_judge", "_keys", "entered")

    def __init__(
        self, entry: Entry, judge: Judge | None, caps: Sequence[str], budget: Mapping[str, Any] | None
    ) -> None:
        encode_entry(entry, 0)  # refused to the caller rather than to the writer
        self._entry = entry
        self._judge = judge
        self._caps = caps
        self._budget = budget
        self._keys = keys_of(entry)
        self.entered: Entered | None = None

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        entry = self._entry
        try:
            caps, before = _load_caps(db, self._caps), _load_sums(db, self._keys)
        except StoreError as error:
            return error
        refusal = None if self._judge is None else self._judge(caps, before)
        if refusal is not None:
            return refusal
        if self._budget is not None:
            _keep_budget(db, entry, self._budget, caps, now)
        id_ = _append(db, entry)
        if entry.kind == "hold":
            db.execute("INSERT INTO ledger_hold (id) VALUES (?)", (id_,))
            _move(db, before, _NOTHING, entry.amounts, now)
        else:
            _move(db, before, entry.amounts, _NOTHING, now)
        self.entered = Entered(id=id_, caps=caps, before=before)
        return True


class CloseWrite(_LedgerWrite):
    """The end of a hold; `closed` is set if it was open."""

    __slots__ = ("_amounts", "_caps", "_data", "_hold", "_kind", "_model", "_time", "closed")

    def __init__(
        self,
        hold: int,
        kind: EntryKind,
        time: str,
        amounts: Amounts,
        model: str | None,
        data: Mapping[str, Any],
        caps: Sequence[str],
    ) -> None:
        self._hold = hold
        self._kind: EntryKind = kind
        self._time = time
        self._amounts = amounts
        self._model = model
        self._data = data
        self._caps = caps
        self.closed: Closed | None = None

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        row = db.execute(_OPEN, (self._hold,)).fetchone()
        if row is None:
            return False
        try:
            hold = decode_entry(row)
            caps, before = _load_caps(db, self._caps), _load_sums(db, keys_of(hold))
        except StoreError as error:
            return error
        _close(db, hold, self._ending(hold), before, now)
        self.closed = Closed(hold=hold, caps=caps, before=before)
        return True

    def _ending(self, hold: Entry) -> Entry:
        return replace(
            hold,
            kind=self._kind,
            hold=hold.id,
            time=self._time,
            amounts=self._amounts,
            model=self._model or hold.model,
            data=self._data,
        )


@dataclass(frozen=True, slots=True)
class CapWrite(_LedgerWrite):
    """A cap that is set."""

    cap: StoredCap

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        db.execute(_PUT_CAP, encode_cap(self.cap))
        return True


@dataclass(frozen=True, slots=True)
class UncapWrite(_LedgerWrite):
    """A cap that is not set any more."""

    name: str

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        db.execute("DELETE FROM cap WHERE name = ? AND source = 'set'", (self.name,))
        return db.changes() > 0


class ForgetTurnsWrite(_LedgerWrite):
    """Sums of turns that have ended, which a paused one has not; `removed` says how many this step took."""

    __slots__ = ("_before", "removed")

    def __init__(self, before: str) -> None:
        self._before = before
        self.removed = 0

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        db.execute(
            "DELETE FROM ledger_sum WHERE key IN (SELECT key FROM ledger_sum WHERE key >= ?1 AND key < ?2"
            " AND updated < ?3 AND held_nanousd = 0 AND held_tokens = 0 AND held_millis = 0"
            " AND NOT EXISTS (SELECT 1 FROM turn WHERE id = substr(key, ?5) AND status IN ('queued', 'running'))"
            " LIMIT ?4)",
            (*_TURN_RANGE, self._before, _TURNS_AT_ONCE, len(TURN_PREFIX) + 1),
        )
        self.removed = db.changes()
        return self.removed > 0


class RebuildWrite(_LedgerWrite):
    """All sums anew from the entries. Those of turns that were forgotten stay so."""

    __slots__ = ()

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        try:
            found = sums_of_entries(db, None)
        except StoreError as error:
            return error
        db.execute("DELETE FROM ledger_sum")
        for key, sums in found.items():
            db.execute(_PUT_SUM, encode_sums(key, sums, now))
        return True


def close_lost(db: apsw.Connection, now: str) -> int:
    """Count holds that are open in full, since who made them is gone; how many. Damaged ones stay held."""
    lost = 0
    for row in db.execute(_ALL_OPEN).fetchall():
        try:
            hold = decode_entry(row)
            before = _load_sums(db, keys_of(hold))
        except StoreError as error:
            _log.error("a reservation stays open: %s", error)
            continue
        _close(db, hold, replace(hold, kind="lost", hold=hold.id, time=now), before, now)
        lost += 1
    return lost


def sums_of_entries(db: apsw.Connection, keys: Sequence[str] | None) -> dict[str, Sums]:
    """What the entries add up to, for some keys or for all that there are (of turns: those that are not forgotten).

    Reads all of the ledger.

    Raises:
        LedgerDamaged: if an entry is.

    """
    if keys is None:
        turns = db.execute("SELECT key FROM ledger_sum WHERE key >= ? AND key < ?", _TURN_RANGE)
        wanted, others = {str(key) for (key,) in turns}, True
    else:
        wanted, others = set(keys), False
    open_ = {int(id_) for (id_,) in db.execute("SELECT id FROM ledger_hold")}
    found: dict[str, Sums] = {}
    for row in db.execute(f"SELECT {ENTRY_COLUMNS} FROM ledger"):
        entry = decode_entry(row)
        if entry.kind == "hold" and entry.id not in open_:
            continue
        used, held = (_NOTHING, entry.amounts) if entry.kind == "hold" else (entry.amounts, _NOTHING)
        for key in keys_of(entry):
            if key in wanted or (others and not key.startswith(TURN_PREFIX)):
                found[key] = _moved(found.get(key, _NONE), used, held)
    return found


def _append(db: apsw.Connection, entry: Entry) -> int:
    id_ = int(db.execute(_NEXT_ID).get)  # the sum covers it, so it has to be known before
    db.execute(_INSERT_ENTRY, encode_entry(entry, id_))
    return id_


def _close(db: apsw.Connection, hold: Entry, ending: Entry, before: Mapping[str, Sums], now: str) -> None:
    _append(db, ending)
    db.execute("DELETE FROM ledger_hold WHERE id = ?", (hold.id,))
    _move(db, before, ending.amounts, _negative(hold.amounts), now)


def _load_caps(db: apsw.Connection, names: Sequence[str]) -> Sequence[StoredCap]:
    if not names:
        return ()
    marks = ", ".join("?" * len(names))
    rows: list[Row] = db.execute(f"SELECT {CAP_COLUMNS} FROM cap WHERE name IN ({marks})", tuple(names)).fetchall()
    return tuple(decode_cap(row) for row in rows)


def _load_sums(db: apsw.Connection, keys: Sequence[str]) -> dict[str, Sums]:
    """By key, for every key. Sums that are damaged are made anew from the entries, which takes its time."""
    marks = ", ".join("?" * len(keys))
    try:
        rows = db.execute(f"SELECT {SUM_COLUMNS} FROM ledger_sum WHERE key IN ({marks})", tuple(keys)).fetchall()
        found = dict(decode_sums(row) for row in rows)
        if GLOBAL not in found and db.execute("SELECT EXISTS (SELECT 1 FROM ledger)").get:
            raise LedgerDamaged("the sum of all entries is missing in the ledger")
    except (LedgerDamaged, UnicodeDecodeError) as error:
        _log.error("%s; the sums are made anew from the entries", error)
        found = sums_of_entries(db, keys)
    return {key: found.get(key, _NONE) for key in keys}


def _move(db: apsw.Connection, before: Mapping[str, Sums], used: Amounts, held: Amounts, now: str) -> None:
    for key, sums in before.items():
        db.execute(_PUT_SUM, encode_sums(key, _moved(sums, used, held), now))


def _moved(sums: Sums, used: Amounts, held: Amounts) -> Sums:
    return Sums(
        used=sums.used if used is _NOTHING else _added(sums.used, used),
        held=sums.held if held is _NOTHING else _added(sums.held, held),
        unpriced=sums.unpriced + (not used.priced),
    )


def _added(one: Amounts, other: Amounts) -> Amounts:
    """Both, for a sum: what has no price is counted apart there."""
    return replace(one + other, priced=True)


def _negative(amounts: Amounts) -> Amounts:
    return Amounts(
        nanousd=-amounts.nanousd, tokens=-amounts.tokens, millis=-amounts.millis, tool_calls=-amounts.tool_calls
    )


def _keep_budget(
    db: apsw.Connection, entry: Entry, budget: Mapping[str, Any], caps: Sequence[StoredCap], now: str
) -> None:
    name = f"session/{entry.session}"
    kept = next((cap.limits for cap in caps if cap.name == name and cap.source == "session"), {})
    if kept == budget:
        return
    if budget:
        cap = StoredCap(name=name, source="session", limits=budget, by_uid=entry.owner_uid, updated=now)
        db.execute(_PUT_CAP, encode_cap(cap))
    else:
        db.execute("DELETE FROM cap WHERE name = ? AND source = 'session'", (name,))
