"""Time is set aside before it passes, and comes to an end where a cap does."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio

from ledger_kit import account, cap, open_ledger
from skill_actors.sessions.ledger import Amounts, BudgetExceeded, Cap, Hold, Limits
from skill_actors.sessions.ledger.slices import passing_time
from skill_actors.store import StorageFull
from support import run, run_virtual


@dataclass
class Allowance:
    """So many milliseconds, and who asks for them."""

    left_ms: int
    reserved: list[int] = field(default_factory=list)
    settled: list[int] = field(default_factory=list)
    ended: list[BudgetExceeded] = field(default_factory=list)
    fails_at: int | None = None

    async def reserve(self, millis: int) -> Hold | None:
        await trio.lowlevel.checkpoint()
        if len(self.reserved) == self.fails_at:
            raise StorageFull("no room")
        if millis > self.left_ms:
            bound = Cap(name="turn", limits=Limits(), source="config")
            raise BudgetExceeded(bound, "turn", "seconds", used=0, held=0, limit=self.left_ms, wanted=millis)
        self.left_ms -= millis
        self.reserved.append(millis)
        return Hold(id=1, account=account(), day="2026-03-31", model="", amounts=Amounts(millis=millis))

    async def settle(self, hold: Hold | None, millis: int) -> None:
        await trio.lowlevel.checkpoint()
        assert hold is not None
        assert 0 <= millis <= hold.amounts.millis
        self.settled.append(millis)
        self.left_ms += hold.amounts.millis - millis


@dataclass
class Unbounded(Allowance):
    """Nothing has to be set aside until there is a bound, and what has passed counts against it."""

    bounded: bool = False

    async def reserve(self, millis: int) -> Hold | None:
        return await Allowance.reserve(self, millis) if self.bounded else None

    async def settle(self, hold: Hold | None, millis: int) -> None:
        if hold is None:
            self.left_ms -= millis
            self.settled.append(millis)
        else:
            await Allowance.settle(self, hold, millis)


def test_what_passes_is_settled_to_the_millisecond_and_never_ahead_of_what_is_set_aside() -> None:
    async def main() -> None:
        allowance = Allowance(left_ms=10**9)
        async with passing_time(allowance.reserve, allowance.settle, allowance.ended.append):
            await trio.sleep(95.5)
            assert sum(allowance.reserved) >= 95_500
        assert (sum(allowance.settled), allowance.ended) == (95_500, [])
        assert allowance.reserved == [10_000, 20_000, 40_000, 60_000]
        assert allowance.left_ms == 10**9 - 95_500

    run_virtual(main)


@pytest.mark.parametrize("left_ms", [1, 999, 10_000, 10_001, 65_432])
def test_the_end_is_told_once_when_the_cap_is_used_up_to_the_last_millisecond(left_ms: int) -> None:
    async def main() -> None:
        allowance = Allowance(left_ms=left_ms)
        began_s, told_s = trio.current_time(), []

        def end(error: BudgetExceeded) -> None:
            told_s.append(trio.current_time() - began_s)
            scope.cancel()

        with trio.CancelScope() as scope:
            async with passing_time(allowance.reserve, allowance.settle, end):
                await trio.sleep_forever()
        assert told_s == [pytest.approx(left_ms / 1000)]
        assert (allowance.left_ms, sum(allowance.settled)) == (0, left_ms)

    run_virtual(main)


def test_what_the_block_raises_comes_out_as_it_is() -> None:
    async def main() -> None:
        allowance = Allowance(left_ms=10**6)

        async def fail() -> None:
            async with passing_time(allowance.reserve, allowance.settle, allowance.ended.append):
                await trio.sleep(1)
                raise KeyError

        with pytest.raises(KeyError):
            await fail()
        assert allowance.settled == [1000]

    run_virtual(main)


def test_a_cancel_from_outside_settles_what_has_passed_and_goes_on() -> None:
    async def main() -> None:
        allowance = Allowance(left_ms=10**6)
        with trio.move_on_after(3) as scope:
            async with passing_time(allowance.reserve, allowance.settle, allowance.ended.append):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert allowance.settled == [3000]

    run_virtual(main)


@pytest.mark.parametrize("slices", [0, 2])
def test_time_that_cannot_be_recorded_stops_the_block(slices: int) -> None:
    async def main() -> None:
        allowance = Allowance(left_ms=10**6, fails_at=slices)

        async def go_on() -> None:
            async with passing_time(allowance.reserve, allowance.settle, allowance.ended.append):
                await trio.sleep_forever()

        with pytest.raises(StorageFull):
            await go_on()

    run_virtual(main)


def test_seconds_are_bounded_by_a_cap_over_several_turns_at_once(path: Path) -> None:
    """Three turns of one session share 0.6 s: each comes to its end, and no more is recorded than that."""

    async def main() -> None:
        async with open_ledger(path, caps=[cap("session", seconds=0.6)]) as kit:
            who = account()
            ended: list[BudgetExceeded] = []

            async def one() -> None:
                def end(error: BudgetExceeded) -> None:
                    ended.append(error)
                    scope.cancel()

                with trio.CancelScope() as scope:
                    async with kit.ledger.clock(partial(account, who.session), end):
                        await trio.sleep_forever()

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(one)
            assert {error.unit for error in ended} == {"seconds"}
            (row,) = await kit.ledger.usage("session")
            assert (row.used.millis, row.held.millis, len(ended)) == (600, 0, 3)
            assert kit.names().count("budget.exceeded") == 3
            began_s = trio.current_time()
            async with kit.ledger.clock(account, ended.append):  # of another session
                await trio.sleep(0.05)
            passed_ms = (trio.current_time() - began_s) * 1000
            assert 50 <= (await kit.journal.ledger.sums(["global"]))["global"].used.millis - 600 <= passed_ms + 1

    run(main)


def test_time_that_no_cap_bounds_is_counted_without_being_set_aside(path: Path) -> None:
    async def main() -> None:
        async with open_ledger(path, caps=[cap("turn", usd=1)]) as kit:
            who, ended, began_s = account(), list[BudgetExceeded](), trio.current_time()
            async with kit.ledger.clock(lambda: who, ended.append):
                await trio.sleep(0.05)
                assert await kit.ledger.open_holds() == ()
            passed_ms = (trio.current_time() - began_s) * 1000
            (row,) = await kit.ledger.usage("session")
            assert 50 <= row.used.millis <= passed_ms + 1
            db = sqlite3.connect(path)
            assert db.execute("SELECT kind FROM ledger").fetchall() == [("charge",)]
            db.close()

    run(main)


def test_a_cap_that_comes_while_time_passes_binds_from_the_next_slice_on_and_sees_what_has_passed() -> None:
    async def main() -> None:
        allowance = Unbounded(left_ms=25_000)
        began_s = trio.current_time()
        with trio.CancelScope() as scope:
            async with passing_time(allowance.reserve, allowance.settle, lambda _: scope.cancel()):
                await trio.sleep(5)
                allowance.bounded = True
                await trio.sleep_forever()
        assert trio.current_time() - began_s == pytest.approx(25)
        assert (allowance.left_ms, allowance.settled) == (0, [10_000, 15_000])

    run_virtual(main)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"
