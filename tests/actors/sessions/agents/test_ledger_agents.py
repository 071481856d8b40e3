"""Turns of agents in the ledger: whatever they take, in whatever order, no cap is passed and nothing is forgotten."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_kit import MODEL, LedgerKit, account, cap, open_ledger
from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.models.base import Usage
from skill_actors.sessions.ledger import AgentHold, AgentTerms, BudgetExceeded

NANO = 10**9


def terms(**fields: object) -> AgentTerms:
    values: dict[str, object] = {
        "backend": "any",
        "budget": "money",
        "model": MODEL,
        "answer_usd": 0.5,
        "turn_usd": 2.0,
    }
    return AgentTerms(**(values | fields))  # type: ignore[arg-type]


async def spent(kit: LedgerKit) -> tuple[int, int, int]:
    """Used and held billionths of a dollar, and tokens, over all."""
    (state,) = await kit.ledger.caps(name="total")
    assert state.sums is not None
    return state.sums.used.nanousd, state.sums.held.nanousd, state.sums.used.tokens


@dataclass
class Working:
    """Turns under way, and what a provider has billed by now."""

    open: list[AgentHold] = field(default_factory=list)
    billed: int = 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.sampled_from(["money", "tokens"]), st.integers(1, 6)),
        st.tuples(st.just("settle"), st.floats(0, 1), st.booleans()),
        st.tuples(st.just("crash")),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(limit=st.integers(0, 12), answer=st.sampled_from([0.1, 0.5, 1.5]), steps=STEPS)
def test_agents_never_pass_a_cap_together_and_never_less_is_recorded_than_was_billed(
    limit: int, answer: float, steps: list[tuple[object, ...]]
) -> None:
    """An agent stays below what it is told, and then gives one answer more: the worst that the contract allows."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            file, caps, work = Path(folder, "journal.db"), [cap("total", usd=limit)], Working()
            rest = list(steps)
            while rest:
                async with open_ledger(file, caps=caps) as kit:
                    while rest and (step := rest.pop(0))[0] != "crash":
                        await take(kit, work, step, answer)
                        used, held, _tokens = await spent(kit)
                        assert used + held <= limit * NANO
                    # A kill: what was set aside stays so, and what the agents took by then is billed.
                work.billed += sum(int((hold.usd or 0) * NANO) + hold.answer.nanousd for hold in work.open)
                work.open.clear()
            async with open_ledger(file, caps=caps) as kit:
                used, held, _tokens = await spent(kit)
                assert held == 0
                assert work.billed <= used <= limit * NANO

    trio.run(main)


async def take(kit: LedgerKit, work: Working, step: tuple[object, ...], answer: float) -> None:
    match step:
        case ("begin", kind, count):
            who = account(new_id("ses"))
            asked = terms(budget=kind, answer_usd=answer, turn_usd=float(int(str(count))) + 3 * answer)
            try:
                work.open.append(await kit.ledger.reserve_agent(who, asked))
            except BudgetExceeded:
                return
        case ("settle", share, cut) if work.open:
            hold = work.open.pop(0)
            assert hold.usd is not None
            told = int(hold.usd * NANO * float(str(share)))
            more = hold.answer.nanousd if cut else 0
            work.billed += told + more
            await kit.ledger.settle_agent(hold, model=MODEL, usage=Usage(), cost_usd=told / NANO, cut=bool(cut))


def test_tokens_are_bound_by_two_answers(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_ledger(tmp_path / "journal.db", caps=[cap("total", tokens=1_000_000)]) as kit:
            hold = await kit.ledger.reserve_agent(account(), terms(turn_tokens=800_000))
            assert hold.usd is None
            assert hold.tokens == 800_000 - 2 * hold.answer.tokens
            assert hold.is_passed(Usage(input_tokens=hold.tokens), None) is None
            assert hold.is_passed(Usage(input_tokens=hold.tokens + 1), None) == "tokens"
            with pytest.raises(BudgetExceeded, match="tokens"):
                await kit.ledger.reserve_agent(account(), terms())

    trio.run(main)


def test_where_no_cap_bounds_it_nothing_is_written_before_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_ledger(tmp_path / "journal.db", caps=[cap("total", tool_calls=5)]) as kit:
            hold = await kit.ledger.reserve_agent(account(), terms(budget="none"))
            assert (hold.hold.id, hold.usd, hold.tokens, kit.ledger.open) == (None, None, None, 0)
            await kit.ledger.settle_agent(hold, model="m", usage=Usage(input_tokens=7), cost_usd=0.25, cut=False)
            assert await spent(kit) == (NANO // 4, 0, 7)
            (row,) = await kit.ledger.usage("model")
            assert row.key == "m"

    trio.run(main)


def test_settling_twice_and_releasing_a_settled_one_change_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_ledger(tmp_path / "journal.db", caps=[cap("total", usd=10)]) as kit:
            hold = await kit.ledger.reserve_agent(account(), terms())
            for cost in (0.5, 1.5):
                await kit.ledger.settle_agent(hold, model=MODEL, usage=Usage(), cost_usd=cost, cut=False)
            await kit.ledger.release(hold.hold)
            assert await spent(kit) == (NANO // 2, 0, 0)

    trio.run(main)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"budget": "none"}, "cannot tell what a turn takes"),
        ({"answer_usd": 5.0}, "raise turn_budget_usd"),
    ],
)
def test_a_turn_that_nobody_could_end_in_time_is_refused(tmp_path: Path, fields: dict[str, object], says: str) -> None:
    async def main() -> None:
        async with open_ledger(tmp_path / "journal.db", caps=[cap("total", usd=10)]) as kit:
            with pytest.raises(Refused, match=says) as caught:
                await kit.ledger.reserve_agent(account(), terms(**fields))
            assert caught.value.code == "budget_exceeded"
            assert await spent(kit) == (0, 0, 0)

    trio.run(main)


def test_a_model_that_is_not_known_has_no_bound_and_so_no_turn_under_a_cap_on_money(tmp_path: Path) -> None:
    """Its price may be known: but nobody knows how much it reads at once."""

    async def main() -> None:
        async with open_ledger(tmp_path / "journal.db", caps=[cap("total", usd=10)]) as kit:
            with pytest.raises(BudgetExceeded, match="has no price"):
                await kit.ledger.reserve_agent(account(), terms(answer_usd=None))
            known = await kit.ledger.reserve_agent(
                account(), terms(answer_usd=None, model="claude-sonnet-5-5", turn_usd=20.0)
            )
            assert known.usd is not None
            assert 0 < known.usd < 10

    trio.run(main)
