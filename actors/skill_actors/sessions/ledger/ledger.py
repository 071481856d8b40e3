"""The ledger: what is about to be used is reserved against all caps at once, and settled when it is known.

Everything here is durable when it returns, and none of it is left halfway by a cancel: a reservation that nobody came
to know of would stay charged for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.models.base import ModelError, ModelRequest, Usage
from skill_actors.models.facts import facts_of
from skill_actors.models.prices import PriceTable
from skill_actors.sessions.events import utc_now
from skill_actors.sessions.ledger.account import Account
from skill_actors.sessions.ledger.agents import (
    AgentHold,
    AgentTerms,
    bounded_units,
    held_for,
    least_of,
    most_of,
    refusal_of,
    shrunk,
    used_of,
)
from skill_actors.sessions.ledger.bound import bound_of
from skill_actors.sessions.ledger.caps import Cap, CapState, bindings, cap_name, in_force, sum_key
from skill_actors.sessions.ledger.costs import CallCosts, within_reason
from skill_actors.sessions.ledger.exceeded import BudgetExceeded, CapUse
from skill_actors.sessions.ledger.hold import Hold
from skill_actors.sessions.ledger.judging import over, reached
from skill_actors.sessions.ledger.limits import Limits, nanousd_of
from skill_actors.sessions.ledger.slices import passing_time
from skill_actors.store.ledger.base import (
    Amounts,
    Entered,
    Entry,
    EntryKind,
    Judge,
    LedgerStore,
    OpenHold,
    StoredCap,
    Sums,
    UsageBy,
    UsageRow,
)
from skill_actors.telemetry import Bus

__all__ = ["DEFAULT_WARN_AT", "Hold", "Ledger"]

DEFAULT_WARN_AT: Final = (0.5, 0.8, 0.95)

_FREE: Final = "offline"  # this provider's calls cost nothing
_LARGEST_COST_USD: Final = 1_000_000.0

_log = logging.getLogger(__name__)


class Ledger:
    """All methods belong to the trio thread, and raise StorageFull and JournalClosed as the store does.

    Args:
        prices: what calls cost.
        caps: those of the configuration, asked each time.
        warn_at: shares of a cap, likewise; passing one is told as `budget.warning`.
        clock: the time, in UTC; its day and month are the windows of caps.

    """

    def __init__(
        self,
        store: LedgerStore,
        *,
        prices: PriceTable,
        bus: Bus,
        caps: Callable[[], Iterable[Cap]] = tuple,
        warn_at: Callable[[], Sequence[float]] = lambda: DEFAULT_WARN_AT,
        clock: Callable[[], str] = utc_now,
    ) -> None:
        self._store = store
        self._costs = CallCosts(prices)
        self._caps = caps
        self._warn_at = warn_at
        self._bus = bus
        self._clock = clock
        self._open: set[int] = set()

    @property
    def open(self) -> int:
        """Model calls that are reserved now and not settled."""
        return len(self._open)

    # -- model calls ---------------------------------------------------------------------------------------------

    async def reserve_call(
        self,
        account: Account,
        request: ModelRequest,
        *,
        provider: str,
        count_tokens: Callable[[], Awaitable[int | None]] | None = None,
    ) -> Hold:
        """Set aside the most that one call of a model can use. Each attempt needs a reservation of its own.

        Args:
            provider: of the model; calls of `offline` cost nothing and are not recorded.
            count_tokens: asks the API how long the prompt is; called only where the bound of its bytes does not fit
                into a cap and a counted one might. None from it: it does not know.

        Raises:
            BudgetExceeded: a cap leaves less, or bounds money and the model has no price; nothing was reserved.
            ModelError: from `count_tokens`, if it may succeed later.
            Refused: bad_request, if the call might use more than anybody could mean.

        """
        day = self._clock()[:10]
        if provider == _FREE:
            return Hold(id=None, account=account, day=day, model=request.model)
        bound = await trio.to_thread.run_sync(bound_of, request, facts_of(request.model))
        worst = self._costs.worst(request.model, bound)
        if worst != within_reason(worst):
            raise Refused("bad_request", f"max_tokens: no call of {request.model} is accounted that may use {worst}")
        hold = Hold(id=None, account=account, day=day, model=request.model, bound=bound, amounts=worst)
        try:
            return self._opened(await self._hold(hold))
        except BudgetExceeded as error:
            tokens = None
            if count_tokens is not None and self._costs.might_fit(hold, error):
                tokens = await _counted(count_tokens)
            if tokens is None:
                self._tell_exceeded(account, error)
                raise
        bound = bound.counted(tokens)
        try:
            shorter = replace(hold, bound=bound, amounts=self._costs.worst(hold.model, bound))
            return self._opened(await self._hold(shorter))
        except BudgetExceeded as error:
            self._tell_exceeded(account, error)
            raise

    async def settle_call(
        self, hold: Hold, model: str, usage: Usage, *, cut: bool, seconds: float = 0.0
    ) -> Sequence[CapUse]:
        """Say what a call used; a second time does nothing. Returns the thresholds that this passed.

        Args:
            model: that answered.
            usage: what the API reported.
            cut: it may have used more than that, since the answer did not come to its end: then the reported input and
                the whole answer that was asked for are taken, and never more than was reserved.
            seconds: how long the call took, which is what containers are paid for.

        """
        if hold.id is None:
            return ()
        used = self._costs.cut(hold, usage) if cut else self._costs.used(hold, model, usage, seconds)
        used = within_reason(used)
        data = {"usage": usage.to_dict(), "cut": cut}
        return await self._close(hold, "settle", used, model=model or hold.model, data=data)

    async def release(self, hold: Hold) -> None:
        """Nothing was used: the call was refused before any of its answer."""
        if hold.id is not None:
            await self._close(hold, "release", Amounts())

    # -- whole agents --------------------------------------------------------------------------------------------

    async def reserve_agent(self, account: Account, terms: AgentTerms) -> AgentHold:
        """Set aside what a turn of a whole agent may use: what all caps leave, or the most that its terms say.

        Where no cap bounds money or tokens, nothing is set aside.

        Raises:
            BudgetExceeded: a cap leaves less than a turn takes at least, or bounds money and the model has no price.
            Refused: budget_exceeded, if there is no such turn under a cap: nobody could end it in time.

        """
        day = self._clock()[:10]
        units = bounded_units(bindings(account, day, in_force(self._caps(), await self._stored_caps(account, day))))
        what = Hold(id=None, account=account, day=day, model=terms.shown if units else terms.model)
        if not units:
            return AgentHold(hold=what)
        answer = self._costs.answer(terms)
        least = least_of(answer, terms, units)
        wanted = most_of(least, terms, units)
        why = refusal_of(least, wanted, terms, units)
        if why is not None:
            raise Refused("budget_exceeded", why, details={"backend": terms.backend, "units": sorted(units)})
        while True:
            try:
                return held_for(self._opened(await self._hold(replace(what, amounts=wanted))), least, answer, units)
            except BudgetExceeded as error:
                smaller = shrunk(wanted, least, error)
                if smaller is None:
                    self._tell_exceeded(account, error)
                    raise
                wanted = smaller

    async def settle_agent(
        self, held: AgentHold, *, model: str, usage: Usage, cost_usd: float | None, cut: bool
    ) -> Sequence[CapUse]:
        """Say what a turn of an agent used. Returns the thresholds that this passed.

        Args:
            model: that answered; "" where nobody knows.
            cost_usd: None where nobody knows: then all that was set aside counts.
            cut: it may have used more than was told: one answer more counts, within what was set aside.

        """
        used = within_reason(used_of(held, usage, cost_usd, cut=cut))
        what = replace(held.hold, model=model or held.hold.model, amounts=used)
        if held.hold.id is None:
            return () if used == Amounts() else await self._record(what, bounded=False)
        data = {"usage": usage.to_dict(), "cut": cut}
        return await self._close(held.hold, "settle", used, model=what.model, data=data)

    # -- tools and time ------------------------------------------------------------------------------------------

    async def charge_tool(self, account: Account) -> Sequence[CapUse]:
        """Count one tool call that is about to run. Raises BudgetExceeded; then it must not."""
        try:
            return await self._charge(account, Amounts(tool_calls=1), bounded=True)
        except BudgetExceeded as error:
            self._tell_exceeded(account, error)
            raise

    async def add_cost(self, account: Account, cost_usd: float) -> Sequence[CapUse]:
        """Count what something says it has cost, also past a cap: it is spent. Raises ValueError if it is no amount."""
        if not 0 <= cost_usd <= _LARGEST_COST_USD:
            raise ValueError(f"{cost_usd!r} is not what something costs in US dollars")
        return await self._charge(account, Amounts(nanousd=nanousd_of(cost_usd)), bounded=False)

    def clock(
        self, account: Callable[[], Account], on_end: Callable[[BudgetExceeded], None]
    ) -> AbstractAsyncContextManager[None]:
        """Count the seconds while it is open; where a cap bounds them, a slice at a time is set aside.

        A slice that was set aside when the process died stays charged.

        Args:
            account: who pays, asked for each slice.
            on_end: called once, in a task of its own, when a cap leaves no more; what it stops must leave the context
                by itself.

        """
        return passing_time(
            lambda millis: self._hold_time(account(), millis),
            lambda hold, millis: self._settle_time(hold, account(), millis),
            lambda error: self._ended(account(), on_end, error),
        )

    # -- what is left --------------------------------------------------------------------------------------------

    async def caps(self, account: Account | None = None, *, name: str | None = None) -> Sequence[CapState]:
        """The caps in force with what was used of them: those that bind an account (over its own sums), or all.

        Of all, those that come with single sessions are there only by their `name`. Raises ValueError on a name that no
        cap can have.
        """
        day = self._clock()[:10]
        bound: list[tuple[Cap, str | None]]
        if account is not None:
            stored = await self._stored_caps(account, day)
            bound = [(b.cap, b.key) for b in bindings(account, day, in_force(self._caps(), stored))]
        else:
            stored = await self._store.caps(None if name is None else [cap_name(name)])
            bound = [(cap, sum_key(cap.name, day)) for cap in in_force(self._caps(), stored)]
        if name is not None:
            bound = [(cap, key) for cap, key in bound if cap.name == cap_name(name)]
        sums = await self._store.sums([key for _, key in bound if key is not None])
        return tuple(
            CapState(cap=cap, key=key, sums=None if key is None else sums.get(key, Sums())) for cap, key in bound
        )

    async def keep_budget(self, session: str, owner_uid: int, budget: Limits) -> None:
        """Have a session's own limits bind those that work for it, from now on; `Limits()`: it has none."""
        limits, now = budget.to_json(), self._clock()
        cap = StoredCap(name=f"session/{session}", source="session", limits=limits, by_uid=owner_uid, updated=now)
        await self._store.set_cap(cap)

    async def set_cap(self, name: str, limits: Limits | None, by_uid: int) -> bool:
        """Set a cap while the program runs, in place of one of this name in the configuration; None takes it away.

        Returns: whether there was one to take away, or True. Raises ValueError on a name that no cap can have.
        """
        name = cap_name(name)
        if limits is None:
            return await self._store.remove_cap(name)
        cap = StoredCap(name=name, source="set", limits=limits.to_json(), by_uid=by_uid, updated=self._clock())
        await self._store.set_cap(cap)
        return True

    async def usage(
        self,
        by: UsageBy = "day",
        *,
        since: str | None = None,
        until: str | None = None,
        owner_uid: int | None = None,
        limit: int = 10_000,
    ) -> Sequence[UsageRow]:
        """Usage by session, user, model or day of the days since..until (UTC, both included), of one owner or all.

        At most `limit` rows: those that cost most, and of days the first.
        """
        return await self._store.usage(by, since=since, until=until, owner_uid=owner_uid, limit=limit)

    async def open_holds(self) -> Sequence[OpenHold]:
        """What is reserved now."""
        return await self._store.open_holds()

    async def forget_turns(self, before: str) -> int:
        """Remove the sums of turns that were last charged before this time; how many. What they used stays."""
        return await self._store.forget_turns(before)

    async def verify(self) -> Sequence[str]:
        """Read all of it and compare; what was wrong, in words."""
        return await self._store.verify()

    # -- inside --------------------------------------------------------------------------------------------------

    def _opened(self, hold: Hold) -> Hold:
        if hold.id is not None:
            self._open.add(hold.id)
        return hold

    async def _hold(self, hold: Hold) -> Hold:
        """The same, reserved. Raises BudgetExceeded."""
        entered, config = await self._enter("hold", hold, bounded=True)
        made = replace(hold, id=entered.id, caps=config)
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            await self._close(made, "release", Amounts())
            raise
        return made

    async def _charge(self, account: Account, amounts: Amounts, *, bounded: bool) -> Sequence[CapUse]:
        what = Hold(id=None, account=account, day=self._clock()[:10], model="", amounts=amounts)
        return await self._record(what, bounded=bounded)

    async def _record(self, what: Hold, *, bounded: bool) -> Sequence[CapUse]:
        """Count what was not set aside before."""
        entered, config = await self._enter("charge", what, bounded=bounded)
        self._tell_settled(what, what.amounts)
        return self._tell_reached(what, config, entered.caps, entered.before, what.amounts)

    async def _stored_caps(self, account: Account, day: str) -> Sequence[StoredCap]:
        return await self._store.caps(_names(account, day))

    async def _enter(self, kind: EntryKind, what: Hold, *, bounded: bool) -> tuple[Entered, Sequence[Cap]]:
        account, config = what.account, tuple(self._caps())
        entry = Entry(
            kind=kind,
            time=self._clock(),
            day=what.day,
            session=account.session,
            turn=account.turn,
            owner_uid=account.owner_uid,
            parents=(*account.parents, *(f"agent/{name}" for name in account.above)),
            agent=account.agent,
            model=what.model or None,
            amounts=what.amounts,
        )
        names = _names(account, what.day)
        judge: Judge | None = partial(_judge, what, config) if bounded else None
        with trio.CancelScope(shield=True):
            entered = await self._store.enter(entry, judge=judge, caps=names, budget=account.budget.to_json())
        return entered, config

    async def _close(
        self,
        hold: Hold,
        kind: EntryKind,
        used: Amounts,
        *,
        model: str | None = None,
        data: dict[str, Any] | None = None,
    ) -> Sequence[CapUse]:
        assert hold.id is not None
        with trio.CancelScope(shield=True):
            closed = await self._store.close(
                hold.id, kind, time=self._clock(), amounts=used, model=model, data=data,
                caps=_names(hold.account, hold.day),
            )  # fmt: skip
        self._open.discard(hold.id)
        if closed is None:  # settled before, or charged in full when the journal was opened anew
            return ()
        self._check_bound(hold, used, data)
        self._tell_settled(hold, used)
        return self._tell_reached(hold, tuple(self._caps()), closed.caps, closed.before, used)

    def _check_bound(self, hold: Hold, used: Amounts, data: dict[str, Any] | None) -> None:
        bound = hold.amounts
        if used.nanousd <= bound.nanousd and used.tokens <= bound.tokens and used.millis <= bound.millis:
            return
        _log.error(
            "a call of %s used more than was reserved: %d of %d nano-dollars, %d of %d tokens; all of it is recorded. "
            "Request bound: %s, reported: %s",
            *(hold.model, used.nanousd, bound.nanousd, used.tokens, bound.tokens, hold.bound, data),
        )
        more = {"nanousd": used.nanousd - bound.nanousd, "tokens": used.tokens - bound.tokens}
        self._bus.emit("ledger.bound_wrong", more, {"model": hold.model, **_whose(hold.account)})

    def _tell_settled(self, what: Hold, used: Amounts) -> None:
        measured = {
            "cost_usd": used.nanousd / 10**9,
            "tokens": used.tokens,
            "seconds": used.millis / 1000,
            "tool_calls": used.tool_calls,
            "open": len(self._open),
        }
        self._bus.emit("ledger.settled", measured, {"model": what.model or None, **_whose(what.account)})

    def _tell_reached(
        self, what: Hold, config: Sequence[Cap], stored: Sequence[StoredCap], before: Any, used: Amounts
    ) -> Sequence[CapUse]:
        bound = bindings(what.account, what.day, in_force(config, stored))
        found = reached(bound, before, used, self._warn_at())
        for use in found:
            measured = {"used": use.used, "limit": use.limit, "share": use.share}
            self._bus.emit("budget.warning", measured, {"cap": use.cap, "unit": use.unit, **_whose(what.account)})
        return found

    def _tell_exceeded(self, account: Account, error: BudgetExceeded) -> None:
        measured = {"used": error.used, "held": error.held, "limit": error.limit, "wanted": error.wanted or 0}
        self._bus.emit("budget.exceeded", measured, {"cap": error.cap, "unit": error.unit, **_whose(account)})

    async def _hold_time(self, account: Account, millis: int) -> Hold | None:
        day = self._clock()[:10]
        bound = bindings(account, day, in_force(self._caps(), await self._stored_caps(account, day)))
        if all(binding.cap.limits.seconds is None for binding in bound):
            return None  # and the two commits of a reservation are saved
        return await self._hold(Hold(id=None, account=account, day=day, model="", amounts=Amounts(millis=millis)))

    async def _settle_time(self, hold: Hold | None, account: Account, millis: int) -> None:
        if hold is not None:
            await self._close(hold, "settle", Amounts(millis=millis))
        elif millis:
            await self._charge(account, Amounts(millis=millis), bounded=False)

    def _ended(self, account: Account, on_end: Callable[[BudgetExceeded], None], error: BudgetExceeded) -> None:
        self._tell_exceeded(account, error)
        on_end(error)


async def _counted(count_tokens: Callable[[], Awaitable[int | None]]) -> int | None:
    """What the API counts; None where it says that it does not count such a request."""
    try:
        return await count_tokens()
    except ModelError as error:
        if error.code != "invalid_request":
            raise
        return None


def _judge(what: Hold, config: Sequence[Cap], stored: Sequence[StoredCap], sums: Any) -> Exception | None:
    bound = bindings(what.account, what.day, in_force(config, stored))
    return over(bound, sums, what.amounts, model=what.model)


def _names(account: Account, day: str) -> Sequence[str]:
    return tuple(dict.fromkeys(name for scope in account.scopes(day) for name in scope.caps))


def _whose(account: Account) -> dict[str, object]:
    return {"session": account.session, "turn": account.turn, "owner_uid": account.owner_uid}
