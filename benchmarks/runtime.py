"""The actor runtime beside a bare trio channel and pykka's ThreadingActor, in one run, interleaved.

    python benchmarks/runtime.py [--rounds N] [--actors N]

Every sample runs in a process of its own; medians are printed, with the ratio to bare trio. Reach: ask p50 no
slower than bare trio's channel round trip, less than 10 KB for an idle actor.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pykka
import trio

from skill_actors.runtime import Ask, ChildSpec, DynamicSupervisor, DynamicSupervisorRef, TrioActor, open_system

ASKS: Final = 20_000
TELLS: Final = 100_000
THREADS: Final = 500  # actors of the thread variant: each is a thread

VARIANTS: Final = ("ours", "ours, timeout", "bare trio", "pykka threads")
ROWS: Final = (
    ("ask_p50_us", "ask p50, us"),
    ("ask_p99_us", "ask p99, us"),
    ("tell_per_s", "tells per second"),
    ("spawn_us", "spawn, us each"),
    ("stop_ms", "stop all, ms per 10,000"),
    ("idle_kb", "idle actor, KB"),
)


@dataclass(frozen=True, slots=True)
class Echo(Ask[int]):
    number: int


class Ours(TrioActor):
    def on_receive(self, message: Any) -> Any:
        return message.number


class Threaded(pykka.ThreadingActor):
    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


def rss_kb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4.0


def percentiles(samples_s: list[float]) -> dict[str, float]:
    samples_s.sort()
    return {
        "ask_p50_us": samples_s[len(samples_s) // 2] * 1e6,
        "ask_p99_us": samples_s[math.floor(len(samples_s) * 0.99)] * 1e6,
    }


async def timed(ask: Callable[[int], Awaitable[int]]) -> dict[str, float]:
    samples = []
    for number in range(ASKS):
        begin = time.perf_counter()
        await ask(number)
        samples.append(time.perf_counter() - begin)
    return percentiles(samples[ASKS // 10 :])


async def ours(actors: int, timeout_s: float | None) -> dict[str, float]:
    spec = ChildSpec(id="d", factory=lambda: DynamicSupervisor("actor"), name="d")
    async with open_system([spec]) as system:
        dynamic = cast("DynamicSupervisorRef[Any]", system.directory.ref("d"))
        ref = await dynamic.spawn(Ours, id="one")
        found = await timed(lambda number: ref.call(Echo(number), timeout=timeout_s))
        begin = time.perf_counter()
        for number in range(TELLS):
            await ref.send(Echo(number))
        await ref.call(Echo(0), timeout=None)
        found["tell_per_s"] = TELLS / (time.perf_counter() - begin)
        before, begin = rss_kb(), time.perf_counter()
        for number in range(actors):
            await dynamic.spawn(Ours, id=str(number))
        found["spawn_us"] = (time.perf_counter() - begin) / actors * 1e6
        found["idle_kb"] = (rss_kb() - before) / actors
        begin = time.perf_counter()
        await system.root.terminate_child("d")
        found["stop_ms"] = (time.perf_counter() - begin) / actors * 1e7
    return found


async def bare(actors: int) -> dict[str, float]:
    """A task, its memory channel and an event: what one would write without actors."""

    async def serve(inbox: trio.MemoryReceiveChannel[Any], stopped: trio.Event, task_status: Any) -> None:
        task_status.started()
        async for number, reply in inbox:
            if reply is not None:
                answered, slot = reply
                slot.append(number)
                answered.set()
        stopped.set()

    async def start(nursery: trio.Nursery) -> tuple[trio.MemorySendChannel[Any], trio.Event]:
        send, receive = trio.open_memory_channel[Any](1024)
        stopped = trio.Event()

        async def begin(task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            await serve(receive, stopped, task_status)

        await nursery.start(begin)
        return send, stopped

    async with trio.open_nursery() as nursery:
        one, _ = await start(nursery)

        async def ask(number: int) -> int:
            answered, slot = trio.Event(), list[int]()  # the cheapest way to wait for one answer
            await one.send((number, (answered, slot)))
            await answered.wait()
            return slot[0]

        found = await timed(ask)
        begin = time.perf_counter()
        for number in range(TELLS):
            await one.send((number, None))
        await ask(0)
        found["tell_per_s"] = TELLS / (time.perf_counter() - begin)
        before, begin = rss_kb(), time.perf_counter()
        tasks = [await start(nursery) for _ in range(actors)]
        found["spawn_us"] = (time.perf_counter() - begin) / actors * 1e6
        found["idle_kb"] = (rss_kb() - before) / actors
        begin = time.perf_counter()
        for send, _ in tasks:
            send.close()
        for _, stopped in tasks:
            await stopped.wait()
        found["stop_ms"] = (time.perf_counter() - begin) / actors * 1e7
        nursery.cancel_scope.cancel()
    return found


def threads() -> dict[str, float]:
    ref = Threaded.start()
    samples = []
    for number in range(ASKS // 4):
        begin = time.perf_counter()
        ref.ask(number)
        samples.append(time.perf_counter() - begin)
    found = percentiles(samples[ASKS // 40 :])
    begin = time.perf_counter()
    for number in range(TELLS):
        ref.tell(number)
    ref.ask(0)
    found["tell_per_s"] = TELLS / (time.perf_counter() - begin)
    before, begin = rss_kb(), time.perf_counter()
    refs = []
    for _ in range(THREADS):
        refs.append(Threaded.start())
        refs[-1].ask(0)
    found["spawn_us"] = (time.perf_counter() - begin) / THREADS * 1e6
    found["idle_kb"] = (rss_kb() - before) / THREADS
    begin = time.perf_counter()
    pykka.ActorRegistry.stop_all()
    found["stop_ms"] = (time.perf_counter() - begin) / THREADS * 1e7
    return found


def measure(variant: str, actors: int) -> dict[str, float]:
    match variant:
        case "ours":
            return trio.run(ours, actors, None)
        case "ours, timeout":
            return trio.run(ours, actors, 5.0)
        case "bare trio":
            return trio.run(bare, actors)
        case "pykka threads":
            return threads()
    raise ValueError(f"no variant {variant!r}; there are {', '.join(VARIANTS)}")


def sample(variant: str, actors: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", variant, "--actors", str(actors)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return cast("dict[str, float]", json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--actors", type=int, default=10_000)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.actors)))
        return
    samples: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for _ in range(options.rounds):
        for variant in random.sample(VARIANTS, len(VARIANTS)):
            samples[variant].append(sample(variant, options.actors))
    print_table(samples)


def print_table(samples: dict[str, list[dict[str, float]]]) -> None:
    medians = {
        variant: {key: statistics.median(one[key] for one in found) for key, _ in ROWS}
        for variant, found in samples.items()
    }
    print(f"{'':26}" + "".join(f"{variant:>24}" for variant in VARIANTS))
    for key, title in ROWS:
        floor = medians["bare trio"][key]
        cells = (f"{medians[variant][key]:,.1f} ({medians[variant][key] / floor:.2f}x)" for variant in VARIANTS)
        print(f"{title:26}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
