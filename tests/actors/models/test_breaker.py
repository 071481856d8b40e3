"""The circuit of a model's endpoint: when it opens, who tries again, and what counts."""

from __future__ import annotations

from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.models.base import ModelError, ModelRequest
from skill_actors.models.breaker import Breaker, BreakerPolicy, CircuitState, Permit
from skill_actors.models.guarded import GuardedModel, endpoint_name
from skill_actors.models.retry import patience
from skill_actors.testing import Cut, HangUp, HttpError, Reply, ScriptedModel, Stall, StreamError, Text
from skill_actors.testing.replies import Answer
from support import run_virtual

POLICY = BreakerPolicy(failures=3, open_s=5.0, max_open_s=20.0)
REQUEST = ModelRequest(model="m", messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}])


def permit(breaker: Breaker, now_s: float) -> Permit:
    got = breaker.begin(now_s)
    assert isinstance(got, Permit)
    return got


def open_it(breaker: Breaker, now_s: float = 0.0) -> None:
    for _ in range(POLICY.failures):
        breaker.failed(permit(breaker, now_s), now_s)
    assert breaker.state is CircuitState.OPEN


def test_it_opens_after_failures_in_a_row_and_a_success_forgets_them() -> None:
    breaker = Breaker(POLICY)
    for _ in range(5):
        breaker.failed(permit(breaker, 0), 0)
        breaker.failed(permit(breaker, 0), 0)
        breaker.succeeded(permit(breaker, 0))
    assert breaker.state is CircuitState.CLOSED
    open_it(breaker, 10.0)
    assert breaker.begin(12.0) == 3.0
    assert breaker.retry_in_s(12.0) == 3.0


def test_when_the_time_is_over_one_call_tries_and_the_others_wait() -> None:
    breaker = Breaker(POLICY)
    open_it(breaker)
    probe = permit(breaker, 5.0)
    assert breaker.state is CircuitState.HALF_OPEN
    assert isinstance(breaker.begin(5.0), float)
    breaker.answered(probe)
    permit(breaker, 5.0)
    breaker.failed(permit(breaker, 6.0), 6.0)  # not well yet: one more failure is enough
    assert breaker.retry_in_s(6.0) > 0


def test_a_failed_trial_doubles_the_time_up_to_its_bound_and_a_success_begins_anew() -> None:
    breaker, now_s, waits = Breaker(POLICY), 0.0, []
    open_it(breaker)
    for _ in range(5):
        wait = breaker.retry_in_s(now_s)
        waits.append(wait)
        now_s += wait
        breaker.failed(permit(breaker, now_s), now_s)
    assert waits == [5, 10, 20, 20, 20]
    now_s += 20
    breaker.succeeded(permit(breaker, now_s))
    open_it(breaker, now_s)
    assert breaker.retry_in_s(now_s) == 5


def test_the_endpoint_may_ask_for_longer_within_the_bound() -> None:
    breaker = Breaker(POLICY)
    for _ in range(3):
        breaker.failed(permit(breaker, 0), 0, retry_after_s=12.0)
    assert breaker.retry_in_s(0) == 12
    breaker.failed(permit(breaker, 12), 12, retry_after_s=9999.0)
    assert breaker.retry_in_s(12) == 20


def test_a_trial_that_was_cancelled_lets_the_next_call_try() -> None:
    breaker = Breaker(POLICY)
    open_it(breaker)
    breaker.abandoned(permit(breaker, 5.0))
    permit(breaker, 5.0)
    assert breaker.state is CircuitState.HALF_OPEN


def test_a_call_from_before_says_nothing_about_now() -> None:
    breaker = Breaker(POLICY)
    old = [permit(breaker, 0) for _ in range(9)]
    open_it(breaker)
    breaker.failed(old[0], 4.0)
    breaker.succeeded(old[1])
    breaker.abandoned(old[2])
    breaker.answered(old[3])
    assert (breaker.state, breaker.retry_in_s(4.0)) == (CircuitState.OPEN, 1.0)


@given(st.lists(st.sampled_from(["begin", "fail", "succeed", "answer", "abandon", "wait"]), max_size=60))
def test_in_every_history_at_most_one_call_tries_and_time_always_ends_the_refusal(steps: list[str]) -> None:
    breaker, now_s = Breaker(POLICY), 0.0
    out: list[tuple[Permit, CircuitState]] = []
    for step in steps:
        if step == "begin":
            got = breaker.begin(now_s)
            if isinstance(got, Permit):
                out.append((got, breaker.state))
            else:
                assert 0 < got <= POLICY.max_open_s
        elif step == "wait":
            now_s += 4.0
        elif out:
            given_out, _ = out.pop(0)
            if step == "fail":
                breaker.failed(given_out, now_s)
            else:
                {"succeed": breaker.succeeded, "answer": breaker.answered, "abandon": breaker.abandoned}[step](
                    given_out
                )
        trying = [p for p, state in out if state is CircuitState.HALF_OPEN and p.generation == breaker._generation]
        assert breaker.state is not CircuitState.HALF_OPEN or len(trying) == 1
    if breaker.state is CircuitState.OPEN:
        assert isinstance(breaker.begin(now_s + POLICY.max_open_s), Permit)


def test_waiting_for_an_endpoint_has_an_end() -> None:
    error = ModelError("x", code="circuit_open", retryable=True, retry_after_s=20.0)
    first = patience(0.0, error, Random(1))
    assert first is not None
    assert 20 <= first <= 22
    assert patience(first, error, Random(1)) is None
    soon = ModelError("x", code="circuit_open", retry_after_s=0.0)
    assert (patience(0.0, soon, Random(1)) or 0) >= 0.1


async def call(model: GuardedModel) -> str:
    """What came of one call: "ok" or the code of the error."""
    try:
        async with model.stream(REQUEST) as events:
            async for _ in events:
                pass
    except ModelError as error:
        return error.code
    return "ok"


def guarded(model: ScriptedModel, changes: list[str] | None = None) -> GuardedModel:
    seen: list[str] = [] if changes is None else changes
    return GuardedModel(model, Breaker(POLICY), endpoint="http://x", on_change=lambda state: seen.append(state.value))


def test_an_endpoint_that_is_ill_is_not_asked_until_its_time_has_come() -> None:
    async def main() -> None:
        changes: list[str] = []
        model = ScriptedModel([HttpError(529), HangUp(), HttpError(500), HttpError(503)])
        guard = guarded(model, changes)
        assert [await call(guard) for _ in range(5)] == [
            *("overloaded", "connection", "server"),
            *("circuit_open", "circuit_open"),
        ]
        assert len(model.requests) == 3
        assert guard.to_dict() == {"endpoint": "http://x", "state": "open", "failures": 3, "retry_in_s": 5.0}
        await trio.sleep(5)
        assert await call(guard) == "overloaded"
        await trio.sleep(9)
        assert await call(guard) == "circuit_open"
        model.enqueue(Reply([Text("well")]))
        await trio.sleep(1)
        assert await call(guard) == "ok"
        assert guard.to_dict()["state"] == "closed"
        assert changes == ["open", "half_open", "open", "half_open", "closed"]

    run_virtual(main)


@pytest.mark.parametrize("failure", [StreamError(), Stall(after=1), Cut(after=1)])
def test_a_stream_that_breaks_counts_too(failure: StreamError | Stall | Cut) -> None:
    async def main() -> None:
        guard = guarded(ScriptedModel([Reply([Text("some words")], fail=failure)] * 3))
        for _ in range(3):
            assert await call(guard) not in ("ok", "circuit_open")
        assert await call(guard) == "circuit_open"

    run_virtual(main)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429])
def test_a_refusal_shows_the_endpoint_alive(status: int) -> None:
    async def main() -> None:
        answers: list[Answer] = [
            HttpError(529),
            HttpError(529),
            HttpError(status),
            HttpError(529),
            HttpError(529),
            Reply([Text("x")]),
        ]
        guard = guarded(ScriptedModel(answers))
        assert "circuit_open" not in [await call(guard) for _ in answers]

    run_virtual(main)


def test_a_users_cancel_is_no_failure() -> None:
    async def main() -> None:
        model = ScriptedModel(respond=lambda _: Reply([Text("slow words")], first_delay_s=60))
        guard = guarded(model)
        for _ in range(POLICY.failures + 2):
            with trio.move_on_after(1) as scope:
                await call(guard)
            assert scope.cancelled_caught
        assert guard.to_dict()["state"] == "closed"
        assert model.running == 0

    run_virtual(main)


def test_of_many_that_wait_one_tries() -> None:
    async def main() -> None:
        model = ScriptedModel([HttpError(529)] * 3)
        guard = guarded(model)
        for _ in range(3):
            await call(guard)
        model.enqueue(Reply([Text("slow words")], first_delay_s=2))
        await trio.sleep(5)
        results: list[str] = []

        async def one() -> None:
            results.append(await call(guard))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
        assert sorted(results) == ["circuit_open"] * 9 + ["ok"]

    run_virtual(main)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("http://user:secret@127.0.0.1:8080/v1?key=secret", "http://127.0.0.1:8080"),
    ],
)
def test_an_endpoint_is_named_without_credentials(url: str, shown: str) -> None:
    assert endpoint_name(url) == shown
