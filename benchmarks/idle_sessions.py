"""Memory of a live conversation that nobody uses, and the time to stop them all, beside bare trio tasks.

    python benchmarks/idle_sessions.py [--sessions N] [--trace]

Each conversation is real: stored in a journal, one short turn behind it, its actor alive under the sessions'
supervisor. Each way runs in a process of its own; memory is the growth of RSS after a warm-up, without SQLite's page
cache, which is bounded and shared. The processor time of the stop is what it takes where nothing else runs; the garbage
collector is set as in the daemon. --trace tells instead which lines of code hold the memory, as tracemalloc sees it.
Reach: less than 10 KB each, all stopped in less than 1 s.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import trio
import trio.testing

from skill_actors.backends import open_local
from skill_actors.models.base import BlockDelta, BlockDone, BlockStart, MessageDone, ModelEvent, ModelRequest, Usage
from skill_actors.runtime import ActorSystem, ChildSpec, DynamicSupervisor, TrioActor, TrioActorRef, open_system
from skill_actors.sessions.manager import SessionManager
from skill_actors.sessions.slots import TurnSlots
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.table import Viewer
from skill_actors.skills.base import SkillSnapshot
from skill_actors.store import SqliteJournal
from skill_actors.telemetry import Bus

_WAYS: Final = ("live conversations", "bare trio tasks")
_AT_ONCE: Final = 32
_WARM_UP: Final = 200
_REACH_KB: Final = 10.0
_TOP: Final = 30
_ME: Final = Viewer(uid=1000)
_GC_THRESHOLDS: Final = (700, 10, 1000)
_ANSWER: Final = "It is a quarter past nine, and the sun shines."


class ShortAnswer:
    """A model that says one sentence and keeps nothing."""

    @property
    def provider(self) -> str:
        return "benchmark"

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        yield self._events(request.model)

    async def _events(self, model: str) -> AsyncIterator[ModelEvent]:
        await trio.lowlevel.checkpoint()
        block = {"type": "text", "text": "".join(list(_ANSWER))}  # a text of its own, as from a network
        yield BlockStart(0, "text")
        yield BlockDelta(0, "text", block["text"])
        yield BlockDone(0, block)
        usage = Usage(input_tokens=10, output_tokens=10)
        yield MessageDone(model=model, stop_reason="end_turn", content=[block], usage=usage)

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """It counts nothing."""
        return None

    async def aclose(self) -> None:
        """Nothing is held open."""


@asynccontextmanager
async def conversations(folder: Path) -> AsyncIterator[tuple[ActorSystem, SessionManager]]:
    """A manager on a real journal, its actors under the supervisor `sessions`."""
    model, snapshot, numbers = ShortAnswer(), SkillSnapshot(), itertools.count()
    supervisor = ChildSpec(id="sessions", name="sessions", factory=lambda: DynamicSupervisor("session"))

    async def pin(_: object) -> list[Path]:
        return []

    async with (
        await SqliteJournal.open(folder / "journal.db") as journal,
        open_local() as executor,
        open_system([supervisor]) as system,
    ):
        surroundings = Surroundings(
            journal=journal,
            resolve_model=lambda name: (model, name or "short"),
            price_usd=lambda model, usage, **_more: None,
            skills=lambda: snapshot,
            pin=pin,
            executors={"local": executor},
            default_backends=("local",),
            slots=TurnSlots(_AT_ONCE),
            workspaces=folder / "workspaces",
            bus=Bus(),
        )

        def start(make: Callable[[], TrioActor], session: str) -> TrioActorRef[Any]:
            actor = system.directory.ref("sessions")._actor_weakref()
            assert isinstance(actor, DynamicSupervisor)
            return actor._begin(make, f"{session}/{next(numbers)}")

        yield system, SessionManager(surroundings, start)


async def talk(manager: SessionManager, count: int) -> None:
    """Make `count` conversations with one turn each, which has ended on return."""
    left = iter(range(count))

    async def some() -> None:
        for number in left:
            session = str((await manager.create(_ME.uid, {}))["id"])
            accepted = await manager.submit(session, _ME, f"What time is it, and how is the weather? ({number})")
            turn = await manager.get_turn(accepted.turn, _ME, wait_s=60)
            assert turn["status"] == "finished", turn

    async with trio.open_nursery() as nursery:
        for _ in range(_AT_ONCE):
            nursery.start_soon(some)


async def live(count: int, trace: bool) -> dict[str, float]:
    """Live conversations: KB each, and the milliseconds of stopping them."""
    with tempfile.TemporaryDirectory() as folder:
        async with conversations(Path(folder)) as (system, manager):
            await talk(manager, min(_WARM_UP, count))
            if trace:
                await _traced(manager, count)
                return {}
            before_kb, cache_kb, began_s = _settled_rss_kb(), _sqlite_kb(), time.perf_counter()
            await talk(manager, count)
            made_s = time.perf_counter() - began_s
            cached_kb = _sqlite_kb() - cache_kb
            grown_kb = _settled_rss_kb() - before_kb
            assert manager.status()["actors"] == count + min(_WARM_UP, count)
            stopped = _Stopwatch()
            await system.root.terminate_child("sessions")
            stop = stopped.read()
    return {
        "kb": (grown_kb - cached_kb) / count,
        "sqlite_kb": cached_kb / count,
        "make_ms": made_s * 1e3 / count,
        **stop,
    }


async def bare(count: int) -> dict[str, float]:
    """What one would write without actors: a task that waits on a memory channel."""

    async def serve(inbox: trio.MemoryReceiveChannel[str]) -> None:
        async for _ in inbox:
            pass

    async with trio.open_nursery() as nursery:
        senders = []
        before_kb, began_s = _settled_rss_kb(), time.perf_counter()
        for _ in range(count):
            send, receive = trio.open_memory_channel[str](1024)
            nursery.start_soon(serve, receive)
            senders.append(send)
            await send.send("hello")
        await trio.testing.wait_all_tasks_blocked()
        made_s = time.perf_counter() - began_s
        grown_kb = _settled_rss_kb() - before_kb
        stopped = _Stopwatch()
        for send in senders:
            send.close()
        while nursery.child_tasks:
            await trio.lowlevel.checkpoint()
        stop = stopped.read()
    return {"kb": grown_kb / count, "sqlite_kb": 0.0, "make_ms": made_s * 1e3 / count, **stop}


class _Stopwatch:
    """Runs from its making."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        wall_s, cpu_s = time.perf_counter() - self._wall_s, time.process_time() - self._cpu_s
        return {"stop_ms": wall_s * 1e3, "stop_cpu_ms": cpu_s * 1e3}


async def _traced(manager: SessionManager, count: int) -> None:
    gc.collect()
    tracemalloc.start(1)
    await talk(manager, count)
    gc.collect()
    found = tracemalloc.take_snapshot()
    tracemalloc.stop()
    print(f"{sum(trace.size for trace in found.traces) / count / 1024:.2f} KB each, by the line that asked for it")
    for line in found.statistics("lineno")[:_TOP]:
        frame = line.traceback[0]
        where = "/".join(Path(frame.filename).parts[-3:])
        print(f"{line.size / count:8.0f} B {line.count / count:7.2f} objects  {where}:{frame.lineno}")
    kinds = Counter(type(thing).__name__ for thing in gc.get_objects())
    print(", ".join(f"{kind} {number / count:.1f}" for kind, number in kinds.most_common(_TOP)))


def _settled_rss_kb() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4.0


def _sqlite_kb() -> float:
    return apsw.memory_used() / 1024


def in_own_process(way: str, sessions: int) -> dict[str, float]:
    """The numbers of one way."""
    command = [sys.executable, __file__, "--one", way, "--sessions", str(sessions)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    numbers: dict[str, float] = json.loads(done.stdout)
    return numbers


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--trace", action="store_true", help="print what holds the memory instead")
    parser.add_argument("--one", choices=_WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    gc.set_threshold(*_GC_THRESHOLDS)
    if options.trace:
        trio.run(live, options.sessions, True)
    elif options.one == "bare trio tasks":
        print(json.dumps(trio.run(bare, options.sessions)))
    elif options.one:
        print(json.dumps(trio.run(live, options.sessions, False)))
    else:
        report({way: in_own_process(way, options.sessions) for way in _WAYS}, options.sessions)


def report(found: dict[str, dict[str, float]], sessions: int) -> None:
    floor = found["bare trio tasks"]
    titles = (
        f"{'KB each':>8} {'ratio':>6} {'SQLite KB':>10} {'make ms':>8} {'stop all ms':>12} {'cpu ms':>7} {'ratio':>6}"
    )
    print(f"{f'{sessions:,} idle':22} {titles}")
    for way, row in found.items():
        kb, cpu_ms = row["kb"], row["stop_cpu_ms"]
        print(
            f"{way:22} {kb:8.2f} {kb / floor['kb']:6.2f} {row['sqlite_kb']:10.2f} {row['make_ms']:8.2f} "
            f"{row['stop_ms']:12.1f} {cpu_ms:7.1f} {cpu_ms / floor['stop_cpu_ms']:6.2f}"
        )
    print(f"reach: less than {_REACH_KB:g} KB, 10,000 stopped in less than 1,000 ms")


if __name__ == "__main__":
    main()
