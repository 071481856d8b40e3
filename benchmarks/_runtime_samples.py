"""One sample of one variant of benchmarks/runtime.py, in a process of its own, as JSON on stdout.

    python benchmarks/_runtime_samples.py VARIANT ACTORS

Every variant does the same: an echo is asked, told, crashed and asked again; ACTORS idle ones are made and stopped.
Each has a log, as a daemon would: it goes to /dev/null, but tracebacks are formatted.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
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
RESTARTS: Final = 500
MAX_THREADS: Final = 500  # actors of the thread variant: each is a thread
DEFAULT: Final = "default"

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Echo(Ask[int]):
    number: int


class Crash(Exception):
    """What an actor is told to raise."""


class Ours(TrioActor):
    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Crash):
            raise message
        return message.number


class Inline(Ours):
    inline = True


def rss_kb() -> float:
    """Resident memory of this process, in KB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4.0


def percentiles(name: str, samples_s: list[float]) -> Figures:
    """p50 and p99 in microseconds, without the first tenth, which warms up."""
    kept = sorted(samples_s[len(samples_s) // 10 :])
    return {
        f"{name}_p50_us": kept[len(kept) // 2] * 1e6,
        f"{name}_p99_us": kept[math.floor(len(kept) * 0.99)] * 1e6,
    }


async def timed(name: str, times: int, act: Callable[[], Awaitable[object]]) -> Figures:
    samples = []
    for _ in range(times):
        begin = time.perf_counter()
        await act()
        samples.append(time.perf_counter() - begin)
    return percentiles(name, samples)


# Ours


async def ours_asked(actor: type[Ours], timeout: float | str | None) -> Figures:
    """Only the ask: how it is waited for is what differs."""
    async with open_system([ChildSpec(id="one", factory=actor, name="one")]) as system:
        ref = system.directory.ref("one")
        if timeout == DEFAULT:
            return await timed("ask", ASKS, lambda: ref.call(Echo(1)))
        return await timed("ask", ASKS, lambda: ref.call(Echo(1), timeout=cast("float | None", timeout)))


async def ours(actors: int) -> Figures:
    found = await ours_asked(Ours, None)
    found |= await ours_restarted()
    async with open_system([ChildSpec(id="d", factory=lambda: DynamicSupervisor("actor"), name="d")]) as system:
        dynamic = cast("DynamicSupervisorRef[Any]", system.directory.ref("d"))
        ref = await dynamic.spawn(Ours, id="one")
        begin = time.perf_counter()
        for _ in range(TELLS):
            await ref.send(Echo(1))
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


async def ours_restarted() -> Figures:
    spec = ChildSpec(id="one", factory=Ours, name="one")
    async with open_system([spec], max_restarts=2 * RESTARTS) as system:
        name = system.directory.named("one")

        async def crash() -> None:
            ref = system.directory.ref("one")
            await ref.send(Crash())
            await ref.wait_stopped()
            await name.call(Echo(1), timeout=None, wait_s=5)

        return await timed("restart", RESTARTS, crash)


# What one would write without actors: a task, its memory channel, an event for each answer


Letter = tuple[Any, tuple[trio.Event, list[Any]] | None]


async def bare_serve(inbox: trio.MemoryReceiveChannel[Letter]) -> None:
    async for message, reply in inbox:
        if isinstance(message, Crash):
            raise message
        if reply is not None:
            answered, slot = reply
            slot.append(message)
            answered.set()


async def bare_start(nursery: trio.Nursery) -> tuple[trio.MemorySendChannel[Letter], trio.Event]:
    """A serving task; how to reach it, and what is set when it has ended. A crash starts it again."""
    send, receive = trio.open_memory_channel[Letter](1024)
    stopped = trio.Event()

    async def begin(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while not stopped.is_set():
            try:
                await bare_serve(receive)
                stopped.set()
            except Crash:
                continue

    await nursery.start(begin)
    return send, stopped


async def bare(actors: int) -> Figures:
    async with trio.open_nursery() as nursery:
        one, _ = await bare_start(nursery)

        async def ask() -> Any:
            answered, slot = trio.Event(), list[Any]()  # the cheapest way to wait for one answer
            await one.send((1, (answered, slot)))
            await answered.wait()
            return slot[0]

        async def crash() -> None:
            await one.send((Crash(), None))
            await ask()

        found = await timed("ask", ASKS, ask)
        found |= await timed("restart", RESTARTS, crash)
        begin = time.perf_counter()
        for _ in range(TELLS):
            await one.send((1, None))
        await ask()
        found["tell_per_s"] = TELLS / (time.perf_counter() - begin)
        before, begin = rss_kb(), time.perf_counter()
        tasks = [await bare_start(nursery) for _ in range(actors)]
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


# pykka's threads, with the keeper that pykka leaves to its users


class Threaded(pykka.ThreadingActor):
    use_daemon_thread = True

    def __init__(self, keeper: pykka.ActorRef[Any] | None = None) -> None:
        super().__init__()
        self.keeper = keeper

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Crash):
            raise message
        return message

    def on_failure(self, *_error: Any) -> None:
        if self.keeper is not None:
            self.keeper.tell("down")


class Keeper(pykka.ThreadingActor):
    """Starts the next one when one has crashed, and says where it is."""

    use_daemon_thread = True

    def __init__(self, serving: queue.Queue[pykka.ActorRef[Any]]) -> None:
        super().__init__()
        self.serving = serving

    def on_receive(self, message: Any) -> None:
        self.serving.put(Threaded.start(self.actor_ref))


def threads_restarted() -> Figures:
    serving: queue.Queue[pykka.ActorRef[Any]] = queue.Queue()
    Keeper.start(serving).tell("start")
    ref, samples = serving.get(), []
    for _ in range(RESTARTS):
        begin = time.perf_counter()
        ref.tell(Crash())
        ref = serving.get()
        ref.ask(1)
        samples.append(time.perf_counter() - begin)
    pykka.ActorRegistry.stop_all()
    return percentiles("restart", samples)


def threads(actors: int) -> Figures:
    actors = min(actors, MAX_THREADS)
    ref, samples = Threaded.start(), []
    for _ in range(ASKS // 4):
        begin = time.perf_counter()
        ref.ask(1)
        samples.append(time.perf_counter() - begin)
    found = percentiles("ask", samples)
    begin = time.perf_counter()
    for _ in range(TELLS):
        ref.tell(1)
    ref.ask(0)
    found["tell_per_s"] = TELLS / (time.perf_counter() - begin)
    found |= threads_restarted()
    before, begin = rss_kb(), time.perf_counter()
    for _ in range(actors):
        Threaded.start().ask(0)
    found["spawn_us"] = (time.perf_counter() - begin) / actors * 1e6
    found["idle_kb"] = (rss_kb() - before) / actors
    begin = time.perf_counter()
    pykka.ActorRegistry.stop_all()
    found["stop_ms"] = (time.perf_counter() - begin) / actors * 1e7
    return found


def measure(variant: str, actors: int) -> Figures:
    match variant:
        case "ours":
            return trio.run(ours, actors)
        case "timeout":
            return trio.run(ours_asked, Ours, DEFAULT)
        case "inline":
            return trio.run(ours_asked, Inline, DEFAULT)
        case "bare":
            return trio.run(bare, actors)
        case "threads":
            return threads(actors)
    raise ValueError(f"no variant {variant!r}")


if __name__ == "__main__":
    logging.basicConfig(filename=os.devnull, level=logging.WARNING)
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
