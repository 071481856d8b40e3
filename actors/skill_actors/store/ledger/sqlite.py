"""The ledger in the journal's file: its writes join the journal's transactions, its reads use the journal's readers."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, TypeVarTuple

import apsw

from skill_actors.store.changes import Write
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
from skill_actors.store.ledger.reads import caps_of, faults_of, open_holds_of, sums_of, usage_of
from skill_actors.store.ledger.writes import (
    CapWrite,
    CloseWrite,
    EntryWrite,
    ForgetTurnsWrite,
    RebuildWrite,
    UncapWrite,
)

__all__ = ["SqliteLedger"]

_T = TypeVar("_T")
_A = TypeVarTuple("_A")
_MAX_KEYS: Final = 10_000


class SqliteLedger(LedgerStore):
    """As long as the journal it belongs to.

    Args:
        write: queues a write and waits until it is durable.
        read: calls a function with a connection, in a worker thread.

    """

    def __init__(
        self,
        write: Callable[[Write], Awaitable[bool]],
        read: Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]],
    ) -> None:
        self._write = write
        self._read = read

    async def enter(
        self,
        entry: Entry,
        *,
        judge: Judge | None = None,
        caps: Sequence[str] = (),
        budget: Mapping[str, Any] | None = None,
    ) -> Entered:
        write = EntryWrite(entry, judge, caps, budget)
        await self._write(write)
        assert write.entered is not None  # else it has raised
        return write.entered

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
        write = CloseWrite(hold, kind, time, amounts, model, data or {}, caps)
        await self._write(write)
        return write.closed

    async def set_cap(self, cap: StoredCap) -> None:
        await self._write(CapWrite(cap))

    async def remove_cap(self, name: str) -> bool:
        return await self._write(UncapWrite(name))

    async def caps(self, names: Sequence[str] | None = None) -> Sequence[StoredCap]:
        return await self._ask(caps_of, names)

    async def sums(self, keys: Sequence[str]) -> Mapping[str, Sums]:
        if len(keys) > _MAX_KEYS:
            raise ValueError(f"{len(keys)} sums are asked for at once, and {_MAX_KEYS} may be")
        return await self._ask(sums_of, keys)

    async def open_holds(self, *, limit: int = 1000) -> Sequence[OpenHold]:
        return await self._ask(open_holds_of, limit)

    async def usage(
        self, by: UsageBy, *, since: str | None, until: str | None, owner_uid: int | None, limit: int = 10_000
    ) -> Sequence[UsageRow]:
        return await self._ask(usage_of, by, since, until, owner_uid, limit)

    async def forget_turns(self, before: str) -> int:
        removed = 0
        while True:  # a few at a time: others write in between
            write = ForgetTurnsWrite(before)
            if not await self._write(write):
                return removed
            removed += write.removed

    async def verify(self) -> Sequence[str]:
        faults = await self._ask(faults_of)
        if faults:
            with contextlib.suppress(LedgerDamaged):  # then there is nothing to make the sums of
                await self._write(RebuildWrite())
        return faults

    async def _ask(self, query: Callable[[apsw.Connection, *_A], _T], *args: *_A) -> _T:
        found: _T = await self._read(lambda db: query(db, *args))
        return found
