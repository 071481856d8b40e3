"""Rows of the ledger to records and back, each with its CRC-32."""

from __future__ import annotations

import json
from typing import Any, Final

from skill_actors.store.codec import Row, dump, row_sum
from skill_actors.store.ledger.base import Amounts, Entry, LedgerDamaged, StoredCap, Sums

__all__ = [
    "CAP_COLUMNS",
    "ENTRY_COLUMNS",
    "SUM_COLUMNS",
    "decode_cap",
    "decode_entry",
    "decode_sums",
    "encode_cap",
    "encode_entry",
    "encode_sums",
]

ENTRY_COLUMNS: Final = (
    "id, kind, hold, time, day, session, turn, owner_uid, parents, agent, model,"
    " nanousd, tokens, millis, tool_calls, priced, data, sum"
)
SUM_COLUMNS: Final = (
    "key, nanousd, tokens, millis, tool_calls, unpriced, held_nanousd, held_tokens, held_millis, updated, sum"
)
CAP_COLUMNS: Final = "name, source, limits, by_uid, updated, sum"


def encode_entry(entry: Entry, id: int) -> Row:
    """A row of ENTRY_COLUMNS."""
    amounts = entry.amounts
    row = (
        id, entry.kind, entry.hold, entry.time, entry.day, entry.session, entry.turn, entry.owner_uid,
        " ".join(entry.parents), entry.agent, entry.model,
        amounts.nanousd, amounts.tokens, amounts.millis, amounts.tool_calls, int(amounts.priced), dump(entry.data),
    )  # fmt: skip
    return (*row, row_sum(*row))


def decode_entry(row: Row) -> Entry:
    """Raises LedgerDamaged."""
    _verify(row, f"entry {row[0]}")
    (id_, kind, hold, time, day, session, turn, owner_uid, parents, agent, model, *numbers, data, _) = row
    nanousd, tokens, millis, tool_calls, priced = numbers
    return Entry(
        id=id_,
        kind=kind,
        hold=hold,
        time=time,
        day=day,
        session=session,
        turn=turn,
        owner_uid=owner_uid,
        parents=tuple(parents.split()),
        agent=agent,
        model=model,
        amounts=Amounts(nanousd=nanousd, tokens=tokens, millis=millis, tool_calls=tool_calls, priced=bool(priced)),
        data=json.loads(data),
    )


def encode_sums(key: str, sums: Sums, updated: str) -> Row:
    """A row of SUM_COLUMNS."""
    used, held = sums.used, sums.held
    row = (
        key, used.nanousd, used.tokens, used.millis, used.tool_calls, sums.unpriced,
        held.nanousd, held.tokens, held.millis, updated,
    )  # fmt: skip
    return (*row, row_sum(*row))


def decode_sums(row: Row) -> tuple[str, Sums]:
    """Raises LedgerDamaged."""
    _verify(row, f"the sum of {row[0]}")
    key, nanousd, tokens, millis, tool_calls, unpriced, held_nanousd, held_tokens, held_millis, _, _ = row
    return key, Sums(
        used=Amounts(nanousd=nanousd, tokens=tokens, millis=millis, tool_calls=tool_calls),
        held=Amounts(nanousd=held_nanousd, tokens=held_tokens, millis=held_millis),
        unpriced=unpriced,
    )


def encode_cap(cap: StoredCap) -> Row:
    """A row of CAP_COLUMNS."""
    row = (cap.name, cap.source, dump(cap.limits), cap.by_uid, cap.updated)
    return (*row, row_sum(*row))


def decode_cap(row: Row) -> StoredCap:
    """Raises LedgerDamaged."""
    _verify(row, f"the cap {row[0]}", "Set it anew, or restore a backup")
    name, source, limits, by_uid, updated, _ = row
    return StoredCap(name=name, source=source, limits=json.loads(limits), by_uid=by_uid, updated=updated)


def _verify(row: tuple[Any, ...], what: str, remedy: str = "Restore a backup") -> None:
    try:
        found = row_sum(*row[:-1])
    except UnicodeEncodeError:
        found = -1
    if found != row[-1]:
        raise LedgerDamaged(f"{what} in the ledger is damaged on disk: its checksum does not match. {remedy}")
