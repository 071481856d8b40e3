"""Whatever a program hands over, nothing of ours raises into it: what cannot be used is told, the rest is done."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest

import skilld_monitor as m
from monitor_kit import Collector, collecting, run_program
from skilld_monitor import context
from skilld_monitor.monitoring import active


class Hostile:
    """Answers no question about itself."""

    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__

    def __bool__(self) -> bool:
        raise RuntimeError("bool")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __fspath__(self) -> str:
        raise RuntimeError("fspath")

    def __call__(self, *_args: object) -> str:
        return "an answer"


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__


H: Any = Hostile()


@pytest.mark.parametrize(
    "arguments",
    [
        {"agent_id": H},
        {"llm_client": H},
        {"llm_client": object(), "llm_method_path": H},
        {"log_file": H},
        {"debug_level": H},
        {"config": H},
        {"config": {"strict": H, "debug_mode": H, "log_file": H}},
        {"strict": H},
        {"channels": {"LLM": H}},
        {"capture": [H]},
        {"max_queued": H},
        {"no_such_setting": H},
    ],
    ids=lambda arguments: ",".join(arguments),
)
def test_settings_that_answer_nothing_are_told_and_the_others_hold(arguments: dict[str, Any]) -> None:
    made = m.enable_monitoring(**{"agent_id": "order-desk", "environment": "test", **arguments})
    assert made is active()
    assert made.problem
    assert made.settings.environment == "test"


def in_span(span: Any, error: BaseException | None = None) -> None:
    span.__enter__()
    span.__exit__(None if error is None else type(error), error, None)


CALLS: dict[str, Callable[[], object]] = {
    "a name": lambda: m.log_event(H),
    "all of generation A": lambda: m.log_event("a", H, H, H),
    "all of generation B": lambda: m.log_event(
        name=H, attributes=H, level=H, span_id=H, trace_id=H, parent_span_id=H, timestamp=H, model=H
    ),
    "values": lambda: m.log_event("a", {"k": H, "e": Silent()}),
    "an error": lambda: m.log_error("a", Silent(), H),
    "an error that is none": lambda: m.log_error(H, H, {"a": 1}),
    "more": lambda: m.log_warning("x", {"a": H}, level=H, more=H),
    "a span": lambda: in_span(m.Span(H, H)),
    "a span that fails": lambda: in_span(m.Span("a", {"a": H}), Silent()),
    "a tool's span": lambda: in_span(m.tool_span(H, call_id=H, arguments=H)),
    "an agent's span": lambda: in_span(m.agent_span(H, id=H, version=H)),
    "a session": lambda: context.set_session(H),
    "a user": lambda: context.set_user(H),
    "tags": lambda: context.set_tags(H, H),
    "facts": lambda: context.set_facts(a=H),
    "an agent": lambda: context.set_agent(H),
    "a function that cannot be asked": lambda: m.monitor_call(H)() == "an answer" or pytest.fail("another answer"),
    "a tool that cannot be asked": lambda: m.monitor_tool(H)() == "an answer" or pytest.fail("another answer"),
    "a channel": lambda: m.monitor_call(len, H, H)([]),
    "a prefix": lambda: m.instrument_function(len, H)([]),
    "a trace": lambda: m.TraceContext.initialize_trace(H),
    "a span by hand": lambda: (m.TraceContext.start_span(H), m.TraceContext.end_span()),
    "headers": lambda: (m.TraceContext.extract(H), m.TraceContext.inject(H)),
    "a header": lambda: m.TraceContext.continue_from(H, H),
    "a span's id": lambda: m.TraceContext.get_parent_span_id(H),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_with_what_answers_nothing_raise_nothing_and_the_next_event_arrives(
    name: str, collector: Collector
) -> None:
    made = m.enable_monitoring("order-desk", capture="all")
    with m.Span("outer"):
        CALLS[name]()
        context.clear()
        m.TraceContext.reset()
    m.log_event("after", {"n": 1})
    report = made.disable()
    assert report.complete
    assert (report.dropped, report.refused) == (0, 0)
    assert [event["data"] for event in collector.events(name="after")] == [{"n": 1}]


def test_a_time_that_no_clock_says_costs_no_event(collector: Collector) -> None:
    made = m.enable_monitoring("order-desk")
    for when in (datetime.datetime.max, datetime.datetime.min, "yesterday", -1, 1e300, float("nan"), True):
        m.log_event("dated", timestamp=when)
    assert made.disable().refused == 0
    assert len(collector.events(name="dated")) == 7


def test_switching_it_on_and_off_in_many_threads_at_once_leaves_one_or_none(collector: Collector) -> None:
    barrier, failed = Barrier(8), []

    def work(number: int) -> None:
        barrier.wait()
        try:
            for turn in range(5):
                m.enable_monitoring(f"order-desk-{number % 3}")
                with m.Span("work"):
                    m.log_event("turn", {"n": turn})
                if number % 4 == 0:
                    m.disable_monitoring()
        except BaseException as error:
            failed.append(error)

    threads = [Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    m.disable_monitoring()
    assert failed == []
    assert active() is None
    told = [event["name"] for event in collector.events()]
    assert told.count("monitoring_enabled") == told.count("monitoring_disabled") > 0


PROGRAMS = {
    "a handler that is called while the main thread uses its names for the first time": """
import signal, time, skilld_monitor as m
made = m.enable_monitoring("order-desk")
def handler(number, frame):
    m.log_event("told", {}, "TOLD")
    with m.Span("handled"):
        pass
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
end = time.monotonic() + 0.2
while time.monotonic() < end:
    m.log_event("told", {"n": [1] * 50}, "TOLD")
signal.setitimer(signal.ITIMER_REAL, 0)
""",
    "what is collected when the program has ended": """
import skilld_monitor as m
class Kept:
    def __del__(self):
        m.log_event("too late")
        m.disable_monitoring()
m.enable_monitoring("order-desk")
m.log_event("told", {}, "TOLD")
kept = Kept()
kept.self = kept
""",
    "nobody to print to": """
import os, sys
for fd in (0, 1, 2):
    os.close(fd)
import skilld_monitor as m
m.enable_monitoring("order-desk", log_file="log.json")
m.log_event("told", {}, "TOLD")
""",
    "threads that go on while the program ends": """
import threading, time, skilld_monitor as m
m.enable_monitoring("order-desk")
told = threading.Semaphore(0)
def work():
    while True:
        with m.Span("span"):
            m.log_event("told", {}, "TOLD")
        told.release()
        time.sleep(0.001)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
for _ in range(50):
    told.acquire()
""",
    "what is told while the program tidies up": """
import atexit, skilld_monitor as m
atexit.register(lambda: m.log_event("told", {}, "TOLD"))
m.enable_monitoring("order-desk")
m.log_event("before")
""",
    "switched on at the very end": """
import atexit, skilld_monitor as m
def late():
    m.enable_monitoring("order-desk")
    m.log_event("told", {}, "TOLD")
atexit.register(late)
""",
    "forks while threads report": """
import os, threading, skilld_monitor as m
made = m.enable_monitoring("order-desk")
done = threading.Event()
def work():
    while not done.wait(0.001):
        m.log_event("noise")
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(5):
    if not os.fork():
        m.log_event("told", {}, "TOLD")
        os._exit(0 if made.flush(30) else 1)
    assert os.wait()[1] == 0
done.set()
for thread in threads:
    thread.join()
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_at_the_edge_end_as_without_it_and_what_they_told_arrives(name: str, tmp_path: Path) -> None:
    with collecting(tmp_path) as collector:
        done = run_program(PROGRAMS[name], tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        told = collector.events(channel="TOLD")
    assert len(told) >= (5 if name == "forks while threads report" else 1)


def test_what_refuses_to_be_put_back_keeps_nothing_else_from_it() -> None:
    class Client:
        def first(self) -> str:
            return "first"

        def second(self) -> str:
            return "second"

        def __delattr__(self, name: str) -> None:
            if name == "second":
                raise RuntimeError("no")
            super().__delattr__(name)

    client = Client()
    made = m.enable_monitoring("order-desk", client, "first")
    m.enable_monitoring("order-desk", client, "second")
    made.disable()
    assert "first" not in vars(client)
    assert made.problem == "second cannot be put back: RuntimeError"
    assert (client.first(), client.second()) == ("first", "second")
