"""Answers that are large are written beside everything else, and say the same as others."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
import trio

from skilld.http.answer import JsonAnswer, large_answer
from support import run


class Noting(dict[str, Any]):
    """Remembers in which threads it was written."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.threads: set[int] = set()

    def items(self) -> Any:
        self.threads.add(threading.get_ident())
        return super().items()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"items": []},
        {"trace": None, "more": 3, "events": [{"a": "\u00fc"}, {"b": [1, {"c": 2.5}]}], "findings": []},
        {"items": [{"a": "\ud800"}, {"b": "\u00fc"}]},
    ],
)
def test_a_large_answer_says_what_a_small_one_does(content: dict[str, Any]) -> None:
    async def main() -> None:
        answer = await large_answer(content)
        assert json.loads(bytes(answer.body)) == json.loads(bytes(JsonAnswer(content).body))
        assert answer.headers["content-type"] == JsonAnswer(content).headers["content-type"]

    run(main)


def test_it_is_not_written_on_the_thread_that_everything_else_waits_for() -> None:
    async def main() -> None:
        item = Noting({"a": 1})
        await large_answer({"items": [item]})
        assert item.threads
        assert threading.get_ident() not in item.threads

    run(main)


def test_nor_at_one_go() -> None:
    """The interpreter writes a value without a pause: in another thread it would stop this one just as well."""

    async def main() -> None:
        content = {"items": [{"data": "word \u00fc " * 2_000} for _ in range(2_000)]}
        whole_s = min(at_one_go(content) for _ in range(3))
        waits_s = [await latest(content)]
        while min(waits_s) >= whole_s / 2 and len(waits_s) < 12:  # this machine has pauses of its own
            waits_s.append(await latest(content))
        assert min(waits_s) < whole_s / 2

    run(main)


def at_one_go(content: dict[str, Any]) -> float:
    """How many seconds the whole takes in one step; nobody waits for less where it is one."""
    began = time.perf_counter()
    JsonAnswer(content)
    return time.perf_counter() - began


async def latest(content: dict[str, Any]) -> float:
    """How many seconds somebody else had to wait at most, meanwhile."""
    late: list[float] = []

    async def look() -> None:
        while True:
            before = time.perf_counter()
            await trio.sleep(0.001)
            late.append(time.perf_counter() - before)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await trio.sleep(0.01)
        await large_answer(content)
        nursery.cancel_scope.cancel()
    return max(late)
