"""Places in traces: spans opened by hand, and the headers that join the traces of several processes."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor_kit import Collector
from skilld_monitor import (
    Span,
    TraceContext,
    agent_span,
    enable_monitoring,
    log_event,
    monitor_call,
    tool_span,
)
from skilld_monitor.trace import (
    Place,
    child,
    current,
    enter,
    follow,
    leave,
    new_span_id,
    new_trace_id,
    own,
    place_from,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture(autouse=True)
def _nowhere() -> Any:
    TraceContext.reset()
    yield
    TraceContext.reset()


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": HEADER},
        {"TraceParent": HEADER},
        [("traceparent", HEADER)],
        [(b"accept", b"*/*"), (b"traceparent", HEADER.encode())],
        {"HTTP_TRACEPARENT": HEADER, "wsgi.input": object()},
        {"traceparent": f"  {HEADER} "},
        {"traceparent": f"cc-{TRACE}-{SPAN}-01-more-of-another-version"},
    ],
)
def test_the_headers_of_every_kind_of_server_are_read(headers: Any) -> None:
    place = place_from(headers)
    assert place is not None
    assert (place.trace, place.span) == (TRACE, SPAN)
    assert TraceContext.extract(headers)
    assert TraceContext.get_current_context()["trace_id"] == TRACE


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        HEADER + "-extra",
        HEADER.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"0x-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-zz",
        f"00-{TRACE}-{SPAN}",
        "\ud800",
        "00-" * 10_000,
    ],
)
def test_a_header_that_is_none_changes_nothing(header: str) -> None:
    with Span("here") as here:
        assert not TraceContext.continue_from(header)
        assert not TraceContext.extract({"traceparent": header})
        assert TraceContext.get_current_context()["span_id"] == here.span_id
    assert not TraceContext.extract([("traceparent", HEADER), ("traceparent", HEADER)])
    assert not TraceContext.extract({"accept": "*/*"})


class Hostile(dict[str, str]):
    def items(self) -> Any:
        raise RuntimeError("no")

    def __setitem__(self, key: str, value: str) -> None:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("headers", [None, 7, "traceparent", [1, 2], [("a", "b", "c")], Hostile(), [(Hostile(), 1)]])
def test_headers_that_are_none_raise_nothing(headers: Any, collector: Collector) -> None:
    made = enable_monitoring("shop-test")
    assert not TraceContext.extract(headers)
    assert not TraceContext.continue_from(headers)
    with Span(headers):
        assert TraceContext.inject(Hostile()) == {}
    assert "a request goes without its trace: RuntimeError" in made.problem
    TraceContext.start_span(headers)
    assert TraceContext.end_span()
    log_event("dated", timestamp=headers)
    assert made.flush()
    assert collector.events(name="dated")


@given(
    st.dictionaries(st.sampled_from(["traceparent", "tracestate", "x"]), st.text() | st.from_regex(r"[0-9a-f-]{55}"))
)
def test_no_text_is_too_odd_for_a_header(headers: dict[str, str]) -> None:
    place = place_from(headers)
    if place is not None:
        assert re.fullmatch("[0-9a-f]{32}", place.trace)
        assert re.fullmatch("[0-9a-f]{16}", place.span)
        assert re.fullmatch("[0-9a-f]{2}", place.flags)
        assert place.state.isprintable()


def test_what_others_want_handed_on_is_handed_on() -> None:
    assert TraceContext.extract([("traceparent", HEADER[:-2] + "00"), ("tracestate", "a=1"), ("tracestate", "b=2")])
    with Span("here") as here:
        headers: dict[str, str] = {"accept": "*/*"}
        assert TraceContext.inject(headers) is headers
        assert headers["traceparent"] == f"00-{TRACE}-{here.span_id}-00"
        assert headers["tracestate"] == "a=1,b=2"
        assert headers["accept"] == "*/*"
    for state in ("x" * 513, "a=1\r\nevil: 1", "ü=1"):
        TraceContext.continue_from(HEADER, state)
        assert "tracestate" not in TraceContext.inject()
    TraceContext.reset()
    assert TraceContext.inject() == {}


def test_a_trace_goes_through_two_programs(collector: Collector) -> None:
    made = enable_monitoring("shop-test")
    sent: list[Any] = []
    with Span("client"):
        sent.append(TraceContext.inject())

    def server() -> None:
        TraceContext.extract(sent[0])
        with Span("server"):
            pass

    thread = threading.Thread(target=server)
    thread.start()
    thread.join()
    assert made.flush()
    client, served = (collector.events(name=name)[0] for name in ("client", "server"))
    assert (served["trace"], served["parent"]) == (client["trace"], client["span"])


def test_a_span_that_is_opened_by_hand_is_reported_when_it_is_closed(collector: Collector) -> None:
    made = enable_monitoring("shop-test")
    trace = TraceContext.initialize_trace()
    outer = TraceContext.start_span("outer")
    inner = TraceContext.start_span("inner")
    log_event("at work")
    assert TraceContext.get_current_context() == {
        "trace_id": trace,
        "span_id": inner["span_id"],
        "parent_span_id": outer["span_id"],
        "agent_id": "shop-test",
    }
    assert TraceContext.get_parent_span_id() == outer["span_id"]
    assert TraceContext.get_parent_span_id(inner["span_id"]) == outer["span_id"]
    assert TraceContext.get_parent_span_id(outer["span_id"]) is None
    assert TraceContext.get_parent_span_id("no such") is None
    assert [TraceContext.end_span() for _ in range(3)] == [inner["span_id"], outer["span_id"], None]
    assert made.flush()
    events = {event["name"]: event for event in collector.events()}
    assert (events["outer"]["parent"], events["inner"]["parent"]) == (None, outer["span_id"])
    assert events["at work"]["span"] == inner["span_id"]
    assert {event["trace"] for name, event in events.items() if name != "monitoring_enabled"} == {trace}


def test_a_trace_that_is_begun_for_an_agent_is_that_ones(collector: Collector) -> None:
    made = enable_monitoring("shop-test")

    def sub_agent() -> None:
        TraceContext.initialize_trace("clerk")
        log_event("mine")

    thread = threading.Thread(target=sub_agent)
    thread.start()
    thread.join()
    log_event("ours")
    assert made.flush()
    assert {event["name"]: event["agent"] for event in collector.events(channel="SYSTEM")} == {
        "monitoring_enabled": "shop-test",
        "mine": "clerk",
        "ours": "shop-test",
    }


@pytest.mark.parametrize("kind", [Span, tool_span, agent_span])
def test_a_span_of_a_generator_that_is_closed_elsewhere_does_not_stay_open(
    collector: Collector, kind: Callable[[str], AbstractContextManager[object]]
) -> None:
    def pages() -> Iterator[int]:
        with kind("pages"):
            yield 1
            yield 2

    with enable_monitoring("shop") as made:
        begun, other = pages(), pages()
        next(begun)
        with Span("outer") as outer:
            next(other)
            begun.close()  # type: ignore[attr-defined]  # it is a generator
            inside = current()
            assert inside is not None, "what is open is no matter of the one that ended"
            other.close()  # type: ignore[attr-defined]  # as above
            log_event("inside")
        assert current() is None
        log_event("after")
        assert made.flush()
        found = {event["name"]: event for event in collector.events()}
        assert (found["inside"]["span"], found["after"]["span"]) == (outer.span_id, None)
        assert (found["inside"]["agent"], found["after"]["agent"]) == ("shop", "shop")


def test_a_span_inside_of_itself_is_two(collector: Collector) -> None:
    with enable_monitoring("shop") as made:
        span = Span("work")
        with span:
            first = span.span_id
            with span:
                second = span.span_id
                log_event("in", {"n": 2})
            log_event("in", {"n": 1})
        assert current() is None
        log_event("after")
        assert made.flush()
        spans = [(event["span"], event["parent"]) for event in collector.events(name="work")]
        assert spans == [(second, first), (first, None)]
        assert {event["data"]["n"]: event["span"] for event in collector.events(name="in")} == {1: first, 2: second}
        assert [event["span"] for event in collector.events(name="after")] == [None]


def test_one_span_in_several_threads_at_once_is_one_in_each(collector: Collector) -> None:
    threads, errors = 8, list[BaseException]()
    step = threading.Barrier(threads, timeout=20)

    def work(span: Span, n: int) -> None:
        try:
            for _ in range(20):
                step.wait()
                with span:
                    place = current()
                    step.wait()
                    assert current() is place
                    log_event("in", {"n": n})
                    if n % 2:  # half of them leave it before the others
                        step.wait()
                if not n % 2:
                    step.wait()
                assert current() is None
        except BaseException as error:
            errors.append(error)
            step.abort()

    with enable_monitoring("shop") as made:
        span = Span("work")
        running = [threading.Thread(target=work, args=(span, n)) for n in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert errors == []
        assert made.flush()
        spans = [event["span"] for event in collector.events(name="work")]
        assert len(set(spans)) == len(spans) == threads * 20
        assert sorted(event["span"] for event in collector.events(name="in")) == sorted(spans)


def test_one_span_in_tasks_that_take_turns_ends_where_it_began(collector: Collector) -> None:
    """The first that began is the first that ends: the latest is another task's."""

    async def main(span: Span) -> dict[str, str | None]:
        began: dict[str, str | None] = {}
        gates = {"a": asyncio.Event(), "b": asyncio.Event()}

        async def task(name: str) -> None:
            async with span:
                began[name] = span.span_id
                with Span("inner"):
                    await gates[name].wait()
                log_event("last", {"n": name})

        a = asyncio.create_task(task("a"))
        await asyncio.sleep(0)
        b = asyncio.create_task(task("b"))
        await asyncio.sleep(0)
        for name, one in (("a", a), ("b", b)):
            gates[name].set()
            await one
        return began

    with enable_monitoring("shop") as made:
        began = asyncio.run(main(Span("work")))
        assert made.flush()
        assert [event["span"] for event in collector.events(name="work")] == [began["a"], began["b"]]
        assert [event["span"] for event in collector.events(name="last")] == [began["a"], began["b"]]


def test_leaving_a_span_that_was_not_entered_does_nothing(collector: Collector) -> None:
    with enable_monitoring("shop") as made:
        span = Span("work")
        span.__exit__(None, None, None)
        with span:
            pass
        span.__exit__(None, None, None)
        assert made.flush()
        assert len(collector.events(name="work")) == 1


def test_what_a_generator_reports_is_inside_its_span_and_nowhere_else(collector: Collector) -> None:
    @monitor_call
    def pages() -> Iterator[int]:
        for page in (1, 2):
            with Span("page"):
                yield page

    @monitor_call
    async def letters() -> AsyncIterator[str]:
        for letter in "ab":
            with Span("letter"):
                yield letter

    async def read() -> None:
        async for _ in letters():
            assert current() is None

    with enable_monitoring("shop") as made:
        for _ in pages():
            assert current() is None
        asyncio.run(read())
        begun = pages()
        next(begun)
        begun.close()
        assert current() is None
        assert made.flush()
        spans = [event for event in collector.events() if event["status"] is not None]
        above = {span["span"]: span["name"] for span in spans}
        inner = [(span["name"], above.get(span["parent"])) for span in spans if span["name"] in ("page", "letter")]
        assert inner == [("page", "pages")] * 2 + [("letter", "letters")] * 2 + [("page", "pages")]


def test_a_chain_of_places_does_not_grow_for_ever() -> None:
    token = enter(child())
    for _ in range(1000):
        enter(child())
    known, place = 0, current()
    while place is not None:
        known, place = known + 1, place.above
    leave(token)
    gc.collect()
    alive = sum(type(each) is Place for each in gc.get_objects())
    assert known <= 64
    assert alive < 500


def test_somebody_elses_spans_are_the_open_ones_while_they_are_followed() -> None:
    theirs = Place(TRACE, SPAN)
    end = follow(lambda ours: theirs if ours is None else ours)
    broken = follow(lambda ours: 1 / 0)  # type: ignore[arg-type,return-value]
    try:
        assert (current(), own()) == (theirs, None)
        assert TraceContext.traceparent() == HEADER
        assert child().parent == SPAN
    finally:
        broken()
        end()
    assert current() is None


def test_forked_children_have_ids_of_their_own() -> None:
    reading, writing = os.pipe()
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            os.write(writing, f"{new_trace_id()} {new_span_id()}\n".encode())
            os._exit(0)
        os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        ids = [*told.read().split(), new_trace_id(), new_span_id()]
    assert len(set(ids)) == 8
    assert [len(found) for found in ids] == [32, 16] * 4
    assert all(int(found, 16) > 0 for found in ids)


def test_a_program_that_seeds_its_random_numbers_has_ids_that_differ_all_the_same() -> None:
    ids = set()
    for _ in range(3):
        random.seed(7)
        ids |= {new_trace_id(), new_span_id()}
    assert len(ids) == 6


def test_the_traceparent_of_the_process_is_none_of_a_request() -> None:
    environ = {"REQUEST_METHOD": "GET", "TRACEPARENT": f"00-{'9' * 32}-{SPAN}-01"}
    assert place_from(environ) is None
    place = place_from({**environ, "HTTP_TRACEPARENT": HEADER})
    assert place is not None
    assert place.trace == TRACE


def test_what_somebody_else_opened_in_a_generator_is_not_open_there_for_ever(collector: Collector) -> None:
    made = enable_monitoring("shop-test")
    foreign: list[Place] = []

    @monitor_call
    def steps() -> Any:
        foreign.append(child())
        yield 1
        foreign.clear()
        yield 2
        log_event("behind")
        yield 3

    end = follow(lambda place: foreign[0] if foreign else place)
    try:
        assert list(steps()) == [1, 2, 3]
    finally:
        end()
    assert made.flush(10)
    (behind,), (span,) = collector.events(name="behind"), collector.events(name="steps")
    assert behind["span"] == span["span"]


def test_headers_of_bytes_are_read_where_python_forbids_to_compare_them_with_text() -> None:
    program = (
        f"from skilld_monitor import TraceContext as t; print(bool(t.extract([(b'traceparent', {HEADER.encode()!r})])))"
    )
    done = subprocess.run([sys.executable, "-bb", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")
