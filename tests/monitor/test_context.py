"""Whose event it is goes with the task and the thread that it happens in, and reaches what is reported there."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
import trio

from monitor_kit import Collector
from skilld_monitor import Span, enable_monitoring, log_event, monitor_call
from skilld_monitor.context import (
    MAX_NAME_CHARS,
    MAX_TAG_CHARS,
    MAX_TAGS,
    agent,
    carried,
    clear,
    current_who,
    facts,
    session,
    set_agent,
    set_facts,
    set_facts_everywhere,
    set_session,
    set_tags,
    set_user,
    tags,
    user,
)
from skilld_monitor.records import Record


@pytest.fixture(autouse=True)
def _nobody() -> Any:
    clear(everywhere=True)
    yield
    clear(everywhere=True)


def whose(event: dict[str, Any]) -> tuple[Any, ...]:
    return event["session"], event["user"], event["tags"], event["agent"]


def test_what_holds_where_something_is_reported_arrives_with_it(collector: Collector) -> None:
    made = enable_monitoring("shop-test")
    log_event("before")
    with session("s-1"), user("u-1"), tags("beta", "eu"), agent("clerk"):
        log_event("inside")
        with Span("work"), tags("deep"):
            log_event("deeper")
        monitor_call(len)([])
    log_event("after")
    assert made.flush()
    found = {event["name"]: whose(event) for event in collector.events()}
    assert found["before"] == found["after"] == (None, None, [], "shop-test")
    assert found["inside"] == found["work"] == found["len"] == ("s-1", "u-1", ["beta", "eu"], "clerk")
    assert found["deeper"] == ("s-1", "u-1", ["beta", "eu", "deep"], "clerk")


def test_requests_that_are_served_at_once_do_not_mix(collector: Collector) -> None:
    made = enable_monitoring("shop-test")

    async def request(n: int) -> None:
        set_session(f"s-{n}")
        await asyncio.sleep(0)
        async with user(f"u-{n}"):
            await asyncio.sleep(0)
            log_event(f"request {n}")

    async def main() -> None:
        await asyncio.gather(*(request(n) for n in range(20)))

    async def trio_request(n: int) -> None:
        with session(f"s-{n}"), user(f"u-{n}"):
            await trio.lowlevel.checkpoint()
            log_event(f"request {n}")

    async def trio_main() -> None:
        async with trio.open_nursery() as nursery:
            for n in range(20, 40):
                nursery.start_soon(trio_request, n)

    asyncio.run(main())
    trio.run(trio_main)
    assert made.flush()
    found = {event["name"]: whose(event)[:2] for event in collector.events() if event["name"].startswith("request")}
    assert found == {f"request {n}": (f"s-{n}", f"u-{n}") for n in range(40)}


def test_a_thread_knows_whose_work_it_does_once_its_function_is_carried(collector: Collector) -> None:
    made = enable_monitoring("shop-test")
    with session("s-1"), Span("request") as request, ThreadPoolExecutor(4) as pool:
        work = carried(lambda n: log_event(f"work {n}"))
        list(pool.map(work, range(8)))
        alone = threading.Thread(target=lambda: log_event("alone"))
        alone.start()
        alone.join()
    assert made.flush()
    events = {event["name"]: event for event in collector.events()}
    assert all(events[f"work {n}"]["session"] == "s-1" for n in range(8))
    assert all(events[f"work {n}"]["span"] == request.span_id for n in range(8))
    assert (events["alone"]["session"], events["alone"]["span"]) == (None, None)


def test_a_span_belongs_to_whom_it_turns_out_to_while_it_runs(collector: Collector) -> None:
    made = enable_monitoring("shop-test")

    def serve() -> None:
        with Span("request"):
            set_user("u-7")
            set_tags("late")
        with session("s-1"), Span("other"):
            set_session("s-2")

    carried(serve)()
    assert made.flush()
    found = {event["name"]: event for event in collector.events()}
    assert (found["request"]["user"], found["request"]["tags"]) == ("u-7", ["late"])
    assert found["other"]["session"] == "s-1", "what held at its beginning is not taken back"


def test_facts_go_into_the_data_unless_it_has_its_own(collector: Collector) -> None:
    made = enable_monitoring("shop-test")
    set_facts_everywhere(region="eu", shard=1)
    set_facts(shard=2)
    with facts(order=7):
        log_event("one", {"order": 8})
        log_event("two", "text")
        with Span("three", {"a": 1}):
            pass
    log_event("four")
    assert made.flush()
    found = {event["name"]: event["data"] for event in collector.events()}
    assert found["one"] == {"region": "eu", "shard": 2, "order": 8}
    assert found["two"] == "text"
    assert found["three"] == {"region": "eu", "shard": 2, "order": 7, "a": 1}
    assert found["four"] == {"region": "eu", "shard": 2}
    threading.Thread(target=lambda: log_event("five")).start()
    (five,) = collector.wait(1, name="five")
    assert five["data"] == {"region": "eu", "shard": 1}


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_whatever_is_said_is_bounded_text_and_nothing_raises() -> None:
    set_session("x" * 5000)
    set_user(Hostile())
    set_agent(7)
    set_tags(*range(50), "y" * 1000, None, "")
    who = current_who()
    assert who.session == "x" * MAX_NAME_CHARS
    assert who.user == "<Hostile, unreadable: RuntimeError>"
    assert who.agent == "7"
    assert len(who.tags) == MAX_TAGS
    set_tags("y" * 1000, "y" * 1000)
    assert current_who().tags == ("y" * MAX_TAG_CHARS,)
    set_session(None)
    assert current_who().session is None
    set_facts(bad=Hostile())
    record = Record("x", {})
    record.complete()
    assert record.data == {"bad": "<Hostile, unreadable: RuntimeError>"}


def test_a_scope_that_is_left_elsewhere_changes_nothing_there() -> None:
    scope = session("s-1")
    carried(scope.__enter__)()
    set_session("s-2")
    scope.__exit__(None, None, None)
    scope.__exit__(None, None, None)
    assert current_who().session == "s-2"


def test_one_scope_may_be_entered_again_inside_itself() -> None:
    scope = tags("a")
    with scope, scope:
        assert current_who().tags == ("a",)
    assert current_who().tags == ()


def test_an_event_of_nobody_has_no_more_bytes_than_before() -> None:
    plain = Record("x", {}, time_us=1)
    assert set(json.loads(plain.to_wire())) == {"seq", "time_us", "name", "channel", "level", "data"}
    plain.masked = ("card",)
    assert b'"masked":["card"]' in plain.to_wire()


def test_what_a_generator_has_open_as_it_yields_is_its_own(collector: Collector) -> None:
    made = enable_monitoring("shop-test")

    @monitor_call
    def work(name: str) -> Any:
        with session(name):
            yield current_who().session
            log_event("inside", {"of": name})
            yield current_who().session
        log_event("behind", {"of": name})

    first, second = work("a"), work("b")
    with user("u-1"):
        for steps in zip(first, second, strict=False):
            assert steps == ("a", "b")
            log_event("caller")
            assert (current_who().session, current_who().user) == (None, "u-1")
    assert (current_who().session, current_who().user) == (None, None)
    second.close()
    assert made.flush()
    found = collector.events()
    assert {event["session"] for event in found if event["name"] in ("behind", "caller")} == {None}
    assert {event["data"]["of"]: event["session"] for event in found if event["name"] == "inside"} == {
        "a": "a",
        "b": "b",
    }


def test_what_holds_everywhere_is_read_anew_at_each_step(collector: Collector) -> None:
    enable_monitoring("shop-test")

    @monitor_call
    def work() -> Any:
        while True:
            yield (current_who().facts or {}).get("region")

    set_facts_everywhere(region="eu")
    steps = work()
    assert next(steps) == "eu"
    set_facts_everywhere(region="us")
    assert next(steps) == "us"
    steps.close()


def test_a_scope_in_a_generator_ends_where_each_step_is_in_a_context_of_its_own(collector: Collector) -> None:
    """As where a framework asks for each item in a thread of a pool, or in another task."""
    enable_monitoring("shop-test")

    @monitor_call
    def work() -> Any:
        with session("inside"):
            yield current_who().session
        yield current_who().session
        yield current_who().session

    steps = work()
    assert [copy_context().run(next, steps) for _ in range(3)] == ["inside", None, None]
    assert current_who().session is None
