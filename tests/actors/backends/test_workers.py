"""Workers: worker processes by name, for executors."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio

import worker_targets
from skill_actors.backends import BackendUnavailable, Host, Workers, WorkersRef, failed_result
from skill_actors.runtime import (
    Backoff,
    ChildSpec,
    Poison,
    RequestRefused,
    WorkerEnded,
    WorkerError,
    WorkerKilled,
    WorkerSpec,
    WorkerTimeout,
    open_system,
)
from skill_actors.telemetry import Bus
from support import run

HERE = Path(worker_targets.__file__).parent


def spec_of(target: str, name: str = "w") -> WorkerSpec:
    return WorkerSpec(name=name, target=f"worker_targets:{target}", paths=[HERE], grace_s=0.05)


@asynccontextmanager
async def open_host(bus: Bus | None = None, **options: Any) -> AsyncIterator[Host]:
    """A process that offers workers."""
    spec = ChildSpec(id="workers", name="workers", factory=lambda: Workers(bus, **options), isolated=True)
    async with open_system([spec]) as system:
        yield Host(find_workers=lambda: cast("WorkersRef", system.directory.ref("workers")))


def test_a_worker_is_made_when_first_asked_and_kept_warm_until_released() -> None:
    async def main() -> None:
        async with open_host() as host:
            workers, spec = host.workers, spec_of("counter")
            assert workers.count_children() == 0
            assert [await workers.perform(spec, None, timeout_s=20) for _ in range(3)] == [1, 2, 3]
            assert workers.count_children() == 1
            await workers.release("w")
            await workers.release("w")
            assert workers.count_children() == 0
            assert await workers.perform(spec, None, timeout_s=20) == 1

    run(main)


def test_one_of_many_first_askers_makes_the_worker() -> None:
    async def main() -> None:
        async with open_host() as host:
            answers: list[Any] = []

            async def one() -> None:
                answers.append(await host.workers.perform(spec_of("counter"), None, timeout_s=20))

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(one)
            assert sorted(answers) == list(range(1, 21))

    run(main)


def test_a_dead_worker_is_made_again_and_its_error_reaches_the_asker() -> None:
    async def main() -> None:
        ends: list[Mapping[str, object]] = []
        bus = Bus()
        bus.attach("t", ["worker.end"], lambda _name, _facts, meta: ends.append(meta))
        async with open_host(bus, poison=Poison(backoff=Backoff(initial_s=0.01, max_s=0.01))) as host:
            for _ in range(3):
                with pytest.raises(WorkerEnded, match="SIGKILL"):
                    await host.workers.perform(spec_of("die"), "kill", timeout_s=20)
            assert await host.workers.perform(spec_of("die"), "live", timeout_s=20) == "alive"
        assert ends == [{"reason": "crashed"}] * 3

    run(main)


def test_a_worker_that_keeps_dying_is_refused_for_a_while_and_others_are_not() -> None:
    async def main() -> None:
        poison = Poison(max_deaths=3, period_s=600, backoff=Backoff(initial_s=0.001, max_s=0.001))
        async with open_host(poison=poison) as host:
            for _ in range(3):
                with pytest.raises(WorkerEnded):
                    await host.workers.perform(spec_of("die"), "kill", timeout_s=20)
            with pytest.raises(BackendUnavailable, match="'w' died 3 times within 600 s and is not started"):
                await host.workers.perform(spec_of("die"), "live", timeout_s=20)
            assert await host.workers.perform(spec_of("echo", "other"), 1, timeout_s=20) == 1
            poison.forget("w")
            assert await host.workers.perform(spec_of("die"), "live", timeout_s=20) == "alive"

    run(main)


def test_a_worker_that_cannot_start_is_a_death_too() -> None:
    async def main() -> None:
        poison = Poison(max_deaths=2, backoff=Backoff(initial_s=0.001, max_s=0.001))
        async with open_host(poison=poison) as host:
            for words in ("no attribute 'missing'", "no attribute 'missing'", "died 2 times"):
                with pytest.raises(BackendUnavailable, match=words):
                    await host.workers.perform(spec_of("missing"), None, timeout_s=20)

    run(main)


def test_kills_for_a_deadline_are_no_deaths() -> None:
    async def main() -> None:
        async with open_host(poison=Poison(max_deaths=2)) as host:
            for _ in range(4):
                with pytest.raises(WorkerTimeout):
                    await host.workers.perform(spec_of("spin"), None, timeout_s=0.05)

    run(main)


@pytest.mark.alone
def test_a_caller_that_goes_away_kills_the_worker_and_nobody_else_suffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skill_actors.backends.workers._SLACK_S", 20.0)  # for the first one's start

    async def main() -> None:
        ends: list[object] = []
        bus = Bus()
        bus.attach("t", ["worker.end"], lambda _name, _facts, meta: ends.append(meta["reason"]))
        async with open_host(bus) as host:
            assert await host.workers.perform(spec_of("echo", "other"), 1, timeout_s=20) == 1
            with pytest.raises(WorkerTimeout):  # it is warm now
                await host.workers.perform(spec_of("ignore_term"), None, timeout_s=0.01)
            with trio.CancelScope() as leaving:

                async def leave(_piece: object) -> None:
                    leaving.cancel()  # it is at work

                await host.workers.perform(spec_of("ignore_term"), None, timeout_s=None, emit=leave)
            assert leaving.cancelled_caught
            with trio.fail_after(20):
                while len(ends) < 2:  # noqa: ASYNC110  # the kill goes on after its caller has left
                    await trio.sleep(0.005)
            assert ends == ["timeout", "cancelled"]
            assert await host.workers.perform(spec_of("echo", "other"), 2, timeout_s=20) == 2

    run(main)


def test_the_time_limit_covers_the_wait_for_other_requests() -> None:
    async def main() -> None:
        async with open_host() as host, trio.open_nursery() as nursery:
            spec = spec_of("spin")

            async def hog() -> None:
                with pytest.raises(WorkerTimeout):
                    await host.workers.perform(spec, None, timeout_s=4)

            nursery.start_soon(hog)
            with trio.fail_after(10):
                while host.workers.child("w") is None:  # noqa: ASYNC110  # a real process starts
                    await trio.sleep(0.005)
            began = trio.current_time()
            with pytest.raises(WorkerTimeout):
                await host.workers.perform(spec, None, timeout_s=0.1)
            assert trio.current_time() - began < 3.5

    run(main)


def test_one_name_stands_for_one_spec() -> None:
    async def main() -> None:
        async with open_host() as host:
            await host.workers.perform(spec_of("echo"), 1, timeout_s=20)
            with pytest.raises(ValueError, match="another spec"):
                await host.workers.perform(spec_of("counter"), 1, timeout_s=20)

    run(main)


def test_there_are_no_more_workers_than_allowed() -> None:
    async def main() -> None:
        async with open_host(max_workers=1) as host:
            await host.workers.perform(spec_of("echo", "a"), 1, timeout_s=20)
            with pytest.raises(BackendUnavailable, match="has its 1 children already"):
                await host.workers.perform(spec_of("echo", "b"), 1, timeout_s=20)

    run(main)


def test_a_host_without_workers_says_so() -> None:
    with pytest.raises(BackendUnavailable, match="no worker processes are offered here"):
        _ = Host().workers


def test_workers_come_back_after_their_supervisor_died() -> None:
    async def main() -> None:
        async with open_host() as host:
            pid = cast("dict[str, int]", await host.workers.perform(spec_of("facts"), None, timeout_s=20))["pid"]
            old = host.workers
            old._cell.kill()
            await old.wait_stopped()
            with pytest.raises(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with pytest.raises(BackendUnavailable, match="being started again"):
                _ = host.workers
            with trio.fail_after(10):
                while True:
                    try:
                        assert await host.workers.perform(spec_of("echo"), 1, timeout_s=20) == 1
                    except BackendUnavailable:
                        await trio.sleep(0.01)
                    else:
                        break

    run(main)


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (WorkerTimeout("timeout", "worker 'w' was killed: too long"), "timeout", "process was ended. worker 'w'"),
        (WorkerKilled("flood", "worker 'w' was killed: printed"), "error", "process was ended. worker 'w'"),
        (WorkerEnded("worker 'w' was killed by SIGSEGV"), "error", "by SIGSEGV"),
        (WorkerError("KeyError", "'x'", "..."), "error", "KeyError: 'x'"),
        (RequestRefused("too large"), "error", "too large"),
    ],
)
def test_what_the_model_is_told(error: Exception, outcome: str, words: str) -> None:
    result = failed_result(error, duration_ms=5)
    assert (result.outcome, result.duration_ms) == (outcome, 5)
    assert words in result.content
