"""The board: work that many may take from, and that nobody does twice.

An item is claimed under a lease with a token; only who shows the token says what became of it. A lease that is not
renewed is taken back: the item can be claimed again, or has failed where no attempt is left. Leases run on the
daemon's own clock and are not written at every heartbeat, so after a restart each runs its full length anew: whoever
could not renew it because the daemon was away has not lost it, and whoever died has, a little later.

States, and who may change what: `item` and `rules`. How changes are written: `changing`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TypeVar

import trio

from skill_actors.errors import Refused
from skill_actors.store.base import StoreError
from skill_actors.workshop.board import rules
from skill_actors.workshop.board.changing import Apply, Boards, Plan, StoresItems
from skill_actors.workshop.board.drafts import read_draft, read_fields
from skill_actors.workshop.board.index import BoardIndex
from skill_actors.workshop.board.item import DEFAULT_TYPES, STATUSES, WAITING, Item, Lease
from skill_actors.workshop.board.lease_tokens import Tokens
from skill_actors.workshop.board.outcome import Outcome, check_outcome, structured_of
from skill_actors.workshop.names import check_name

__all__ = ["DEFAULT_LEASE_S", "Board", "utc_now"]

DEFAULT_LEASE_S: Final = 60.0
_MIN_LEASE_S: Final = 1.0
_MAX_LEASE_S: Final = 86_400.0
_MOST_AT_ONCE: Final = 500
_MAX_REASON_CHARS: Final = 2_000
_PAUSE_S: Final = 5.0  # after the disk was full

_NOTHING_SAID: Final = Outcome()
_log = logging.getLogger(__name__)
T = TypeVar("T")


def utc_now() -> str:
    """The time as documents have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Board:
    """The boards of all owners; belongs to the trio thread. `run` takes back leases.

    Errors are Refused: not_found, conflict, bad_request, storage_full, draining, too_large, overloaded.

    Args:
        items: what is stored.
        apply: writes documents and events in one commit.
        types: which there are.
        max_items: of one owner.
        max_chars: that all items of one owner may take in memory, roughly.
        now: the time, as documents have it.

    """

    def __init__(
        self,
        items: StoresItems,
        apply: Apply,
        *,
        types: Sequence[str] = DEFAULT_TYPES,
        max_items: int = 10_000,
        max_chars: int = 64 << 20,
        now: Callable[[], str] = utc_now,
    ) -> None:
        self.types = tuple(types)
        self._boards = Boards(items, apply)
        self._max_items = max_items
        self._max_chars = max_chars
        self._now = now
        self._tokens = Tokens()

    # -- what is to be done --------------------------------------------------------------------------------------

    async def add(self, owner_uid: int, drafts: Sequence[Mapping[str, Any]]) -> Sequence[Item]:
        """Put items on the board, all of them or none; they may depend on each other.

        One that depends on what has failed is blocked from the beginning.
        """
        if not 1 <= len(drafts) <= _MOST_AT_ONCE:
            raise Refused("bad_request", f"expected 1 to {_MOST_AT_ONCE} items at once, not {len(drafts)}")
        new = [read_draft(draft, self.types, self._now()) for draft in drafts]

        def plan(index: BoardIndex) -> Plan[Sequence[Item]]:
            rules.check_additions(new, index.get)
            self._check_room(index, new)
            found = {item.id: item for item in rules.added(new, index.get, self._now())}
            reads = {id for item in new for id in item.depends_on if id not in found}
            return Plan(answer=[found[item.id] for item in new], puts=found, reads=reads)

        return await self._boards.change(owner_uid, plan)

    def _check_room(self, index: BoardIndex, new: Sequence[Item]) -> None:
        if len(index) + len(new) > self._max_items:
            raise Refused("overloaded", f"a board holds at most {self._max_items} items; remove some that have ended")
        if index.size_chars + sum(item.size_chars for item in new) > self._max_chars:
            raise Refused("overloaded", f"a board holds {self._max_chars} characters; remove items that have ended")

    async def edit(
        self, owner_uid: int, id: str, changes: Mapping[str, Any], *, expected_updated: str | None = None
    ) -> Item:
        """Change what is asked for. Those that depend on it follow.

        Args:
            expected_updated: `updated` of the item that the change was made up for; conflict if it is another by now.

        """
        values = read_fields(changes, self.types)

        def plan(index: BoardIndex) -> Plan[tuple[Item, bool]]:
            item = _found(index, id)
            if expected_updated not in (None, item.updated):
                raise Refused("conflict", f"item {id!r} was changed at {item.updated}", details={"id": id})
            now = self._now()
            new = rules.edited(item, values, index.get, now)
            reads = rules.ancestors(new, index.get) if "depends_on" in values else ()
            return _spread(index, new, now, reads=reads, edits=[id])

        return await self._finish(owner_uid, plan)

    async def cancel(self, owner_uid: int, id: str, reason: str = "") -> Item:
        """It is not wanted any more; whoever works on it has lost it. What depends on it is blocked."""
        note = _checked_reason(reason)
        return await self._turn(owner_uid, id, lambda item, index, now: rules.cancelled(item, now, note))

    async def retry(self, owner_uid: int, id: str) -> Item:
        """A failed or cancelled item is wanted again; what it blocked is not blocked by it any more."""
        return await self._turn(owner_uid, id, lambda item, index, now: rules.retried(item, index.get, now))

    async def remove(self, owner_uid: int, ids: Collection[str]) -> Sequence[Item]:
        """Take items off the board, all of them or none: those that nobody works on and no other depends on."""
        wanted = list(dict.fromkeys(ids))

        def plan(index: BoardIndex) -> Plan[Sequence[Item]]:
            rules.check_removals(set(wanted), index.get, index.dependents)
            return Plan(answer=[_found(index, id) for id in wanted], removed=wanted)

        return await self._boards.change(owner_uid, plan)

    # -- who does it ---------------------------------------------------------------------------------------------

    async def claim(
        self,
        owner_uid: int,
        holder: str,
        *,
        id: str | None = None,
        types: Collection[str] | None = None,
        names: Collection[str] = (),
        lease_s: float = DEFAULT_LEASE_S,
        worker: bool = False,
    ) -> Item | None:
        """Take an item: the one named, or the best ready one; None where there is none to take.

        What is returned holds the lease with its token, which nobody else gets to see.

        Args:
            holder: who takes it, for people.
            types: of the item, if none is named; None: any.
            names: of agents, workers and profiles that the taker goes by: what is meant for others is left alone.
            lease_s: for how long, if it is not renewed.
            worker: whether a board worker takes it.

        """
        check_name(holder, "holder")
        if not _MIN_LEASE_S <= lease_s <= _MAX_LEASE_S:
            raise Refused("bad_request", f"lease_s {lease_s}: expected {_MIN_LEASE_S:g} to {_MAX_LEASE_S:g} seconds")
        lease = Lease(token=self._tokens.new(), holder=holder, lease_s=lease_s, worker=worker)
        wanted = self._known_types(types)

        def plan(index: BoardIndex) -> Plan[Item | None]:
            item = index.best_ready(wanted, names) if id is None else _found(index, id)
            if item is None:
                return Plan(answer=None)
            taken = rules.claimed(item, lease, self._now())
            return Plan(answer=taken, puts={taken.id: taken})

        return await self._boards.change(owner_uid, plan)

    def _known_types(self, types: Collection[str] | None) -> Collection[str]:
        unknown = sorted(set(types or ()) - set(self.types))
        if unknown:
            raise Refused("bad_request", f"type {unknown[0][:60]!a}: expected {', '.join(self.types)}")
        return self.types if types is None else types

    async def start(
        self, owner_uid: int, id: str, token: str, *, turn: str | None = None, worktree: str | None = None
    ) -> Item:
        """Its holder begins."""
        return await self._turn(
            owner_uid, id, lambda item, index, now: rules.started(item, token, now, turn=turn, worktree=worktree)
        )

    async def heartbeat(self, owner_uid: int, id: str, token: str) -> Item:
        """Its holder is alive: the lease runs anew. Costs no write."""
        index = await self._boards.index(owner_uid)
        item = _found(index, id)
        rules.check_holder(item, token)
        assert item.lease is not None
        index.deadlines[id] = trio.current_time() + item.lease.lease_s
        return item

    async def complete(self, owner_uid: int, id: str, token: str, outcome: Outcome = _NOTHING_SAID) -> Item:
        """Its holder has done it; those that waited for nothing else can be taken now."""

        def change(item: Item, index: BoardIndex, now: str) -> Item:
            rules.check_holder(item, token)
            note = check_outcome(item, outcome)
            value = structured_of(item, outcome)
            return rules.completed(item, token, now, result=outcome.result, structured=value, note=note)

        return await self._turn(owner_uid, id, change)

    async def fail(self, owner_uid: int, id: str, token: str, error: str, *, final: bool = False) -> Item:
        """Its holder could not do it. It can be taken again while attempts are left, unless it is `final`."""
        why = _checked_reason(error) or "no reason was given"
        return await self._turn(
            owner_uid, id, lambda item, index, now: rules.failed(item, token, now, why, final=final)
        )

    async def release(self, owner_uid: int, id: str, token: str, note: str = "") -> Item:
        """Its holder gives it back as if it had never been taken."""
        why = _checked_reason(note)
        return await self._turn(owner_uid, id, lambda item, index, now: rules.released(item, token, now, why))

    # -- looking -------------------------------------------------------------------------------------------------

    async def get(self, owner_uid: int, id: str) -> Item:
        return _found(await self._boards.index(owner_uid), id)

    async def held_by_worker(self, owner_uid: int, holder: str) -> Sequence[Item]:
        """What a board worker of this name had when the daemon ended, with the leases; or has now."""
        index = await self._boards.index(owner_uid)
        return [item for item in index if item.lease is not None and item.lease.worker and item.lease.holder == holder]

    async def blockers(self, owner_uid: int, id: str) -> Sequence[str]:
        """What it still waits for, of what it depends on."""
        index = await self._boards.index(owner_uid)
        others = [(other, index.get(other)) for other in _found(index, id).depends_on]
        return [other for other, item in others if item is None or item.status != "done"]

    async def list(self, owner_uid: int, wanted: Callable[[Item], bool] = lambda item: True) -> Sequence[Item]:
        """Items in the order in which they are taken."""
        index = await self._boards.index(owner_uid)
        return sorted(filter(wanted, index), key=lambda item: item.rank)

    async def summary(self, owner_uid: int) -> Mapping[str, Any]:
        """How many items there are: in all, by status, and by type and status."""
        counts = (await self._boards.index(owner_uid)).counts()
        by_status: Counter[str] = Counter()
        by_type: dict[str, dict[str, int]] = {}
        for (type, status), count in sorted(counts.items()):
            by_status[status] += count
            by_type.setdefault(type, {})[status] = count
        return {
            "total": by_status.total(),
            "by_status": {status: by_status[status] for status in STATUSES},
            "by_type": by_type,
        }

    def work(self, owner_uid: int) -> trio.Event:
        """Set when an item of this owner has become ready; to be got before one is looked for."""
        return self._boards.work(owner_uid)

    def changed(self, owner_uid: int) -> trio.Event:
        """Set when anything on the owner's board has changed; to be got before looking."""
        return self._boards.changed(owner_uid)

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read all boards, end what was begun with them, and take back leases that run out, for ever."""
        await self._boards.load_all()
        task_status.started()
        unsettled = set(self._boards.loaded())
        while True:
            leased = self._boards.leased
            try:
                for owner_uid in tuple(unsettled):
                    await self._settle(owner_uid)
                    unsettled.discard(owner_uid)
                await self.expire_due()
            except (Refused, StoreError) as error:
                _log.warning("the board cannot be kept in order now: %s", error)
                await trio.sleep(_PAUSE_S)
                continue
            deadlines = [at for index in self._boards.loaded().values() for at in index.deadlines.values()]
            with trio.move_on_at(min(deadlines, default=float("inf"))):
                await leased.wait()

    async def expire_due(self) -> int:
        """Take back leases that have run out; how many."""
        gone = 0
        for owner_uid, index in self._boards.loaded().items():
            now = trio.current_time()
            for id in [id for id, at in index.deadlines.items() if at <= now]:
                gone += await self._expire(owner_uid, id)
        return gone

    async def _expire(self, owner_uid: int, id: str) -> bool:
        """Take back one lease, unless it was renewed meanwhile."""

        def plan(index: BoardIndex) -> Plan[tuple[Item | None, bool]]:
            item, now = index.get(id), self._now()
            if item is None or item.lease is None or index.deadlines.get(id, 0.0) > trio.current_time():
                return Plan(answer=(None, False))
            return _spread(index, rules.expired(item, now), now)

        return await self._finish(owner_uid, plan) is not None

    # -- helpers -------------------------------------------------------------------------------------------------

    async def _turn(self, owner_uid: int, id: str, change: Callable[[Item, BoardIndex, str], Item]) -> Item:
        """Change the state of one item, and of what depends on it."""

        def plan(index: BoardIndex) -> Plan[tuple[Item, bool]]:
            item, now = _found(index, id), self._now()
            new = change(item, index, now)
            return _spread(index, new, now, reads=new.depends_on if new.status in WAITING else ())

        return await self._finish(owner_uid, plan)

    async def _finish(self, owner_uid: int, plan: Callable[[BoardIndex], Plan[tuple[T, bool]]]) -> T:
        """Make a change; where more follows from it than one commit takes, the rest in further ones."""
        answer, more = await self._boards.change(owner_uid, plan)
        if more:
            await self._settle(owner_uid)
        return answer

    async def _settle(self, owner_uid: int) -> None:
        """Give all items that wait the state that follows from the others': a crash may have come in between."""

        def plan(index: BoardIndex) -> Plan[bool]:
            waiting = [item.id for item in index if item.status in WAITING]
            found = rules.ripple({}, index.get, index.dependents, self._now(), suspects=waiting)
            puts = dict(islice(found.items.items(), _MOST_AT_ONCE))
            return Plan(answer=len(puts) < len(found.items), puts=puts, reads=found.seen if puts else ())

        while await self._boards.change(owner_uid, plan):
            pass


def _spread(
    index: BoardIndex, item: Item, now: str, *, reads: Collection[str] = (), edits: Collection[str] = ()
) -> Plan[tuple[Any, bool]]:
    """Write an item and what follows from it; the answer is the item, and whether more follows than is written."""
    found = rules.ripple({item.id: item}, index.get, index.dependents, now)
    puts = dict(islice(found.items.items(), _MOST_AT_ONCE))
    answer = (item, len(puts) < len(found.items))
    return Plan(answer=answer, puts=puts, reads={*reads, *found.seen}, edits=edits)


def _found(index: BoardIndex, id: str) -> Item:
    item = index.get(id)
    if item is None:
        raise Refused("not_found", f"there is no item {id[:80]!r}")
    return item


def _checked_reason(reason: str) -> str:
    """A reason as it is kept."""
    return reason.encode("utf-8", "replace").decode()[:_MAX_REASON_CHARS].strip()
