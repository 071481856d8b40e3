"""What a program says itself arrives as it was said, and nothing that it says breaks it."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import skilld_monitor
from monitor_kit import Collector
from skilld_monitor import Span, TraceContext, enable_monitoring, log_error, log_event, monitor_call
from skilld_monitor.outbox import Outbox
from skilld_monitor.records import event
from skilld_monitor.values import MAX_ITEMS, MAX_TEXT_CHARS, plain


def test_both_forms_of_log_event_arrive(collector: Collector) -> None:
    enable_monitoring("shop")
    log_event("order", {"n": 1}, "ORDERS", "warning")
    log_event(name="paid", attributes={"n": 2}, level="ERROR", channel="ORDERS", model={"name": "m"})
    log_event("third", {"n": 3}, "WARNING")
    skilld_monitor.log_error("broke", ValueError("no"), {"at": 1}, channel="ORDERS")
    started, order, paid, third, broke = collector.wait(5)
    assert (started["name"], started["agent"]) == ("monitoring_enabled", "shop")
    assert (order["name"], order["channel"], order["level"], order["data"]) == ("order", "ORDERS", "WARNING", {"n": 1})
    assert (paid["level"], paid["data"]) == ("ERROR", {"n": 2, "model": {"name": "m"}})
    assert (third["channel"], third["level"]) == ("SYSTEM", "WARNING")
    assert broke["data"] == {"error.type": "ValueError", "error.message": "no", "at": 1}


def test_nothing_is_reported_while_it_is_off_and_nothing_raises() -> None:
    assert log_event("x", {"n": 1})["name"] == "x"
    assert skilld_monitor.disable_monitoring() is None
    with Span("nobody hears this"):
        pass


def test_events_below_the_level_are_not_reported(collector: Collector) -> None:
    made = enable_monitoring("shop", debug_level="WARNING")
    log_event("quiet", {}, "X", "info")
    log_event("loud", {}, "X", "warning")
    assert made.flush()
    assert [event["name"] for event in collector.events()] == ["loud"]


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_any_value_can_be_reported(collector: Collector) -> None:
    endless: list[Any] = []
    endless.append(endless)
    data = {
        "when": datetime.date(2026, 1, 15),
        "path": Path("/x"),
        "bytes": b"123",
        "hostile": Hostile(),
        "endless": endless,
        "nan": float("nan"),
        "huge": 1 << 80,
        "text": "x" * (MAX_TEXT_CHARS + 1),
        "many": list(range(MAX_ITEMS + 5)),
        "surrogate": "\ud800",
        3: {"set"},
    }
    enable_monitoring("shop")
    log_event("odd", data)
    (event,) = collector.wait(1, name="odd")
    found = event["data"]
    assert (found["when"], found["path"], found["bytes"], found["nan"]) == ("2026-01-15", "/x", "<3 bytes>", "nan")
    assert found["hostile"] == "<Hostile, unreadable: RuntimeError>"
    assert found["huge"] == str(1 << 80)
    assert found["text"].endswith(f"... ({MAX_TEXT_CHARS + 1} characters)")
    assert found["many"][-1] == "... 5 more"
    assert found["surrogate"] == "?"
    assert found["3"] == ["set"]


def test_what_the_program_changes_later_does_not_show(collector: Collector) -> None:
    made = enable_monitoring("shop")
    data = {"items": [1]}
    log_event("order", data)
    data["items"].append(2)
    assert made.flush()
    (event,) = collector.events(name="order")
    assert event["data"] == {"items": [1]}


def test_an_event_too_large_goes_without_the_longest_of_its_data_and_says_so(collector: Collector) -> None:
    enable_monitoring("shop")
    log_event(
        "large", {"tokens": 7, "chat": ["x" * 7_500] * 9, "model": "m", **{str(n): "x" * 8_000 for n in range(8)}}
    )
    (event,) = collector.wait(1, name="large")
    data = event["data"]
    assert data["skilld.truncated_bytes"] > 100_000
    assert (data["tokens"], data["model"], len(data)) == (7, "m", 2 + 1 + 8)
    assert "chat" not in data


def test_an_event_too_large_in_a_single_value_goes_without_it(collector: Collector) -> None:
    enable_monitoring("shop")
    log_event("large", ["x" * 8_000] * 20)
    (event,) = collector.wait(1, name="large")
    assert list(event["data"]) == ["skilld.truncated_bytes"]


def test_a_queue_that_is_full_drops_the_newest_and_counts_them(tmp_path: Path) -> None:
    made = enable_monitoring("shop", max_queued=10)
    for n in range(1000):
        log_event("burst", {"n": n})
    report = made.disable()
    assert report.dropped > 0
    assert report.accepted + report.dropped >= 1001
    assert report.spooled == report.accepted


def test_spans_are_parents_of_what_happens_inside_in_every_thread_and_task(collector: Collector) -> None:
    enable_monitoring("shop")

    async def task(n: int) -> None:
        async with Span(f"task {n}"):
            await asyncio.sleep(0)
            with Span(f"inner {n}"):
                await asyncio.sleep(0)

    def thread(n: int) -> None:
        for _ in range(20):
            with Span(f"task {n}"), Span(f"inner {n}"):
                pass

    async def main() -> None:
        await asyncio.gather(*(task(n) for n in range(50)))

    asyncio.run(main())
    threads = [threading.Thread(target=thread, args=(n,)) for n in range(100, 104)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    found = collector.wait(1 + 100 + 160)
    by_span = {event["span"]: event for event in found}
    inner = [event for event in found if event["name"].startswith("inner")]
    assert len(inner) == 130
    assert all(by_span[event["parent"]]["name"] == event["name"].replace("inner", "task") for event in inner)


def test_a_trace_goes_on_over_its_header(collector: Collector) -> None:
    made = enable_monitoring("shop")
    header = f"00-{'a' * 32}-{'b' * 16}-01"
    assert TraceContext.continue_from(header)
    assert TraceContext.traceparent() == header
    assert not TraceContext.continue_from("00-xyz-1-01")
    with Span("handled"):
        pass
    TraceContext.reset()
    assert made.flush()
    (event,) = collector.events(name="handled")
    assert (event["trace"], event["parent"]) == ("a" * 32, "b" * 16)


def test_calls_of_every_kind_are_spans_and_what_they_give_is_untouched(collector: Collector) -> None:
    made = enable_monitoring("shop")

    @monitor_call(channel="C")  # type: ignore[untyped-decorator]
    def add(a: int, b: int) -> int:
        return a + b

    @monitor_call
    async def slow() -> int:
        await asyncio.sleep(0.05)
        return 7

    @monitor_call
    def numbers() -> Generator[int, int, str]:
        got = yield 1
        yield got
        return "end"

    @monitor_call
    async def letters() -> AsyncGenerator[str, None]:
        yield "a"
        yield "b"

    @skilld_monitor.instrument_function
    def fails() -> None:
        raise KeyError("secret")

    async def main() -> list[str]:
        assert await slow() == 7
        return [letter async for letter in letters()]

    assert add(1, b=2) == 3
    assert asyncio.run(main()) == ["a", "b"]
    given = numbers()
    assert (next(given), given.send(5)) == (1, 5)
    with pytest.raises(StopIteration) as ended:
        next(given)
    assert ended.value.value == "end"
    with pytest.raises(KeyError):
        fails()
    assert monitor_call(len, "L")([1, 2]) == 2
    assert made.flush()
    found = {event["name"]: event for event in collector.events()}
    assert (found["add"]["channel"], found["add"]["status"]) == ("C", "ok")
    assert found["slow"]["duration_ms"] >= 50
    assert {"numbers", "letters", "len"} <= found.keys()
    assert (found["function.fails"]["status"], found["function.fails"]["data"]["error.type"]) == ("error", "KeyError")
    assert "secret" not in str(found), "arguments, results and messages are only reported on request"


def test_a_generator_that_is_closed_early_and_a_task_that_is_cancelled_are_no_errors(collector: Collector) -> None:
    made = enable_monitoring("shop")

    @monitor_call
    def numbers() -> Generator[int, None, None]:
        yield 1

    @monitor_call
    async def for_ever() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(for_ever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    given = numbers()
    next(given)
    given.close()
    asyncio.run(main())
    assert made.flush()
    assert {event["name"]: event["status"] for event in collector.events(level="INFO") if event["status"]} == {
        "numbers": "cancelled",
        "for_ever": "cancelled",
    }


def test_arguments_and_results_are_reported_on_request(collector: Collector) -> None:
    made = enable_monitoring("shop", capture="arguments,result")
    assert monitor_call(lambda a: a * 2)("x") == "xx"
    assert made.flush()
    (event,) = collector.events(channel="GENERIC")
    assert (event["data"]["args"], event["data"]["result"]) == (["x"], "xx")


def test_plain_values_stay_as_they_are() -> None:
    value: dict[str, Any] = {"a": [1, 2.5, None, True, "x", {"b": []}]}
    assert plain(value) == value


def test_nothing_is_printed_and_logging_is_left_alone(
    collector: Collector, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    enable_monitoring("shop")
    log_event("x")
    skilld_monitor.disable_monitoring()
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == (handlers, level)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_switched_on_twice_it_is_the_same_and_with_other_settings_another_run(collector: Collector) -> None:
    first = enable_monitoring("shop")
    assert enable_monitoring("shop") is first
    log_event("one")
    second = enable_monitoring("stall")
    assert second.run != first.run
    log_event("two")
    assert second.flush()
    found = {event["name"]: event["agent"] for event in collector.events()}
    assert (found["one"], found["two"]) == ("shop", "stall")
    assert len(collector.events(name="one")) == 1


class Unreadable:
    """Whatever is asked of it fails."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    def __bool__(self) -> bool:
        raise RuntimeError("no")

    def keys(self) -> object:
        raise RuntimeError("no")


def test_what_cannot_be_reported_raises_nothing_unless_asked_to(collector: Collector) -> None:
    made = enable_monitoring("shop")
    bad: Any = Unreadable()
    attempts: list[Callable[[], object]] = [
        lambda: log_event(bad),
        lambda: log_event("x", bad),
        lambda: log_event("x", attributes=bad),
        lambda: log_event("x", attributes=7),  # type: ignore[arg-type]
        lambda: log_event("x", {}, [], "info"),  # type: ignore[arg-type]
        lambda: log_error("x", ValueError(bad), bad),
        lambda: log_event("x", level=bad),
        lambda: log_event("x", trace_id=bad),
    ]
    for attempt in attempts:
        assert isinstance(attempt(), dict)
    with Span("x", bad):
        pass
    assert made.flush()
    assert made.problem
    skilld_monitor.disable_monitoring()
    enable_monitoring("shop", strict=True)
    with pytest.raises(RuntimeError):
        log_event(bad)


def test_ids_of_other_kinds_cost_no_event(collector: Collector) -> None:
    made = enable_monitoring("shop")
    log_event("uuid", trace_id="4CF18047-6658-8054-733c-4dc7fedc3923", parent_span_id="00f067aa0ba902b7")
    log_event("other", {"a": 1}, trace_id="order 7", span_id="00f067aa0ba902b7")
    log_event("none", trace_id="order 7", parent_span_id=7)  # type: ignore[arg-type]
    report = made.disable()
    assert report.refused == 0
    uuid, other, none = (event for event in collector.events() if event["channel"] == "SYSTEM" and event["span"])
    assert (uuid["trace"], uuid["parent"]) == ("4cf1804766588054733c4dc7fedc3923", "00f067aa0ba902b7")
    assert (other["span"], other["data"]) == ("00f067aa0ba902b7", {"a": 1, "trace_id": "order 7"})
    assert (none["parent"], none["data"]) == ("7", {"trace_id": "order 7"})


def test_a_value_made_of_itself_many_times_is_cut_before_it_takes_time_or_memory(tmp_path: Path) -> None:
    value: list[Any] = [0] * 256
    for _ in range(5):
        value = [value] * 256
    assert len(json.dumps(plain(value))) < 1 << 20
    made = enable_monitoring("shop", socket=str(tmp_path / "none"), max_spool_bytes=0)
    numbers = [list(range(n, n + 256)) for n in range(16)]
    outbox = Outbox(1_000_000, 1 << 20)
    assert sum(outbox.put(event("x", numbers, "SYSTEM", "INFO")) for _ in range(100)) < 10, "numbers take room too"
    made.disable()


def test_messages_of_errors_are_content(collector: Collector) -> None:
    def fail(**settings: Any) -> dict[str, Any]:
        made = enable_monitoring("shop", **settings)
        with pytest.raises(ValueError, match="secret"), Span("request"):
            raise ValueError("secret")
        assert made.flush()
        return dict(collector.events(name="request")[-1]["data"])

    assert fail() == {"error.type": "ValueError"}
    assert fail(capture="result") == {"error.type": "ValueError", "error.message": "secret"}


def test_an_asynchronous_generator_gets_every_exception_that_is_thrown_into_it(collector: Collector) -> None:
    async def counts() -> AsyncGenerator[str, str]:
        said = "start"
        while said != "stop":
            try:
                said = yield said
            except KeyError as error:
                said = f"caught {error}"

    async def use(function: Any) -> list[Any]:
        running = function()
        found = [await running.asend(None), await running.athrow(KeyError(1)), await running.athrow(KeyError(2))]
        found.append(await running.asend("go"))
        with pytest.raises(StopAsyncIteration):
            await running.asend("stop")
        running = function()
        await running.asend(None)
        found.append(await running.athrow(KeyError(3)))
        return found

    enable_monitoring("shop")
    assert asyncio.run(use(monitor_call(counts))) == asyncio.run(use(counts))


def test_a_client_that_cannot_be_watched_is_left_alone(collector: Collector) -> None:
    class Slotted:
        __slots__ = ()

        def ask(self) -> int:
            return 7

    client = Slotted()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="ask")
    assert client.ask() == 7
    assert "llm_method_path 'ask'" in made.problem


def test_arguments_that_cannot_be_read_reach_the_method_all_the_same(collector: Collector) -> None:
    class Odd:
        def model_dump(self, **_options: object) -> object:
            raise RuntimeError("no")

    class Client:
        def ask(self, **given: object) -> int:
            return len(given)

    client = Client()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="ask", capture="all")
    assert client.ask(messages=[Odd()]) == 1
    assert made.flush()
    (span,) = collector.events(channel="LLM")
    assert span["status"] == "ok"
    assert "unreadable: RuntimeError" in str(span["data"]["gen_ai.input.messages"])
