"""How long everybody else waits while the anthropic SDK is imported: in a thread beside on the loop itself.

A task sleeps 1 ms again and again and notes how late it wakes up. Each way runs in a fresh process; the floor is the
same loop while nothing is imported.

    python benchmarks/import_lag.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

_TICK_S: Final = 0.001


async def measure(work: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """Milliseconds: how late a ticking task wakes while `work` runs, and how long the work takes."""
    late_s: list[float] = []

    async def tick() -> None:
        while True:
            due_s = time.perf_counter() + _TICK_S
            await trio.sleep(_TICK_S)
            late_s.append(time.perf_counter() - due_s)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await trio.sleep(0.05)
        late_s.clear()
        began_s = time.perf_counter()
        await work()
        took_s = time.perf_counter() - began_s
        await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    late_s.sort()
    p99_s = late_s[int(len(late_s) * 0.99)]
    return {"p50": late_s[len(late_s) // 2] * 1e3, "p99": p99_s * 1e3, "max": late_s[-1] * 1e3, "work": took_s * 1e3}


async def nothing() -> None:
    """The floor: as long as an import takes."""
    await trio.sleep(3)


async def in_a_thread() -> None:
    """What the model client does."""
    from skill_actors.models import AnthropicModel

    await AnthropicModel(lambda: "no-key").prepare()


async def on_the_loop() -> None:
    """What it avoids."""
    import anthropic

    anthropic.AsyncAnthropic(api_key="no-key", max_retries=0)


_WAYS: Final[dict[str, Callable[[], Awaitable[object]]]] = {
    "floor (no import)": nothing,
    "in a thread (prepare)": in_a_thread,
    "on the trio thread": on_the_loop,
}


def main() -> None:
    """Print the table, or with --way the numbers of one way as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=_WAYS)
    chosen = parser.parse_args().way
    if chosen:
        print(json.dumps(trio.run(measure, _WAYS[chosen])))
        return
    print(f"{'import of anthropic':24} {'p50 ms':>9} {'p99 ms':>9} {'max ms':>9} {'takes ms':>9} {'max / loop':>11}")
    found = {way: _in_fresh_process(way) for way in _WAYS}
    worst_ms = found["on the trio thread"]["max"]
    for way, ms in found.items():
        columns = " ".join(f"{ms[name]:9.1f}" for name in ("p50", "p99", "max", "work"))
        print(f"{way:24} {columns} {ms['max'] / worst_ms:11.3f}")


def _in_fresh_process(way: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way]
    outcome = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    numbers: dict[str, float] = json.loads(outcome.stdout)
    return numbers


if __name__ == "__main__":
    main()
