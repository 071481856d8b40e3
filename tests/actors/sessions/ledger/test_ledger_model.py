"""The ledger beside a plain model of it: random caps, callers at once, crashes in between, and a bill as the judge."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_kit import MODEL, LedgerKit, cap, open_ledger, request
from skill_actors.models.base import Usage
from skill_actors.sessions.ledger import Account, BudgetExceeded, Cap, Hold, Limits
from skill_actors.sessions.ledger.limits import UNITS, amount_of
from skill_actors.store.ledger import Amounts, Sums
from support import run

DAYS = ["2026-01-31", "2026-02-01"]
SESSIONS = ["ses_" + letter * 26 for letter in "abc"]
PARENTS = {SESSIONS[0]: (), SESSIONS[1]: (SESSIONS[0],), SESSIONS[2]: (SESSIONS[1], SESSIONS[0])}
KINDS = ["turn", "session", "user", "user/day", "user/month", "global", "day", "month", "agent", "user/1001", "agent/x"]

LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "usd": st.integers(2, 15).map(lambda thousandths: thousandths / 1000),
        "tokens": st.integers(2000, 15_000),
        "tool_calls": st.integers(0, 6),
    },
)
CAPS = st.dictionaries(st.sampled_from(KINDS), LIMITS, min_size=1, max_size=4)
WHO = st.tuples(
    st.sampled_from(SESSIONS),
    st.integers(0, 3),
    st.sampled_from([1000, 1001]),
    st.sampled_from([None, "x"]),
    st.just({}) | LIMITS,
)
SHARE = st.floats(0, 1)
STEPS = st.one_of(
    st.tuples(st.just("reserve"), st.lists(st.tuples(WHO, st.integers(0, 4000)), min_size=2, max_size=6)),
    st.tuples(st.just("settle"), st.integers(0, 20), SHARE, SHARE, st.booleans()),
    st.tuples(st.just("release"), st.integers(0, 20)),
    st.tuples(st.just("tool"), WHO),
    st.tuples(st.just("cost"), WHO, st.integers(0, 5)),
    st.tuples(st.just("crash")),
    st.tuples(st.just("midnight")),
)


def added(one: Amounts, other: Amounts, sign: int = 1) -> Amounts:
    names = ("nanousd", "tokens", "millis", "tool_calls")
    return Amounts(**{name: getattr(one, name) + sign * getattr(other, name) for name in names})


@dataclass
class Plain:
    """What should be recorded, kept in the plainest way; and what a provider would have billed by now."""

    used: defaultdict[str, Amounts] = field(default_factory=lambda: defaultdict(Amounts))
    held: defaultdict[str, Amounts] = field(default_factory=lambda: defaultdict(Amounts))
    past: set[str] = field(default_factory=set)  # keys that something was entered for which no cap may refuse
    open: list[Hold] = field(default_factory=list)
    billed: int = 0

    def hold(self, hold: Hold) -> None:
        self.open.append(hold)
        for scope in hold.account.scopes(hold.day):
            self.held[scope.key] = added(self.held[scope.key], hold.amounts)

    def close(self, hold: Hold, used: Amounts) -> None:
        self.open.remove(hold)
        for scope in hold.account.scopes(hold.day):
            self.held[scope.key] = added(self.held[scope.key], hold.amounts, -1)
            self.used[scope.key] = added(self.used[scope.key], used)

    def charge(self, who: Account, day: str, used: Amounts) -> None:
        for scope in who.scopes(day):
            self.used[scope.key] = added(self.used[scope.key], used)

    def fits(self, who: Account, day: str, caps: list[Cap], wanted: Amounts) -> bool:
        """Whether all caps have room, as the issue of each says; own budgets of the account and its parents' apart."""
        for scope in who.scopes(day):
            for each in caps:
                if each.name in scope.caps and not self._has_room(scope.key, each.limits, wanted):
                    return False
        return True

    def _has_room(self, key: str, limits: Limits, wanted: Amounts) -> bool:
        for unit in UNITS:
            limit, more = limits.whole(unit), amount_of(wanted, unit)
            taken = amount_of(self.used[key], unit) + amount_of(self.held[key], unit)
            if limit is not None and more and taken + more > limit:
                return False
        return True


class Play:
    """One run of both."""

    def __init__(self, folder: Path, caps: dict[str, dict[str, float]]) -> None:
        aliases = {"day": "global/day", "month": "global/month"}
        self._config = [cap(aliases.get(name, name), **limits) for name, limits in caps.items()]
        self._folder = folder
        self._lives = 0
        self._budgets: dict[str, Limits] = {}
        self.plain = Plain()
        self.day = DAYS[0]

    async def go(self, steps: list[tuple]) -> None:  # type: ignore[type-arg]
        async with AsyncExitStack() as stack:
            kit = await stack.enter_async_context(self._open())
            for kind, *details in steps:
                if kind == "crash":
                    kit = await self._crash(stack, kit)
                elif kind == "midnight":
                    self.day = DAYS[1]
                    kit.now = f"{self.day}T00:00:00.000Z"
                else:
                    await getattr(self, f"_{kind}")(kit, *details)
                await self._check(kit)
            assert await kit.ledger.verify() == ()

    def _open(self) -> AbstractAsyncContextManager[LedgerKit]:
        path = self._folder / str(self._lives) / "journal.db"
        return open_ledger(path, caps=self._config, now=f"{self.day}T12:00:00.000Z")

    async def _crash(self, stack: AsyncExitStack, kit: LedgerKit) -> LedgerKit:
        """The next life begins with the file as it is now: nobody closes anything."""
        self._lives += 1
        target = self._folder / str(self._lives) / "journal.db"
        target.parent.mkdir()
        await kit.journal.copy_to(target)
        for hold in list(self.plain.open):
            self.plain.billed += hold.amounts.nanousd // 2  # it may have been used, and nobody heard of it
            self.plain.close(hold, hold.amounts)
        await stack.aclose()
        return await stack.enter_async_context(self._open())

    def _who(self, who: tuple[str, int, int, str | None, dict[str, float]]) -> Account:
        session, turn, uid, agent, budget = who
        return Account(
            session=session,
            turn="trn_" + "abcd"[turn] * 26,
            owner_uid=uid,
            parents=PARENTS[session],
            agent=agent,
            budget=Limits.from_json(budget),
        )

    async def _reserve(self, kit: LedgerKit, wanted: list) -> None:  # type: ignore[type-arg]
        refused: list[tuple[Account, int, BudgetExceeded]] = []

        async def one(who: Account, max_tokens: int) -> None:
            try:
                made = request(max_tokens=max_tokens)
                self.plain.hold(await kit.ledger.reserve_call(who, made, provider="test"))
            except BudgetExceeded as error:
                refused.append((who, max_tokens, error))

        async with trio.open_nursery() as nursery:
            for who, max_tokens in wanted:
                nursery.start_soon(one, self._who(who), max_tokens)
        for _, _, error in refused:  # whoever came in the meantime: now there is no room at all
            unit, key = error.unit, error.key
            taken = amount_of(self.plain.used[key], unit) + amount_of(self.plain.held[key], unit)
            assert taken / (10**9 if unit == "usd" else 1) + (error.wanted or 0) > error.limit

    async def _settle(self, kit: LedgerKit, index: int, said: float, answered: float, cut: bool) -> None:
        if not self.plain.open:
            return
        hold = self.plain.open[index % len(self.plain.open)]
        bound = hold.bound
        true = Usage(input_tokens=int(bound.prompt_tokens * said), output_tokens=int(bound.answer_tokens * answered))
        self.plain.billed += true.total_tokens * 1000
        if cut and true.input_tokens:
            told = Usage(input_tokens=true.input_tokens, output_tokens=true.output_tokens // 3)
            await kit.ledger.settle_call(hold, MODEL, told, cut=True)
            tokens = true.input_tokens + bound.answer_tokens
        elif cut:
            await kit.ledger.settle_call(hold, MODEL, Usage(), cut=True)
            self.plain.close(hold, hold.amounts)
            return
        else:
            await kit.ledger.settle_call(hold, MODEL, true, cut=False)
            tokens = true.total_tokens
        self.plain.close(hold, Amounts(nanousd=tokens * 1000, tokens=tokens))

    async def _release(self, kit: LedgerKit, index: int) -> None:
        if self.plain.open:
            hold = self.plain.open[index % len(self.plain.open)]
            await kit.ledger.release(hold)
            self.plain.close(hold, Amounts())

    async def _tool(self, kit: LedgerKit, who: tuple) -> None:  # type: ignore[type-arg]
        spender = self._who(who)
        room = self.plain.fits(spender, self.day, self._config, Amounts(tool_calls=1))
        refused = None
        try:
            await kit.ledger.charge_tool(spender)
        except BudgetExceeded as error:
            refused = error
        if refused is not None:
            assert not room or refused.source == "session"
            return
        assert room
        self.plain.charge(spender, self.day, Amounts(tool_calls=1))

    async def _cost(self, kit: LedgerKit, who: tuple, thousandths: int) -> None:  # type: ignore[type-arg]
        spender = self._who(who)
        await kit.ledger.add_cost(spender, thousandths / 1000)
        self.plain.charge(spender, self.day, Amounts(nanousd=thousandths * 10**6))
        self.plain.billed += thousandths * 10**6
        self.plain.past |= {scope.key for scope in spender.scopes(self.day)}

    async def _check(self, kit: LedgerKit) -> None:
        """What is recorded is what should be; no less than the bill, and no more than any cap."""
        keys = sorted(self.plain.used.keys() | self.plain.held.keys())
        stored = await kit.journal.ledger.sums(keys)
        for key in keys:
            sums = stored.get(key, Sums())
            assert (sums.used, sums.held) == (self.plain.used[key], self.plain.held[key]), key
        assert self.plain.used["global"].nanousd + self.plain.held["global"].nanousd >= self.plain.billed
        for state in await kit.ledger.caps():
            for key, sum_ in self._sums_of(state.cap.name, state.key, stored).items():
                for unit in UNITS:
                    limit = state.cap.limits.whole(unit)
                    spent = amount_of(sum_.used, unit) + amount_of(sum_.held, unit)
                    assert limit is None or spent <= limit or (unit == "usd" and key in self.plain.past), (key, unit)

    def _sums_of(self, name: str, key: str | None, stored: Mapping[str, Sums]) -> dict[str, Sums]:
        if key is not None:
            return {key: stored[key]} if key in stored else {}
        kind, _, window = name.partition("/")
        dashes = {"": 0, "day": 2, "month": 1}[window]
        return {
            each: sums
            for each, sums in stored.items()
            if each.startswith(f"{kind}/")
            and each.count("/") == (2 if window else 1)
            and each.rpartition("/")[2].count("-") == dashes
        }


def play(caps: dict[str, dict[str, float]], steps: list[tuple]) -> None:  # type: ignore[type-arg]
    with tempfile.TemporaryDirectory() as folder:
        run(Play(Path(folder), caps).go, steps)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(CAPS, st.lists(STEPS, min_size=3, max_size=15))
def test_what_is_recorded_is_never_above_a_cap_and_never_below_the_bill(
    caps: dict[str, dict[str, float]],
    steps: list[tuple],  # type: ignore[type-arg]
) -> None:
    play(caps, steps)


@pytest.mark.deep
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(CAPS, st.lists(STEPS, min_size=3, max_size=40))
def test_the_same_for_long(caps: dict[str, dict[str, float]], steps: list[tuple]) -> None:  # type: ignore[type-arg]
    play(caps, steps)
