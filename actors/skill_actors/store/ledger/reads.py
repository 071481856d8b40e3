"""The queries of the ledger; they block, on one of the journal's read-only connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import apsw

from skill_actors.store.ledger.base import Amounts, LedgerDamaged, OpenHold, StoredCap, Sums, UsageBy, UsageRow
from skill_actors.store.ledger.codec import (
    CAP_COLUMNS,
    ENTRY_COLUMNS,
    SUM_COLUMNS,
    decode_cap,
    decode_entry,
    decode_sums,
)
from skill_actors.store.ledger.writes import sums_of_entries

__all__ = ["caps_of", "faults_of", "open_holds_of", "sums_of", "usage_of"]

_COLUMN: Final[Mapping[UsageBy, str]] = {
    "session": "session",
    "user": "CAST(owner_uid AS TEXT)",
    "model": "coalesce(model, '')",
    "day": "day",
}
_USAGE: Final = """
SELECT {column} AS key,
    sum(nanousd) FILTER (WHERE kind <> 'hold'), sum(tokens) FILTER (WHERE kind <> 'hold'),
    sum(millis) FILTER (WHERE kind <> 'hold'), sum(tool_calls) FILTER (WHERE kind <> 'hold'),
    sum(nanousd) FILTER (WHERE kind = 'hold'), sum(tokens) FILTER (WHERE kind = 'hold'),
    sum(millis) FILTER (WHERE kind = 'hold'),
    count(*) FILTER (WHERE model IS NOT NULL AND kind IN ('settle', 'lost')),
    count(*) FILTER (WHERE priced = 0 AND kind <> 'hold')
FROM ledger
WHERE day >= ?1 AND day <= ?2 AND (?3 IS NULL OR owner_uid = ?3)
    AND (kind <> 'hold' OR id IN (SELECT id FROM ledger_hold))
GROUP BY key ORDER BY {order} LIMIT ?4
"""
_ORDER: Final[Mapping[UsageBy, str]] = {"session": "2 DESC, 1", "user": "2 DESC, 1", "model": "2 DESC, 1", "day": "1"}


def caps_of(db: apsw.Connection, names: Sequence[str] | None) -> Sequence[StoredCap]:
    """Those with these names, or all that were set."""
    values = () if names is None else tuple(names)
    condition = "source = 'set'" if names is None else f"name IN ({', '.join('?' * len(values))})"
    return tuple(map(decode_cap, db.execute(f"SELECT {CAP_COLUMNS} FROM cap WHERE {condition} ORDER BY name", values)))


def sums_of(db: apsw.Connection, keys: Sequence[str]) -> Mapping[str, Sums]:
    marks = ", ".join("?" * len(keys))
    rows = db.execute(f"SELECT {SUM_COLUMNS} FROM ledger_sum WHERE key IN ({marks})", tuple(keys))
    return dict(map(decode_sums, rows))


def open_holds_of(db: apsw.Connection, limit: int) -> Sequence[OpenHold]:
    rows = db.execute(
        f"SELECT {ENTRY_COLUMNS} FROM ledger WHERE id IN (SELECT id FROM ledger_hold ORDER BY id LIMIT ?) ORDER BY id",
        (limit,),
    )
    return tuple(OpenHold(entry=decode_entry(row)) for row in rows)


def usage_of(
    db: apsw.Connection, by: UsageBy, since: str | None, until: str | None, owner_uid: int | None, limit: int
) -> Sequence[UsageRow]:
    """One pass over the days asked for. SQLite adds up, which does not look at the rows' checksums; `verify` does."""
    sql = _USAGE.format(column=_COLUMN[by], order=_ORDER[by])
    return tuple(_usage_row(row) for row in db.execute(sql, (since or "", until or "~", owner_uid, limit)))


def _usage_row(row: tuple[Any, ...]) -> UsageRow:
    key, *numbers = row
    nanousd, tokens, millis, tool_calls, held_nanousd, held_tokens, held_millis, calls, unpriced = (
        int(number or 0) for number in numbers
    )
    return UsageRow(
        key=str(key),
        used=Amounts(nanousd=nanousd, tokens=tokens, millis=millis, tool_calls=tool_calls, priced=unpriced == 0),
        held=Amounts(nanousd=held_nanousd, tokens=held_tokens, millis=held_millis),
        calls=calls,
        unpriced=unpriced,
    )


def faults_of(db: apsw.Connection) -> Sequence[str]:
    """What is wrong, in words: rows that are damaged, and sums that are not what the entries add up to.

    Holds a snapshot, so that it compares what belongs together.
    """
    db.execute("BEGIN")
    try:
        try:
            expected = sums_of_entries(db, None)
        except (LedgerDamaged, UnicodeDecodeError) as error:
            return (str(error),)
        return (*_sum_faults(db, expected), *_cap_faults(db))
    finally:
        db.execute("ROLLBACK")


def _sum_faults(db: apsw.Connection, expected: dict[str, Sums]) -> Sequence[str]:
    faults = []
    for row in db.execute(f"SELECT {SUM_COLUMNS} FROM ledger_sum"):
        try:
            key, sums = decode_sums(row)
        except LedgerDamaged as error:
            faults.append(str(error))
            expected.pop(str(row[0]), None)
            continue
        if expected.pop(key, Sums()) != sums:
            faults.append(f"the sum of {key} in the ledger is not what its entries add up to")
    return (*faults, *(f"the sum of {key} is missing in the ledger" for key in expected))


def _cap_faults(db: apsw.Connection) -> Sequence[str]:
    faults = []
    for row in db.execute(f"SELECT {CAP_COLUMNS} FROM cap"):
        try:
            decode_cap(row)
        except LedgerDamaged as error:
            faults.append(str(error))
    return faults
