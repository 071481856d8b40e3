"""Aspects, decorators and services: each call is told, and the function does what it did."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aspectlib  # type: ignore[import-untyped]
import pytest

from contrib_kit import Reported
from monitor_kit import Collector
from skilld_monitor import Span, disable_monitoring, enable_monitoring
from skilld_monitor.contrib.aspect import monitoring_aspect
from skilld_monitor.contrib.decorator import monitor
from skilld_monitor.contrib.service import MonitoredService
from skilld_monitor.trace import current


class Shop:
    """To be woven into."""

    def order(self, number: int) -> int:
        if number < 0:
            raise LookupError("the secret text")
        return number * 2

    async def order_later(self, number: int) -> int:
        await asyncio.sleep(0)
        with Span("inside"):
            return number * 2

    def lines(self, count: int) -> Iterator[int]:
        for number in range(count):
            with Span("inside"):
                yield number
        return "end"  # type: ignore[return-value]

    async def lines_later(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number


def test_an_aspect_of_aspectlib_tells_each_call(reported: Reported) -> None:
    with aspectlib.weave(Shop.order, monitoring_aspect):
        assert Shop().order(21) == 42
        with pytest.raises(LookupError):
            Shop().order(-1)
    Shop().order(1)
    done, failed = reported.spans("AOP")
    assert done["name"] == "function_call"
    assert done["data"] | {"duration_ms": 0} == {"function": "Shop.order", "duration_ms": 0, "success": True}
    assert (failed["name"], failed["data"]["success"], failed["data"]["error"]) == (
        *("function_call_error", False, "LookupError"),
    )
    assert "secret" not in str(reported.all())


def test_a_whole_class_is_woven_into(reported: Reported) -> None:
    with aspectlib.weave(Shop, monitoring_aspect(channel="SHOP"), methods=["order", "lines"]):
        assert (Shop().order(1), list(Shop().lines(2))) == (2, [0, 1])
    assert [span["data"]["function"] for span in reported.spans("SHOP")] == ["Shop.order", "Shop.lines"]


def test_an_aspect_is_a_decorator_for_every_kind_of_function(reported: Reported) -> None:
    later, lines = monitoring_aspect(Shop.order_later), monitoring_aspect(Shop.lines)
    lines_later = monitoring_aspect(Shop.lines_later)
    assert inspect.iscoroutinefunction(later)
    assert inspect.isgeneratorfunction(lines)
    assert inspect.isasyncgenfunction(lines_later)
    assert lines.__name__ == "lines"

    async def main() -> None:
        assert await later(Shop(), 2) == 4
        assert [number async for number in lines_later(Shop(), 3)] == [0, 1, 2]
        closed = lines_later(Shop(), 3)
        assert await closed.__anext__() == 0
        await closed.aclose()

    asyncio.run(main())
    assert returned(lines(Shop(), 1)) == ([0], "end")
    calls = reported.spans("AOP")
    assert [call["status"] for call in calls] == ["ok", "ok", "closed", "ok"]
    assert {span["parent"] for span in reported.spans("SYSTEM")} == {calls[0]["span"], calls[3]["span"]}


def returned(generator: Iterator[Any]) -> tuple[list[Any], Any]:
    items = []
    while True:
        try:
            items.append(next(generator))
        except StopIteration as stop:
            return items, stop.value


def test_what_is_sent_thrown_and_closed_reaches_the_generator(reported: Reported) -> None:
    seen: list[Any] = []

    @monitoring_aspect
    def talk() -> Any:
        try:
            seen.append((yield 1))
            yield 2
        except LookupError as error:
            seen.append(error)
            with Span("open when it is closed"):
                yield 3
        finally:
            seen.append("closed")

    failure = LookupError()
    talking = talk()
    assert (next(talking), talking.send("x"), talking.throw(failure)) == (1, 2, 3)
    talking.close()
    assert seen == ["x", failure, "closed"]
    assert current() is None
    assert reported.span("AOP")["status"] == "closed"


def test_arguments_are_told_where_they_are_asked_for(collector: Collector) -> None:
    reported = Reported(collector, capture="arguments")
    monitoring_aspect(Shop.order)(Shop(), number=2)
    data = reported.span("AOP")["data"]
    assert (data["kwargs"], len(data["args"])) == ({"number": 2}, 1)


def test_the_decorator_in_each_of_its_forms(reported: Reported) -> None:
    @monitor
    def bare(number: int) -> int:
        return number

    @monitor("ORDERS")
    def named(number: int) -> int:
        return number

    @monitor(channel="ORDERS", name="process_order")
    def whole(number: int) -> int:
        return number

    assert (bare(1), named(2), whole(3)) == (1, 2, 3)
    spans = [(span["name"], span["channel"]) for span in reported.spans()]
    assert spans == [("bare", "CUSTOM"), ("named", "ORDERS"), ("process_order", "ORDERS")]


def test_the_decorator_on_a_class(reported: Reported) -> None:
    @monitor(channel="SHOP")
    class Till:
        kind = int

        @staticmethod
        def fixed(number: int) -> int:
            return number

        @classmethod
        def name(cls) -> str:
            return cls.__name__

        @property
        def size(self) -> int:
            return 1

        def add(self, number: int) -> int:
            return self._secretly(number)

        def _secretly(self, number: int) -> int:
            return number

    till = Till()
    assert (till.fixed(1), Till.fixed(2), Till.name(), till.size, till.add(3), till.kind) == (1, 2, "Till", 1, 3, int)
    assert [span["name"] for span in reported.spans("SHOP")] == ["fixed", "fixed", "name", "add"]


class Model:
    """A client of a model."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.messages = self
        self.answer = answer

    def create(self, prompt: str) -> str:
        return self.answer(prompt)


class Orders(MonitoredService):
    def confirm(self, prompt: str) -> str:
        return str(self.client.messages.create(prompt))

    async def confirm_later(self, prompt: str) -> str:
        await asyncio.sleep(0)
        return self.confirm(prompt)

    def _own(self) -> str:
        return "not told"


def fails(prompt: str) -> str:
    raise LookupError(f"refused: {prompt}")


def test_a_service_tells_its_methods_and_its_errors_without_the_prompt(reported: Reported) -> None:
    orders = Orders("order-processing-service", Model(str.upper))
    assert (orders.confirm("the secret"), orders._own()) == ("THE SECRET", "not told")
    assert asyncio.run(orders.confirm_later("a")) == "A"
    broken = Orders("order-processing-service", Model(fails))
    with pytest.raises(LookupError):
        broken.confirm("the secret")
    (event,) = reported.events("llm_service_error")
    assert event["data"] == {"service": "Orders", "method": "confirm", "error": "LookupError"}
    assert (event["channel"], event["level"], event["agent"]) == ("SERVICE", "ERROR", "order-processing-service")
    spans = reported.spans("SERVICE")
    names = ["Orders.confirm", "Orders.confirm", "Orders.confirm_later", "Orders.confirm"]
    assert [span["name"] for span in spans] == names
    assert spans[1]["parent"] == spans[2]["span"]
    assert event["span"] == spans[3]["span"]
    assert "secret" not in str(reported.all())


def test_services_of_one_program_are_agents_of_their_own(collector: Collector) -> None:
    first, second = Orders("first", Model(str)), Orders("second", Model(str))
    assert first.monitoring is second.monitoring
    assert (first.confirm("a"), second.confirm("b")) == ("a", "b")
    reported = Reported(collector)
    assert [span["agent"] for span in reported.spans("SERVICE")] == ["first", "second"]


class Broken:
    __slots__ = ()


def test_a_client_that_cannot_be_watched_is_a_problem_and_no_error(collector: Collector) -> None:
    made = Orders("one", Broken()).monitoring
    assert "messages.create" in made.problem
    disable_monitoring()
    strict = enable_monitoring("one", strict=True)
    assert strict.problem == ""
    with pytest.raises(AttributeError):
        Orders("two", Broken())


@pytest.mark.parametrize("wrap", [monitoring_aspect, monitor])
def test_while_it_is_off_the_function_is_called_as_it_is(wrap: Callable[..., Any]) -> None:
    later = wrap(Shop.order_later)
    assert asyncio.run(later(Shop(), 2)) == 4
    assert wrap(Shop.order)(Shop(), 2) == 4
    assert list(wrap(Shop.lines)(Shop(), 2)) == [0, 1]
    assert Orders.__init__ is MonitoredService.__init__


def test_generators_that_never_begin_and_those_that_fail_when_they_are_closed_are_told(reported: Reported) -> None:
    @monitoring_aspect
    async def unclosable() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise LookupError("cleanup")

    wrap: Any = monitoring_aspect
    lines, lines_later = wrap(Shop.lines), wrap(Shop.lines_later)

    async def main() -> None:
        items: Any = unclosable()
        assert await items.__anext__() == 1
        with pytest.raises(LookupError, match="cleanup"):
            await items.aclose()
        with pytest.raises(TypeError, match="count"):
            await lines_later(Shop()).__anext__()

    asyncio.run(main())
    with pytest.raises(TypeError, match="count"):
        next(lines(Shop()))
    assert [(span["status"], span["data"]["error.type"]) for span in reported.spans("AOP")] == [
        ("error", "LookupError"),
        ("error", "TypeError"),
        ("error", "TypeError"),
    ]
