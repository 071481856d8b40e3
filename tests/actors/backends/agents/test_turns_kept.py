"""What every agent's session keeps of its turns, whatever performs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from skill_actors.backends.agents import QUIET, AgentError, AgentRequest, AgentResult, AgentSession, KeepsTurns, Watch
from skill_actors.backends.agents.base import MAX_HISTORY

Turn = Callable[[], Awaitable[AgentResult]]
ASKED = AgentRequest(prompt="go on")


class Session(KeepsTurns):
    """As somebody else might write one: a turn is whatever a test says."""

    def __init__(self, turn: Turn, session_id: str | None = None) -> None:
        super().__init__(session_id)
        self.turn = turn
        self.watches: list[Watch] = []

    @property
    def totals(self) -> Mapping[str, Any]:
        return {}

    async def interrupt(self) -> None:
        return

    async def stop_session(self) -> None:
        self.stopped = True

    async def _turn_of(self, request: AgentRequest, watch: Watch) -> AgentResult:
        assert request is ASKED
        self.watches.append(watch)
        return await self.turn()


def says(*ends: AgentResult | AgentError) -> Turn:
    """One of these after the other."""
    left = list(ends)

    async def turn() -> AgentResult:
        end = left.pop(0)
        if isinstance(end, AgentError):
            raise end
        return end

    return turn


async def all_of(session: AgentSession, ends: Sequence[AgentResult | AgentError]) -> None:
    for end in ends:
        if isinstance(end, AgentError):
            with pytest.raises(AgentError) as caught:
                await session.send_message(ASKED)
            assert caught.value is end
        else:
            assert await session.send_message(ASKED) is end


def test_what_is_kept_of_turns_and_of_those_that_failed() -> None:
    async def main() -> None:
        one = AgentResult(result="one", session_id="s1", cost_usd=0.25)
        lost = AgentError("terminated", "killed", session_id="s2", cost_usd=0.5)
        two = AgentResult(result="two", cost_usd=0.125)
        session = Session(says(one, lost, two))
        assert (session.session_id, session.history, session.last_result) == (None, (), None)
        assert (session.total_cost, session.turn_count) == (0.0, 0)
        await all_of(session, [one, lost, two])
        assert (session.session_id, session.history, session.last_result) == ("s2", (one, two), two)
        assert (session.total_cost, session.turn_count) == (0.875, 2)
        assert session.watches == [QUIET] * 3

    trio.run(main)


@pytest.mark.parametrize("unknown", [AgentResult(result="?"), AgentError("terminated", "killed")])
def test_the_sum_is_unknown_for_good_once_one_cost_is(unknown: AgentResult | AgentError) -> None:
    async def main() -> None:
        ends = [AgentResult(result="one", cost_usd=1.0), unknown, AgentResult(result="two", cost_usd=1.0)]
        session = Session(says(*ends), "known")
        await all_of(session, ends)
        assert (session.total_cost, session.session_id) == (None, "known")

    trio.run(main)


def test_only_the_last_results_are_kept_and_all_are_counted() -> None:
    async def main() -> None:
        results = [AgentResult(result=str(number), cost_usd=1.0) for number in range(MAX_HISTORY + 2)]
        session = Session(says(*results))
        await all_of(session, results)
        assert session.history == tuple(results[2:])
        assert (session.turn_count, session.total_cost) == (MAX_HISTORY + 2, MAX_HISTORY + 2)

    trio.run(main)


def test_a_second_message_is_refused_while_one_is_at_work_and_taken_after_a_cancel() -> None:
    async def main() -> None:
        async def hang() -> AgentResult:
            await trio.sleep_forever()
            raise AssertionError

        session = Session(hang, "known")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.send_message, ASKED)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(AgentError) as caught:
                await session.send_message(ASKED)
            assert (caught.value.code, caught.value.session_id) == ("turn_in_flight", "known")
            assert session.in_turn
            nursery.cancel_scope.cancel()
        result = AgentResult(result="again", cost_usd=0.5)
        session.turn = says(result)
        await all_of(session, [result])
        assert (session.history, session.total_cost) == ((result,), 0.5)  # the refused one cost nothing

    trio.run(main)


def test_a_stopped_session_takes_no_message() -> None:
    async def main() -> None:
        session = Session(says(), "known")
        await session.stop_session()
        with pytest.raises(AgentError) as caught:
            await session.send_message(ASKED)
        assert (caught.value.code, caught.value.cost_usd, session.watches) == ("closed", 0.0, [])
        assert session.total_cost == 0.0

    trio.run(main)
