"""Helpers that all tests share: running trio programs on the real clock or on a virtual one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
import trio.testing

T = TypeVar("T")


def run(main: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run `main` under trio on the real clock; more than 120 s is a failure: it hangs, however busy the machine."""

    async def bounded() -> T:
        with trio.fail_after(120):
            return await main(*args)

    return trio.run(bounded, strict_exception_groups=True)


def run_by(clock: trio.testing.MockClock, main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` on a clock that goes on, and jumps where it is told to; more than 300 s of it is a failure."""

    async def bounded() -> T:
        with trio.fail_after(300):
            return await main()

    return trio.run(bounded, clock=clock)


def run_virtual(main: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run `main` on a clock that jumps to the next deadline whenever every task waits: no wall time passes."""

    async def call() -> T:
        return await main(*args)

    return trio.run(call, clock=trio.testing.MockClock(autojump_threshold=0))
