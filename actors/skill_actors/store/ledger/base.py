"""What a store of usage promises, whatever holds it.

An entry is written once and never changed. A *hold* is an entry of what something may use at worst; it is open until it
is *closed* by a further entry that says what was used indeed. What the entries of a key add up to (see `keys`) is kept
beside them and moved on in the same transaction, in which the caller's judge is asked as well: so no two callers can
both take what is left only once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from skill_actors.store.base import StoreError

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
    "StoredCap",
    "Sums",
    "UsageBy",
    "UsageRow",
]

# hold: reserved; settle, release: how it was closed; lost: closed in full, since whoever had it died;
# charge: used without a hold.
EntryKind = Literal["hold", "settle", "release", "lost", "charge"]
UsageBy = Literal["session", "user", "model", "day"]


class LedgerDamaged(StoreError):
    """A row of the ledger does not match its checksum, and cannot be made anew from others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What something uses. `nanousd`: billionths of a US dollar; `priced`: False where the money is not known."""

    nanousd: int = 0
    tokens: int = 0
    millis: int = 0
    tool_calls: int = 0
    priced: bool = True

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            nanousd=self.nanousd + other.nanousd,
            tokens=self.tokens + other.tokens,
            millis=self.millis + other.millis,
            tool_calls=self.tool_calls + other.tool_calls,
            priced=self.priced and other.priced,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What a key has used, and what open holds may use besides. `unpriced`: entries whose money is not known."""

    used: Amounts = field(default_factory=Amounts)
    held: Amounts = field(default_factory=Amounts)
    unpriced: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the ledger.

    Args:
        time: when it was written; `day` is the UTC day that it counts for (that of its hold).
        parents: further sessions that are charged with it, and as `agent/NAME` agents.
        model: of model calls only.
        data: JSON-ready; the store does not look inside.
        hold: id of the entry that it closes.
        id: given by the store.

    """

    kind: EntryKind
    time: str
    day: str
    session: str
    turn: str
    owner_uid: int
    parents: tuple[str, ...] = ()
    agent: str | None = None
    model: str | None = None
    amounts: Amounts = field(default_factory=Amounts)
    data: Mapping[str, Any] = field(default_factory=dict)
    hold: int | None = None
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCap:
    """A bound that was set while the program ran, or comes with a session. The store does not look into `limits`."""

    name: str
    source: Literal["session", "set"]
    limits: Mapping[str, Any]
    by_uid: int
    updated: str


# Asked in the transaction, on the store's thread: pure, since it may be asked twice. What it returns is raised to the
# caller and nothing is written; None lets the entry in.
Judge = Callable[[Sequence[StoredCap], Mapping[str, Sums]], Exception | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """An entry was written. `caps`, `before`: what the judge was shown."""

    id: int
    caps: Sequence[StoredCap]
    before: Mapping[str, Sums]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A hold was closed. `before`: the sums of its keys until then."""

    hold: Entry
    caps: Sequence[StoredCap]
    before: Mapping[str, Sums]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenHold:
    """A reservation of which nobody knows yet what it will use."""

    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """Usage of one session, user, model or day. `calls`: model calls; `unpriced`: of them without a known price."""

    key: str
    used: Amounts
    held: Amounts
    calls: int
    unpriced: int


class LedgerStore(Protocol):
    """The store of usage. All methods are called on the trio thread and none blocks it.

    Those that write raise StorageFull, JournalClosed, and LedgerDamaged where what is stored cannot be believed.
    """

    async def enter(
        self,
        entry: Entry,
        *,
        judge: Judge | None = None,
        caps: Sequence[str] = (),
        budget: Mapping[str, Any] | None = None,
    ) -> Entered:
        """Write a hold or a charge durably, unless `judge` refuses it, which is then raised.

        Args:
            caps: names of the stored caps that are shown to the judge.
            budget: the session's own limits, kept as the cap `session/ID`, so that it binds its children also when they
                do not know it; empty: it has none.

        """

    async def close(
        self,
        hold: int,
        kind: EntryKind,
        *,
        time: str,
        amounts: Amounts,
        model: str | None = None,
        data: Mapping[str, Any] | None = None,
        caps: Sequence[str] = (),
    ) -> Closed | None:
        """Say durably what a hold has used; None if it is not open (any more), and then nothing is written."""

    async def set_cap(self, cap: StoredCap) -> None:
        """Insert, or replace by name and source."""

    async def remove_cap(self, name: str) -> bool:
        """Remove a cap that was set; False if there was none."""

    async def caps(self, names: Sequence[str] | None = None) -> Sequence[StoredCap]:
        """Those with these names; with None all that were set (not those that come with sessions)."""

    async def sums(self, keys: Sequence[str]) -> Mapping[str, Sums]:
        """By key; of keys that nothing was entered for it holds nothing."""

    async def open_holds(self, *, limit: int = 1000) -> Sequence[OpenHold]:
        """Oldest first."""

    async def usage(
        self, by: UsageBy, *, since: str | None, until: str | None, owner_uid: int | None, limit: int = 10_000
    ) -> Sequence[UsageRow]:
        """Usage of the days since..until, both included, most money first (days in their order); of one owner, or all.

        Holds that were lost count as used; those that are open are shown apart.
        """

    async def forget_turns(self, before: str) -> int:
        """Remove the sums of turns that have ended and were last charged before this time; how many. Entries stay."""

    async def verify(self) -> Sequence[str]:
        """Read everything and compare entries with sums; what is wrong, in words. Sums that are wrong are made anew."""
