"""What the runtime costs when there is very much of it: actors made and ended, and actors that idle."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from skill_actors.runtime import ChildSpec, DynamicSupervisor, DynamicSupervisorRef, TrioActor, open_system

IDLE_PROGRAM = """
import json, sys, time
import trio
from skill_actors.runtime import ChildSpec, DynamicSupervisor, TrioActor, open_system

def rss_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

class Idle(TrioActor):
    def on_receive(self, message):
        return message

async def main(count):
    spec = ChildSpec(id="rooms", factory=lambda: DynamicSupervisor("room"), name="rooms")
    async with open_system([spec]) as system:
        rooms = system.directory.ref("rooms")
        for number in range(count):
            await rooms.spawn(Idle, id=str(number))
        memory = rss_bytes()
        begin = time.perf_counter()
        await system.shutdown()
        print(json.dumps({"rss_bytes": memory, "stop_s": time.perf_counter() - begin}))

import gc
gc.disable()
trio.run(main, int(sys.argv[1]))
"""


class Brief(TrioActor):
    def on_receive(self, message: object) -> object:
        return message


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


async def spawn_and_stop(rooms: DynamicSupervisorRef[DynamicSupervisor], times: int) -> None:
    for _ in range(times):
        ref = await rooms.spawn(Brief, id="brief")
        ref.stop(block=False)
        await ref.wait_stopped()


@pytest.mark.parametrize("times", [20_000, pytest.param(1_000_000, marks=pytest.mark.deep)])
def test_nothing_is_left_of_actors_that_were_made_and_ended(times: int) -> None:
    async def main() -> None:
        spec = ChildSpec(id="rooms", factory=lambda: DynamicSupervisor("room"), name="rooms")
        async with open_system([spec]) as system:
            rooms = system.directory.ref("rooms")
            assert isinstance(rooms, DynamicSupervisorRef)
            await spawn_and_stop(rooms, 2_000)  # fills what is filled once: caches, pools, the ring of reports
            gc.collect()
            objects, memory = len(gc.get_objects()), rss_bytes()
            await spawn_and_stop(rooms, times)
            gc.collect()
            assert len(gc.get_objects()) - objects < 200
            assert rss_bytes() - memory < 8 * 1024 * 1024
            assert rooms.count_children() == 0
            assert system.reports.recent() == ()

    trio.run(main)


@pytest.mark.alone
@pytest.mark.parametrize(
    "slack", [pytest.param(10, id="within-ten-times"), pytest.param(1, id="strict", marks=pytest.mark.deep)]
)
def test_fifty_thousand_idle_actors_are_small_and_stop_quickly(slack: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IDLE_PROGRAM, "50000"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rss_bytes"] < 300e6 * (1 if slack == 1 else 1.5)
    assert found["stop_s"] < 1.0 * slack
