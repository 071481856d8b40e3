"""When full collections are done, what is told of them, and that none of it happens to somebody else's program."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import trio

from skill_actors.runtime import ChildSpec, open_system
from skill_actors.sessions.manager import SessionManager
from skill_actors.telemetry import Bus
from skilld.garbage import FULL_MAX_S, FULL_MIN_S, GarbageKeeper, Load, is_full_due
from skilld.slot import Slot
from support import run, run_virtual
from tree_kit import open_tree

if TYPE_CHECKING:
    from skilld.parts import Parts


@pytest.mark.parametrize(
    ("load", "due"),
    [
        (Load(since_s=FULL_MIN_S, turns=0, lag_s=0.0, younger=1), True),
        (Load(since_s=FULL_MIN_S - 1, turns=0, lag_s=0.0, younger=1), False),
        (Load(since_s=FULL_MIN_S, turns=1, lag_s=0.0, younger=1), False),
        (Load(since_s=FULL_MIN_S, turns=0, lag_s=0.02, younger=1), False),
        (Load(since_s=FULL_MAX_S, turns=32, lag_s=1.0, younger=1), True),
        (Load(since_s=FULL_MAX_S, turns=0, lag_s=0.0, younger=0), False),
    ],
)
def test_a_full_collection_waits_for_a_quiet_moment_but_not_for_ever(load: Load, due: bool) -> None:
    assert is_full_due(load) is due


def test_every_collection_is_told_with_its_generation_and_the_hook_goes_with_the_tree(tmp_path: Path) -> None:
    async def main() -> None:
        before = list(gc.callbacks)
        async with open_tree(tmp_path) as tree:
            told: dict[object, float] = {}
            began_s = time.perf_counter()
            both = trio.Event()

            def note(_name: str, facts: object, meta: object) -> None:
                assert isinstance(facts, dict)
                assert isinstance(meta, dict)
                told[meta["generation"]] = facts["duration"]
                if {1, 2} <= told.keys():
                    both.set()

            tree.parts.bus.attach("test", ["gc.pause"], note)
            gc.collect(1)
            gc.collect()
            with trio.fail_after(20):
                await both.wait()
            gone_s = time.perf_counter() - began_s
            assert all(0 < pause_s < gone_s for pause_s in told.values())
            async with tree.http() as http:
                page = (await http.get("/metrics")).text
            assert 'skilld_gc_pause_seconds_count{generation="2"}' in page
            assert gc.callbacks != before
            await tree.kill("GarbageKeeper")
            assert len(gc.callbacks) == len(before) + 1
        assert gc.callbacks == before

    run(main)


def test_a_full_collection_is_done_when_it_is_due_and_not_before() -> None:
    async def main() -> None:
        bus, slot = Bus(), Slot[SessionManager]("the session manager")
        full: list[float] = []

        def note(_name: str, _facts: object, meta: Mapping[str, object]) -> None:
            if meta["generation"] == 2:
                full.append(trio.current_time() - began)

        bus.attach("test", ["gc.pause"], note)
        parts = cast("Parts", SimpleNamespace(bus=bus, sessions=slot))  # all that it looks at
        began = trio.current_time()
        async with open_system([ChildSpec(id="gc", factory=lambda: GarbageKeeper(parts))]):
            gc.collect(1)  # so that there may be something to find
            await trio.sleep(FULL_MIN_S - 1)
            assert full == []
            gc.collect(1)
            await trio.sleep(3)
        assert [round(time_s) for time_s in full] in ([60], [61])

    thresholds = gc.get_threshold()
    gc.set_threshold(700, 10, 1000)  # as the daemon has them: no full collection but its own
    try:
        run_virtual(main)
    finally:
        gc.set_threshold(*thresholds)


def test_the_daemon_freezes_what_its_start_made_and_switches_threads_often(tmp_path: Path) -> None:
    code = """
import gc, os, signal, sys
from skilld.__main__ import main
from skilld.notify import Notifier

def ready(self, text):
    assert gc.isenabled()
    print(gc.get_freeze_count() > 10_000, gc.get_threshold(), sys.getswitchinterval(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

Notifier.ready = ready
sys.exit(main(sys.argv[1:]))
"""
    places = [f"--socket={tmp_path / 's'}", f"--state-dir={tmp_path / 'state'}", f"--config={tmp_path / 'c.toml'}"]
    (tmp_path / "c.toml").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", code, *places], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("True (700, 10, 1000) 0.0005\n", 0), done.stderr


def test_a_system_in_somebody_elses_program_changes_nothing_process_wide() -> None:
    code = """
import faulthandler, gc, signal, sys, threading, trio
from skill_actors.runtime import ChildSpec, ThreadActor, TrioActor, open_system

def state():
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGABRT)]
    return (gc.isenabled(), gc.get_threshold(), list(gc.callbacks), gc.get_freeze_count(), sys.getswitchinterval(),
            handlers, faulthandler.is_enabled(), sys.excepthook, threading.excepthook, sys.unraisablehook)

async def main():
    before = state()
    specs = [ChildSpec(id="a", factory=TrioActor), ChildSpec(id="b", factory=ThreadActor)]
    async with open_system(specs):
        assert state() == before, (before, state())
    assert state() == before

trio.run(main)
print("same")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("same\n", 0), done.stderr
