"""What was used, kept beside the conversations and longer than they: the contract (`base`), and SQLite for it."""

from skill_actors.store.ledger.base import (
    Amounts,
    Closed,
    Entered,
    Entry,
    EntryKind,
    Judge,
    LedgerDamaged,
    LedgerStore,
    OpenHold,
    StoredCap,
    Sums,
    UsageBy,
    UsageRow,
)
from skill_actors.store.ledger.keys import keys_of
from skill_actors.store.ledger.sqlite import SqliteLedger

__all__ = [
    "Amounts",
    "Closed",
    "Entered",
    "Entry",
    "EntryKind",
    "Judge",
    "LedgerDamaged",
    "LedgerStore",
    "OpenHold",
    "SqliteLedger",
    "StoredCap",
    "Sums",
    "UsageBy",
    "UsageRow",
    "keys_of",
]
