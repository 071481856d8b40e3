"""The watchdog's decisions, tick by tick, and the thread that acts on them."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from skill_actors.runtime import ChildSpec, open_system
from skill_actors.telemetry import Bus
from skilld.config import DaemonConfig
from skilld.watchdog import Limits, Pulse, Stage, Step, Vigil, Watchdog, limits_of, stacks
from support import run

LIMITS = Limits(tick_s=1.0, dump_s=5.0, exit_s=30.0, round_trip_s=15.0, rebuild_s=150.0)


class Loop:
    """Ticks a vigil; the loop beats and answers round trips unless it is told otherwise."""

    def __init__(self, stage: Stage = Stage.SERVING) -> None:
        self.vigil = Vigil(LIMITS)
        self.pulse = Pulse(stage=stage)
        self.steps: list[Step] = []

    def tick(self, times: int = 1, *, beats: bool = True, answers: bool = True) -> list[Step]:
        self.steps = []
        for _ in range(times):
            self.pulse.beats += beats
            self.pulse.round_trips += answers
            self.steps.append(self.vigil.tick(self.pulse))
        return self.steps


def test_a_loop_that_beats_leads_to_nothing() -> None:
    loop = Loop()
    assert set(loop.tick(1000)) == {Step.NOTHING}
    assert loop.vigil.is_well()


def test_a_stall_is_dumped_once_at_its_limit_and_noted_when_it_is_over() -> None:
    loop = Loop()
    loop.tick(3)
    assert loop.tick(12, beats=False) == [*[Step.NOTHING] * 4, Step.DUMP, *[Step.NOTHING] * 7]
    assert loop.tick(3) == [Step.RECOVERED, Step.NOTHING, Step.NOTHING]
    assert loop.vigil.stall_s == 12
    assert loop.tick(5, beats=False)[-1] is Step.DUMP, "the next stall is another one"


def test_short_stalls_do_not_add_up() -> None:
    loop = Loop()
    for _ in range(20):
        assert set(loop.tick(4, beats=False)) == {Step.NOTHING}
        assert loop.tick() == [Step.NOTHING]


def test_a_stall_that_goes_on_ends_the_process_also_before_the_first_beat_and_while_it_stops() -> None:
    for stage in Stage:
        loop = Loop(stage)
        assert loop.tick(31, beats=False)[-1] is Step.EXIT
        loop.tick(2)
        assert loop.tick(30, beats=False)[-1] is Step.EXIT
        assert loop.steps.count(Step.EXIT) == 1


def test_a_process_that_was_stopped_for_long_has_missed_no_tick() -> None:
    """Whatever the clocks say: between two ticks there is one tick."""
    loop = Loop()
    loop.tick(3)
    assert loop.tick(1, beats=False) == [Step.NOTHING]  # SIGCONT: the thread was first
    assert loop.tick() == [Step.NOTHING]


def test_the_manager_is_not_fed_while_the_loop_hangs() -> None:
    loop = Loop()
    loop.tick(2)
    loop.tick(5, beats=False)
    assert not loop.vigil.is_well()
    loop.tick()
    assert loop.vigil.is_well()


def test_a_beat_alone_is_not_enough_while_it_serves() -> None:
    loop = Loop()
    loop.tick()
    loop.tick(14, answers=False)
    assert loop.vigil.is_well()
    assert loop.tick(answers=False) == [Step.NOTHING], "a loop that turns is not killed by the watchdog itself"
    assert not loop.vigil.is_well()
    loop.tick()
    assert loop.vigil.is_well()


@pytest.mark.parametrize("stage", [Stage.STARTING, Stage.STOPPING])
def test_a_beat_is_enough_while_it_starts_and_stops(stage: Stage) -> None:
    loop = Loop(stage)
    loop.tick(1000, answers=False)
    assert loop.vigil.is_well()


def test_serving_begins_with_a_fresh_round_trip_and_rebuilding_has_an_end() -> None:
    loop = Loop(Stage.STARTING)
    loop.tick(100, answers=False)
    loop.pulse.stage = Stage.SERVING
    loop.tick(answers=False)
    assert loop.vigil.is_well()
    loop.pulse.stage = Stage.REBUILDING
    loop.tick(150, answers=False)
    assert loop.vigil.is_well()
    loop.tick(answers=False)
    assert not loop.vigil.is_well()


@pytest.mark.parametrize("interval_s", [None, 0.5, 2.0, 30.0, 3600.0])
def test_the_limits_fit_the_configuration_and_the_managers_patience(interval_s: float | None) -> None:
    limits = limits_of(DaemonConfig(), interval_s)
    assert limits.tick_s <= 1
    assert (limits.dump_s, limits.exit_s) == (5, 30)
    assert limits.round_trip_s > 2 * limits.tick_s
    assert interval_s is None or limits.round_trip_s + limits.tick_s < interval_s


def test_the_stacks_name_the_function_of_another_thread() -> None:
    inside, leave = threading.Event(), threading.Event()

    def wait_in_a_function_with_a_name() -> None:
        inside.set()
        leave.wait(30)

    thread = threading.Thread(target=wait_in_a_function_with_a_name)
    thread.start()
    try:
        assert inside.wait(10)
        assert "wait_in_a_function_with_a_name" in stacks()
    finally:
        leave.set()
        thread.join()


class Notes:
    """Stands in for the notifier's socket."""

    def __init__(self, *, active: bool) -> None:
        self.active = active
        self.fed, self.extended = 0, 0

    def watchdog(self) -> None:
        self.fed += 1

    def extend_timeout(self, _seconds: float) -> None:
        self.extended += 1


def parts_for(stage: Stage, *, environ: dict[str, str] | None = None, exit_s: float = 30.0) -> Any:
    daemon = DaemonConfig(stall_dump_s=0.5, stall_exit_s=exit_s)
    return SimpleNamespace(
        config=SimpleNamespace(daemon=daemon),
        environ=environ or {},
        notifier=Notes(active=environ is not None),
        bus=Bus(),
        pulse=Pulse(),
        stage=lambda: stage,
    )


def live(status: int) -> None:
    """In place of the end of a process that has no reason to end."""
    raise AssertionError(f"ended with {status}")


def hog(until: threading.Event) -> None:
    """Hold the trio thread."""
    assert until.wait(30)


def test_a_loop_that_is_held_is_dumped_and_counted_when_it_answers_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    parts = parts_for(Stage.SERVING)
    stalls: list[float] = []
    held = threading.Event()

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "all threads" in record.getMessage():
                held.set()

    async def main() -> None:
        counted = trio.Event()

        def count(_name: str, facts: Any, _meta: Any) -> None:
            stalls.append(facts["duration"])
            counted.set()

        parts.bus.attach("test", ["loop.stall"], count)
        async with open_system([ChildSpec(id="watchdog", factory=lambda: Watchdog(parts, live))]):
            hog(held)
            await counted.wait()

    handler = Said()
    logging.getLogger("skilld.watchdog").addHandler(handler)
    try:
        run(main)
    finally:
        logging.getLogger("skilld.watchdog").removeHandler(handler)
    assert "in hog" in caplog.text
    assert "answers again" in caplog.text
    assert len(stalls) == 1
    assert stalls[0] >= 0.5


def test_a_loop_that_stays_held_ends_the_process_with_70(caplog: pytest.LogCaptureFixture) -> None:
    died = threading.Event()
    statuses: list[int] = []

    def die(status: int) -> None:
        statuses.append(status)
        died.set()

    async def main() -> None:
        parts = parts_for(Stage.STARTING, exit_s=1.0)
        async with open_system([ChildSpec(id="watchdog", factory=lambda: Watchdog(parts, die))]):
            hog(died)

    run(main)
    assert statuses[0] == 70
    assert "ending the process" in caplog.text


def test_a_log_that_blocks_does_not_keep_the_process_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilld.watchdog._LAST_WORDS_S", 0.05)
    died, log = threading.Event(), threading.Lock()

    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with log:
                pass

    async def main() -> None:
        parts = parts_for(Stage.SERVING, exit_s=1.0)
        async with open_system([ChildSpec(id="watchdog", factory=lambda: Watchdog(parts, lambda _: died.set()))]):
            with log:
                hog(died)

    handler = Stuck()
    logging.getLogger("skilld.watchdog").addHandler(handler)
    try:
        run(main)
    finally:
        logging.getLogger("skilld.watchdog").removeHandler(handler)


@pytest.mark.parametrize(("stage", "extends"), [(Stage.STARTING, True), (Stage.SERVING, False), (Stage.STOPPING, True)])
def test_the_manager_is_fed_and_asked_for_time_only_where_that_is_needed(stage: Stage, extends: bool) -> None:
    async def main() -> None:
        parts = parts_for(stage, environ={"WATCHDOG_USEC": "500000"})
        parts.pulse.stage = stage
        async with open_system([ChildSpec(id="watchdog", factory=lambda: Watchdog(parts, live))]):
            while parts.notifier.fed < 5:  # what another thread counts
                parts.pulse.round_trips += 1
                await trio.sleep(0.01)
        assert (parts.notifier.extended > 0) is extends

    run(main)


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}])
def test_a_manager_that_did_not_ask_is_not_fed(environ: dict[str, str]) -> None:
    async def main() -> None:
        parts = parts_for(Stage.STARTING, environ=environ)
        async with open_system([ChildSpec(id="watchdog", factory=lambda: Watchdog(parts, live))]):
            while parts.pulse.beats < 5:  # noqa: ASYNC110  # what another thread asks for
                await trio.sleep(0.01)
        assert (parts.notifier.fed, parts.notifier.extended) == (0, 0)

    run(main)


def test_the_configuration_refuses_an_end_before_the_dump(tmp_path: Path) -> None:
    from skilld.config import ConfigError, load_config

    file = tmp_path / "skilld.toml"
    file.write_text("[daemon]\nstall_dump_s = 40\n")
    with pytest.raises(ConfigError, match=r"daemon.stall_exit_s.*must be more than daemon.stall_dump_s"):
        load_config(file, {})


def test_no_thread_and_no_descriptor_left_do_not_keep_the_process_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    died = threading.Event()

    def none_left(*_: object) -> Any:
        raise OSError(24, "Too many open files")

    def no_threads(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        parts = parts_for(Stage.SERVING, exit_s=1.0)
        async with open_system([ChildSpec(id="watchdog", factory=lambda: Watchdog(parts, lambda _: died.set()))]):
            monkeypatch.setattr("os.memfd_create", none_left)
            monkeypatch.setattr("threading.Thread.start", no_threads)
            hog(died)
            monkeypatch.undo()

    run(main)
    assert died.is_set()
