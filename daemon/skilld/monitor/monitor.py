"""What is reported on this host, as everybody in the daemon uses it: who writes, who asks, who follows."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar

import apsw
import trio

from skill_actors.errors import Refused
from skill_actors.models.prices import PriceTable
from skilld.monitor.batch import Batch
from skilld.monitor.findings import FindingsWanted, find_findings
from skilld.monitor.inspected import Inspected, Inspection, NoInspection, Origin
from skilld.monitor.preparing import Prepared, Spoiled, prepare
from skilld.monitor.quarantine import Quarantine
from skilld.monitor.questions import Wanted, find_events
from skilld.monitor.rates import Rate, RateTable
from skilld.monitor.store import MOST_READERS, EventStore, SlowQuestion, Written
from skilld.monitor.writing import write_together

__all__ = ["Monitor"]

_log = logging.getLogger(__name__)

T = TypeVar("T")
W = TypeVar("W", Wanted, FindingsWanted)

_MOST_TOGETHER: Final = 16  # batches in one transaction
_UNSTORABLE: Final = "no file can hold it"
_MOST_INSPECTED: Final = 2  # at once
_OF_OURS: Final = 2  # readers that no question of a user gets: followers of the store go on beside slow ones


@dataclass(kw_only=True, eq=False)
class _Pending:
    """A batch that waits for the file, and what became of it."""

    inspected: Inspected
    origin: Origin
    outcome: Written | Exception | None = None


@dataclass(kw_only=True)
class Monitor:
    """What is reported on this host.

    Args:
        inspection: who looks into each batch before it is stored.
        prices: what models cost, as it is known now; None to leave costs out.
        on_stored: told of what was stored.
        rates: what each user may report, whichever way.
        sources: what each source of a user, or of everybody, did; None where there are none.
        writing: one transaction at a time.
        question_s: how long a question of a user may look.
        asking: so many questions of users at once, so that slow ones neither hold up the others nor take all threads.
        following: the same, of those in the daemon who follow what comes.
        arrived: replaced, and the old one set, whenever something was stored.

    """

    store: EventStore
    quarantine: Quarantine = field(init=False)
    prices: Callable[[], PriceTable] | None = None
    on_stored: Callable[[Inspected, Written], Awaitable[None]] | None = None
    rates: RateTable = field(default_factory=lambda: RateTable(Rate(1e12, 1e12)))
    sources: Callable[[int | None], list[dict[str, Any]]] | None = None
    inspection: Inspection = field(default_factory=NoInspection)
    writing: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))
    question_s: float = 30.0
    asking: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(MOST_READERS - _OF_OURS))
    following: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(_OF_OURS))
    inspecting: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(_MOST_INSPECTED))
    arrived: trio.Event = field(default_factory=trio.Event)
    _waiting: list[_Pending] = field(default_factory=list)
    _turn: trio.Lock = field(default_factory=trio.Lock)

    def __post_init__(self) -> None:
        self.quarantine = Quarantine(self.store.path.with_name("quarantine.jsonl"))

    async def write(self, batch: Batch, origin: Origin, inspected: Inspected | None = None) -> Written:
        """Look into a batch, unless that was done, and keep it, together with those that wait for the file as well.

        Raises what the store raises.
        """
        prepared = Prepared(inspected) if inspected is not None else await self._prepare(batch, origin)
        inspected, spoiled = prepared
        written = await self._keep(inspected, origin)
        if written.unstorable:
            _log.error("%d events of uid %d cannot be stored: see its quarantine", written.quarantined, origin.uid)
            events = inspected.batch.events
            spoiled = (*spoiled, *(Spoiled(events[place], _UNSTORABLE) for place in sorted(written.unstorable)))
        if spoiled:
            await trio.to_thread.run_sync(self.quarantine.add, inspected.batch, origin, spoiled)
        if written.stored and self.on_stored is not None:
            await self.on_stored(inspected, written)
        return replace(written, quarantined=len(spoiled))

    async def _prepare(self, batch: Batch, origin: Origin) -> Prepared:
        return await trio.to_thread.run_sync(
            prepare, self.inspection, self.prices, batch, origin, limiter=self.inspecting
        )

    async def _keep(self, inspected: Inspected, origin: Origin) -> Written:
        pending = _Pending(inspected=inspected, origin=origin)
        self._waiting.append(pending)
        while pending.outcome is None:
            async with self._turn:
                if pending.outcome is None:
                    await self._write_waiting()
        if isinstance(pending.outcome, Exception):
            raise pending.outcome
        return pending.outcome

    async def _write_waiting(self) -> None:
        group = self._waiting[:_MOST_TOGETHER]
        del self._waiting[:_MOST_TOGETHER]
        batches = [(pending.inspected, pending.origin) for pending in group]
        with trio.CancelScope(shield=True):  # others wait for it: who is cancelled here sees to theirs first
            found = await self._written(batches)
        for pending, outcome in zip(group, found, strict=True):
            pending.outcome = outcome
        if any(isinstance(outcome, Written) and outcome.stored for outcome in found):
            self.arrived.set()
            self.arrived = trio.Event()

    async def _written(self, batches: list[tuple[Inspected, Origin]]) -> list[Written | Exception]:
        """What became of each. That no thread can be had all of them are told: otherwise they would wait for ever."""
        try:
            return await trio.to_thread.run_sync(write_together, self.store, batches, limiter=self.writing)
        except Exception as error:
            return [error] * len(batches)

    async def events(self, wanted: Wanted, wait_s: float = 0.0, *, ours: bool = False) -> list[dict[str, Any]]:
        """A page of events; with `wait_s`, of the first that come, if there are none yet.

        Args:
            ours: it is the daemon that asks, and may take its time; otherwise as `ask`.

        """
        return await self._follow(find_events, wanted, "event", wait_s, ours=ours)

    async def findings(
        self, wanted: FindingsWanted, wait_s: float = 0.0, *, ours: bool = False
    ) -> list[dict[str, Any]]:
        """A page of what was found in events; otherwise as `events`."""
        return await self._follow(find_findings, wanted, "finding", wait_s, ours=ours)

    async def _follow(
        self, find: Callable[..., list[dict[str, Any]]], wanted: W, table: str, wait_s: float, *, ours: bool
    ) -> list[dict[str, Any]]:
        ask = self._ask_ours if ours else self.ask
        deadline = trio.current_time() + wait_s
        while True:
            arrived = self.arrived
            newest = await self.newest(table)
            found = await ask(partial(find, wanted=wanted))
            if found or not wait_s:
                return found
            wanted = replace(wanted, after=max(newest, wanted.after or 0))  # what did not fit need not be read again
            with trio.move_on_at(deadline) as waiting:
                await arrived.wait()
            if waiting.cancelled_caught:
                return []

    async def newest(self, table: str = "event") -> int:
        """The id of the newest event, or with "finding" of the newest finding: where a new follower begins."""
        return await trio.to_thread.run_sync(self.store.newest_id, table, limiter=self.following)

    async def cursor(self, name: str) -> int | None:
        """How far a follower has come; None for one that never was."""
        return await trio.to_thread.run_sync(self.store.cursor, name, limiter=self.following)

    async def set_cursor(self, name: str, id: int) -> None:
        """A follower has seen to everything up to this id. Raises what the store raises."""
        await trio.to_thread.run_sync(self.store.set_cursor, name, id, limiter=self.writing)

    async def ask(self, question: Callable[[apsw.Connection], T]) -> T:
        """What a question of a user finds in the store.

        Raises:
            Refused: too_large, if it takes longer than `question_s`.

        """
        try:
            return await trio.to_thread.run_sync(self.store.ask, question, self.question_s, limiter=self.asking)
        except SlowQuestion as error:
            raise Refused(
                "too_large",
                f"the question took longer than {self.question_s:g} s (monitor.question_timeout_s) and was given up:"
                " ask for less, by since and until, agent, session or rarer words, or remove old events with"
                " skillctl monitor cleanup",
            ) from error

    async def _ask_ours(self, question: Callable[[apsw.Connection], T]) -> T:
        return await trio.to_thread.run_sync(self.store.ask, question, limiter=self.following)

    async def remove_before(self, uid: int | None, before_us: int) -> int:
        """Remove what is older by the programs' clocks, of one user or everybody; how many events that were."""
        removed = 0
        while found := await trio.to_thread.run_sync(self.store.remove_before, uid, before_us, limiter=self.writing):
            removed += found
        return removed

    async def optimize(self) -> tuple[int, int]:
        """Make the file as small and quick as it can be; its bytes before and after. Reports wait meanwhile."""
        return await trio.to_thread.run_sync(self.store.optimize, limiter=self.writing)
