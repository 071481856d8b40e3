"""Nothing is used that a cap has no room for, whatever happens in between; and all that is used is recorded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from ledger_kit import MODEL, NOON, LedgerKit, account, cap, open_ledger, request
from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.models.base import ModelError, Usage
from skill_actors.sessions.ledger import Account, BudgetExceeded, Cap, CapUse, Hold, Limits
from skill_actors.store.base import Append, SessionRecord, TurnRecord
from support import run

USED = Usage(input_tokens=100, output_tokens=200)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


async def call(kit: LedgerKit, who: Account, usage: Usage = USED, **fields: object) -> Hold:
    """A call from its reservation to its settlement."""
    hold = await kit.ledger.reserve_call(who, request(**fields), provider="test")  # type: ignore[arg-type]
    await kit.ledger.settle_call(hold, MODEL, usage, cut=False)
    return hold


async def total(kit: LedgerKit) -> tuple[int, int]:
    """Nano-dollars used and held in all."""
    sums = (await kit.journal.ledger.sums(["global"])).get("global")
    return (0, 0) if sums is None else (sums.used.nanousd, sums.held.nanousd)


def test_a_turns_own_budget_binds_that_turn_alone_and_says_who_can_raise_it(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("turn", tokens=100_000)]) as kit:
            who = account(turn_budget=Limits(tokens=1700))
            await call(kit, who)
            with pytest.raises(BudgetExceeded, match=re.escape('"options": {"budget": {"tokens": N}}')) as error:
                await call(kit, who)
            assert (error.value.cap, error.value.source) == (f"turn/{who.turn}", "message")
            await call(kit, replace(who, turn=new_id("trn"), turn_budget=Limits()))
            with pytest.raises(BudgetExceeded):  # the least of all holds
                await call(kit, replace(who, turn_budget=Limits(tokens=10**9)), max_tokens=200_000)

    run(main)


def test_a_call_is_held_at_its_worst_and_settled_at_what_it_used(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            hold = await kit.ledger.reserve_call(account(), request("x" * 500, max_tokens=1000), provider="test")
            assert hold.amounts.priced
            assert hold.amounts.nanousd == hold.amounts.tokens * 1000 * 11 // 10  # the United States cost more
            assert hold.amounts.tokens >= 1500
            assert await total(kit) == (0, hold.amounts.nanousd)
            assert kit.ledger.open == 1
            assert [open_.entry.id for open_ in await kit.ledger.open_holds()] == [hold.id]
            await kit.ledger.settle_call(hold, MODEL, USED, cut=False)
            assert await total(kit) == (300_000, 0)
            assert (kit.ledger.open, await kit.ledger.open_holds()) == (0, ())
            await kit.ledger.settle_call(hold, MODEL, USED, cut=False)  # again does nothing
            await kit.ledger.release(hold)
            assert await total(kit) == (300_000, 0)
            assert await kit.ledger.verify() == ()

    run(main)


def test_a_released_call_costs_nothing(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            await kit.ledger.release(await kit.ledger.reserve_call(account(), request(), provider="test"))
            assert await total(kit) == (0, 0)

    run(main)


@pytest.mark.parametrize(
    "name",
    ["turn", "session", "agent", "user", "user/day", "user/month", "global", "day", "month", "total", "global/day"],
)
def test_every_kind_of_cap_refuses_what_it_has_no_room_for(path: Path, name: str) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap(name, usd=0.005)]) as kit:
            who = account(agent="helper")
            for _ in range(20):
                try:
                    await call(kit, who)
                except BudgetExceeded as error:
                    refused = error
                    break
            used, held = await total(kit)
            assert 0 < used <= 5_000_000
            assert held == 0
            assert (refused.unit, refused.limit, refused.used) == ("usd", 0.005, used / 1e9)
            assert re.search(
                rf"the cap {refused.cap} of 0.005 USD .* skillctl budget set {refused.cap} --usd N", str(refused)
            )
            assert refused.refused().code == "budget_exceeded"
            assert refused.refused().details["cap"] == refused.cap
            assert kit.names()[-1] == "budget.exceeded"

    run(main)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("turn", {"turn": new_id("trn")}),
        ("session", {"session": new_id("ses")}),
        ("agent", {"agent": "other"}),
        ("user/day", {"owner_uid": 1001}),
    ],
)
def test_a_cap_over_each_of_a_kind_leaves_the_others_alone(path: Path, name: str, other: dict[str, object]) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap(name, tokens=3000)]) as kit:
            fields: dict[str, object] = {"session": new_id("ses"), "turn": new_id("trn"), "agent": "helper"}
            await call(kit, account(**fields), Usage(input_tokens=2900))
            with pytest.raises(BudgetExceeded, match="3000 tokens"):
                await call(kit, account(**fields))
            await call(kit, account(**(fields | other)))

    run(main)


def test_two_callers_cannot_both_take_what_is_left_once(path: Path) -> None:
    """Fifty at once, with room for three at their worst."""

    async def main() -> None:
        async with open_ledger(path) as kit:
            worst = (await kit.ledger.reserve_call(account(), request(), provider="test")).amounts.tokens
            kit.caps = [cap("global", tokens=4 * worst)]
            got: list[Hold] = []
            refused: list[BudgetExceeded] = []

            async def one() -> None:
                try:
                    got.append(await kit.ledger.reserve_call(account(), request(), provider="test"))
                except BudgetExceeded as error:
                    refused.append(error)

            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(one)
            assert (len(got), len(refused)) == (3, 47)
            assert {error.held for error in refused} == {4 * worst}

    run(main)


def test_what_was_open_when_the_process_died_is_charged_in_full(path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            who = account()
            await call(kit, who)
            hold = await kit.ledger.reserve_call(who, request(), provider="test")
            copy = tmp_path / "copy" / "journal.db"
            copy.parent.mkdir()
            await kit.journal.copy_to(copy)  # as a kill -9 leaves it
        async with open_ledger(copy) as kit:
            assert await total(kit) == (300_000 + hold.amounts.nanousd, 0)
            (row,) = await kit.ledger.usage("session")
            assert (row.key, row.calls, row.used.nanousd) == (who.session, 2, 300_000 + hold.amounts.nanousd)
            assert await kit.ledger.settle_call(hold, MODEL, USED, cut=False) == ()  # too late, and no error
            assert await total(kit) == (300_000 + hold.amounts.nanousd, 0)
            assert await kit.ledger.verify() == ()
            again = await kit.ledger.reserve_call(who, request(), provider="test")
            assert (again.id or 0) > (hold.id or 0) + 1  # no number is used twice

    run(main)


def test_a_cancelled_reservation_leaves_nothing_held(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            with trio.move_on_after(5) as scope:
                async with trio.open_nursery() as nursery:
                    for _ in range(5):
                        nursery.start_soon(_reserve_for_ever, kit)
                    await trio.lowlevel.checkpoint()
                    scope.cancel()
            assert await total(kit) == (0, 0)
            assert kit.ledger.open == 0

    run(main)


async def _reserve_for_ever(kit: LedgerKit) -> None:
    while True:
        await kit.ledger.release(await kit.ledger.reserve_call(account(), request(), provider="test"))


def test_a_cut_call_is_charged_with_its_input_and_the_whole_answer_that_was_asked_for(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            hold = await kit.ledger.reserve_call(account(), request("x" * 5000), provider="test")
            await kit.ledger.settle_call(hold, MODEL, Usage(input_tokens=1300, output_tokens=3), cut=True)
            assert await total(kit) == (2_300_000, 0)
            hold = await kit.ledger.reserve_call(account(), request(), provider="test")
            await kit.ledger.settle_call(hold, MODEL, Usage(), cut=True)  # nothing is known of it
            assert await total(kit) == (2_300_000 + hold.amounts.nanousd, 0)
            hold = await kit.ledger.reserve_call(account(), request(), provider="test")
            await kit.ledger.settle_call(hold, MODEL, Usage(input_tokens=10**6), cut=True)  # never above the hold
            assert await total(kit) == (2_300_000 + 2 * hold.amounts.nanousd, 0)
            assert "ledger.bound_wrong" not in kit.names()

    run(main)


def test_a_call_of_the_apis_own_tools_that_is_cut_is_charged_with_all_that_was_reserved(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]
            hold = await kit.ledger.reserve_call(account(), request(tools=tools), provider="test")
            await kit.ledger.settle_call(hold, MODEL, Usage(input_tokens=5), cut=True)
            assert await total(kit) == (hold.amounts.nanousd, 0)

    run(main)


def test_a_bound_that_was_wrong_is_recorded_in_full_and_reported(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("global", usd=0.01)]) as kit:
            hold = await kit.ledger.reserve_call(account(), request(), provider="test")
            await kit.ledger.settle_call(hold, MODEL, Usage(input_tokens=20_000_000), cut=False)
            assert await total(kit) == (20_000_000_000, 0)
            assert "ledger.bound_wrong" in kit.names()
            assert "used more than was reserved" in caplog.text
            with pytest.raises(BudgetExceeded, match=r"20\.00 USD used"):
                await call(kit, account())

    run(main)


def test_a_model_without_a_price_is_refused_where_money_is_bounded(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("day", usd=1000)]) as kit:
            with pytest.raises(BudgetExceeded, match=r"no-such-model has no price.*model.price_file"):
                await call(kit, account(), model="no-such-model")
            kit.caps = [cap("day", tokens=1_000_000)]
            hold = await kit.ledger.reserve_call(account(), request(model="no-such-model"), provider="test")
            await kit.ledger.settle_call(hold, "no-such-model", USED, cut=False)
            (row,) = await kit.ledger.usage("model")
            assert (row.key, row.unpriced, row.used.priced, row.used.tokens) == ("no-such-model", 1, False, 300)
            assert await kit.ledger.verify() == ()

    run(main)


def test_the_offline_model_costs_nothing_and_leaves_no_entry(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("global", usd=0, tokens=0)]) as kit:
            hold = await kit.ledger.reserve_call(account(), request(model="offline"), provider="offline")
            await kit.ledger.settle_call(hold, "offline", USED, cut=False)
            await kit.ledger.release(hold)
            assert await kit.ledger.usage("day") == ()

    run(main)


def test_the_api_counts_only_where_the_bytes_do_not_fit_and_a_counted_prompt_might(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            asked: list[int] = []

            async def count() -> int:
                asked.append(1)
                return 5000

            async def reserve(tokens: int) -> int:
                kit.caps = [cap("turn", tokens=tokens)]
                long = request("word " * 5000)
                hold = await kit.ledger.reserve_call(account(), long, provider="test", count_tokens=count)
                return hold.amounts.tokens

            assert await reserve(30_000) > 26_000
            assert asked == []
            assert 6000 < await reserve(10_000) < 8000
            assert asked == [1]
            with pytest.raises(BudgetExceeded):  # asked, and even so too much
                await reserve(5000)
            with pytest.raises(BudgetExceeded):  # the answer alone is too much: nothing to ask for
                await reserve(900)
            assert asked == [1, 1]

            async def unable() -> None:
                asked.append(2)

            with pytest.raises(BudgetExceeded):
                await kit.ledger.reserve_call(account(), request("word " * 5000), provider="test", count_tokens=unable)
            assert kit.names().count("budget.exceeded") == 3

    run(main)


@pytest.mark.parametrize(("code", "raised"), [("invalid_request", BudgetExceeded), ("overloaded", ModelError)])
def test_a_count_that_fails_lets_nothing_through(path: Path, code: str, raised: type[Exception]) -> None:
    """What the endpoint does not count is as long as its bytes; what may be tried again is, by who has asked."""

    async def main() -> None:
        async with open_ledger(path, caps=[cap("turn", tokens=5000)]) as kit:

            async def count() -> int:
                raise ModelError("no", code=code)

            with pytest.raises(raised):
                await kit.ledger.reserve_call(account(), request("word " * 5000), provider="test", count_tokens=count)
            assert await kit.ledger.open_holds() == ()

    run(main)


def test_no_call_takes_so_much_that_the_sums_of_all_overflow(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            for model in (MODEL, "of-no-price"):
                with pytest.raises(Refused, match="max_tokens"):
                    await kit.ledger.reserve_call(account(), request(max_tokens=9 * 10**18, model=model), provider="t")
            hold = await kit.ledger.reserve_call(account(), request(), provider="test")
            await kit.ledger.settle_call(hold, MODEL, Usage(output_tokens=10**30), cut=False)
            assert await total(kit) == (10**15, 0)
            await call(kit, account())  # of somebody else, whose sums are those of all, too

    run(main)


# -- who is charged ----------------------------------------------------------------------------------------------


def test_a_child_is_charged_to_its_parents_and_bound_by_their_caps(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            parent = account(budget=Limits(tokens=4000))
            await call(kit, parent)  # the parent's budget is known from here on
            child = account(parents=(parent.session,))
            for _ in range(5):
                try:
                    await call(kit, child, Usage(input_tokens=900))
                except BudgetExceeded as error:
                    refused = error
            assert (refused.cap, refused.source) == (f"session/{parent.session}", "session")
            assert f"PATCH /v1/sessions/{parent.session}" in str(refused)
            sums = await kit.journal.ledger.sums([f"session/{child.session}", f"session/{parent.session}"])
            spent = sums[f"session/{child.session}"].used.tokens
            assert sums[f"session/{parent.session}"].used.tokens == spent + 300 <= 4000
            by_session = {row.key: row.used.tokens for row in await kit.ledger.usage("session")}
            assert by_session == {parent.session: 300, child.session: spent}  # each once

    run(main)


def test_a_budget_that_is_taken_away_binds_nobody_any_more(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            parent = account(budget=Limits(tokens=2500))
            await call(kit, parent, Usage(input_tokens=2000))
            child = account(parents=(parent.session,))
            with pytest.raises(BudgetExceeded):
                await call(kit, child)
            await call(kit, account(parent.session), Usage(input_tokens=1))  # the parent, now without one
            await call(kit, child)

    run(main)


def test_a_set_cap_stands_for_the_configured_one_and_a_sessions_own_holds_besides(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("day", tokens=10)]) as kit:
            who = account(budget=Limits(tokens=5000))
            with pytest.raises(BudgetExceeded, match="global/day"):
                await call(kit, who)
            assert await kit.ledger.set_cap("day", Limits(tokens=10_000), 0)
            await call(kit, who, Usage(input_tokens=4800))
            assert await kit.ledger.set_cap(f"session/{who.session}", Limits(tokens=100_000), 0)
            with pytest.raises(BudgetExceeded, match=f"session/{who.session}"):
                await call(kit, who)
            (state,) = await kit.ledger.caps(name="day")
            assert (state.cap.source, state.key, state.sums and state.sums.used.tokens) == (
                *("set", "global/2026-03-31"),
                4800,
            )
        async with open_ledger(path, caps=[cap("day", tokens=10)]) as kit:  # it is durable
            assert {state.cap.name for state in await kit.ledger.caps()} == {"global/day", f"session/{who.session}"}
            assert await kit.ledger.set_cap("day", None, 0)
            assert not await kit.ledger.set_cap("day", None, 0)
            with pytest.raises(BudgetExceeded, match="global/day"):
                await call(kit, account())

    run(main)


def test_an_account_is_bound_by_its_own_budget_beside_the_caps_of_the_daemon(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("day", usd=1, tokens=1000), cap("user", tokens=5000)]) as kit:
            who = account(budget=Limits(seconds=60, tokens=100_000))
            binding = {(state.cap.name, state.key) for state in await kit.ledger.caps(who)}
            own = f"session/{who.session}"
            assert binding == {("global/day", "global/2026-03-31"), ("user", "user/1000"), (own, own)}

    run(main)


def test_the_day_and_the_month_turn_at_midnight_utc_and_a_call_counts_for_when_it_was_reserved(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("day", tokens=3000), cap("user/month", tokens=6000)]) as kit:
            kit.now = "2026-03-31T23:59:59.999Z"
            await call(kit, account(), Usage(input_tokens=100))
            hold = await kit.ledger.reserve_call(account(), request(), provider="test")
            kit.now = "2026-04-01T00:00:00.000Z"
            await kit.ledger.settle_call(hold, MODEL, Usage(input_tokens=2800), cut=False)  # of the day before
            await call(kit, account(), Usage(input_tokens=2000))
            rows = {row.key: row.used.tokens for row in await kit.ledger.usage("day")}
            assert rows == {"2026-03-31": 2900, "2026-04-01": 2000}
            with pytest.raises(BudgetExceeded, match="global/day"):
                await call(kit, account())
            kit.now = "2026-04-02T00:00:00.000Z"
            await call(kit, account(), Usage(input_tokens=2000))
            kit.now = "2026-04-03T00:00:00.000Z"
            await call(kit, account(), Usage(input_tokens=1000))
            with pytest.raises(BudgetExceeded, match="user/month"):
                await call(kit, account())
            kit.now = "2026-05-01T00:00:00.000Z"
            await call(kit, account())

    run(main)


def test_usage_is_grouped_and_bounded_by_days_and_owner(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            one, two = account(), account(owner_uid=1001)
            await call(kit, one)
            kit.now = "2026-04-01T01:00:00.000Z"
            await call(kit, two)
            await kit.ledger.charge_tool(two)
            open_ = await kit.ledger.reserve_call(two, request(), provider="test")
            by_user = {row.key: row for row in await kit.ledger.usage("user")}
            assert {key: (row.calls, row.used.tool_calls) for key, row in by_user.items()} == {
                "1000": (1, 0),
                "1001": (1, 1),
            }
            assert by_user["1001"].held == open_.amounts
            assert [row.key for row in await kit.ledger.usage("day")] == ["2026-03-31", "2026-04-01"]
            assert [row.key for row in await kit.ledger.usage("day", until="2026-03-31")] == ["2026-03-31"]
            assert [row.key for row in await kit.ledger.usage("day", since="2026-04-01")] == ["2026-04-01"]
            assert [row.key for row in await kit.ledger.usage("session", owner_uid=1000)] == [one.session]
            assert {row.key for row in await kit.ledger.usage("model")} == {MODEL, ""}

    run(main)


# -- tools, time, warnings ---------------------------------------------------------------------------------------


def test_tool_calls_are_counted_and_bounded(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("turn", tool_calls=2)]) as kit:
            who = account()
            await kit.ledger.charge_tool(who)
            await kit.ledger.charge_tool(who)
            with pytest.raises(BudgetExceeded, match=r"2 tool calls.*--tool-calls N"):
                await kit.ledger.charge_tool(who)
            await kit.ledger.charge_tool(account(who.session))

    run(main)


def test_what_a_tool_has_cost_is_recorded_also_past_a_cap(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("global", usd=1)]) as kit:
            await kit.ledger.add_cost(account(), 1.5)
            assert (await total(kit))[0] == 1_500_000_000
            for wrong in (-0.1, float("nan"), float("inf"), 1e300):
                with pytest.raises(ValueError, match="is not what something costs"):
                    await kit.ledger.add_cost(account(), wrong)
            with pytest.raises(BudgetExceeded):
                await call(kit, account())

    run(main)


def test_a_threshold_is_told_once_when_usage_passes_it_and_not_when_it_might(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("global", tokens=10_000)]) as kit:
            told: list[CapUse] = []
            for _ in range(8):
                hold = await kit.ledger.reserve_call(account(), request(), provider="test")
                told += await kit.ledger.settle_call(hold, MODEL, Usage(input_tokens=1000), cut=False)
            assert [(use.cap, use.share, use.used) for use in told] == [("global", 0.5, 5000), ("global", 0.8, 8000)]
            assert kit.names().count("budget.warning") == 2
            assert await kit.ledger.add_cost(account(), 1) == ()

    run(main)


def test_one_call_that_passes_two_thresholds_tells_the_higher_one(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("user/1000", tokens=10_000)]) as kit:
            hold = await kit.ledger.reserve_call(account(), request(), provider="test")
            (use,) = await kit.ledger.settle_call(hold, MODEL, Usage(input_tokens=9500), cut=False)
            assert (use.cap, use.share) == ("user/1000", 0.8)

    run(main)


def test_forgetting_turns_keeps_what_is_open_and_what_others_add_up_to(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            done, going = account(), account()
            await call(kit, done)
            hold = await kit.ledger.reserve_call(going, request(), provider="test")
            assert await kit.ledger.forget_turns("2000") == 0
            assert await kit.ledger.forget_turns("9999") == 1
            keys = [f"turn/{done.turn}", f"turn/{going.turn}", f"session/{done.session}"]
            assert set(await kit.journal.ledger.sums(keys)) == set(keys[1:])
            assert await kit.ledger.verify() == ()
            await kit.ledger.settle_call(hold, MODEL, USED, cut=False)
            assert await total(kit) == (600_000, 0)

    run(main)


def test_what_a_turn_has_used_is_not_forgotten_while_it_is_paused(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("turn", tool_calls=1)]) as kit:
            who = account()
            turn = TurnRecord(id=who.turn, session=who.session, seq=1, status="running", created=NOON, updated=NOON)
            session = SessionRecord(id=who.session, owner_uid=1000, created=NOON, updated=NOON)
            await kit.journal.create_session(session)
            await kit.journal.append(Append(session=who.session, expected_last_seq=0, last_seq=1, turns=[turn]))
            await kit.ledger.charge_tool(who)
            assert await kit.ledger.forget_turns("9999") == 0
            with pytest.raises(BudgetExceeded):
                await kit.ledger.charge_tool(who)
            ended = replace(turn, status="finished")
            await kit.journal.append(Append(session=who.session, expected_last_seq=1, last_seq=1, turns=[ended]))
            assert await kit.ledger.forget_turns("9999") == 1

    run(main)


@pytest.mark.parametrize(
    "name",
    ["", "user/01000", "user/\u0661", "week", "session/x", "user/abc", "turn/ses_" + "a" * 26, "agent/\n", "global/x"],
)
def test_no_cap_has_such_a_name(path: Path, name: str) -> None:
    async def main() -> None:
        async with open_ledger(path) as kit:
            with pytest.raises(ValueError, match="is no cap; caps are"):
                await kit.ledger.set_cap(name, Limits(usd=1), 0)

    run(main)


def test_the_configurations_caps_are_checked_as_well(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[Cap(name="weekly", limits=Limits(usd=1), source="config")]) as kit:
            with pytest.raises(ValueError, match="weekly"):
                await kit.ledger.charge_tool(account())

    run(main)
