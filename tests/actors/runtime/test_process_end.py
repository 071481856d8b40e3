"""ProcessActor: how processes die, are killed, and end with their actor and with the daemon."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from proc_kit import lives, parent_of
from process_kit import HERE, Bench, ask, bench, is_busy, pid_of, within, worker_of
from skill_actors.runtime import (
    ActorDeadError,
    Perform,
    ProcessActor,
    TrioActorRef,
    WorkerBroken,
    WorkerEnded,
    WorkerError,
    WorkerKilled,
    WorkerLimits,
    WorkerTimeout,
)
from skill_actors.runtime.worker import ASK, CHUNK, HEADER, RESULT, frame
from support import run

GONE_S = 20.0  # for what must happen, however slow the machine


async def see_dead(pid: int) -> None:
    with trio.fail_after(GONE_S):
        while lives(pid):  # noqa: ASYNC110  # the kernel tells nobody
            await trio.sleep(0.005)


# Dying


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("exit 0", "ended with exit code 0 while it worked on a request"),
        ("sys.exit", "ended with exit code 3 while it worked on a request; its stderr ends with:\nleaving"),
        ("kill", "was killed by SIGKILL while it worked"),
        ("segv", "was killed by SIGSEGV while it worked"),
        ("abort", "was killed by SIGABRT while it worked"),
        ("close", "it closed its link"),
    ],
)
def test_the_end_of_the_process_is_a_crash_that_names_its_cause(request_: str, words: str) -> None:
    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        pid = pid_of(ref)
        with pytest.raises(WorkerEnded, match=words) as caught:
            await ask(ref, request_)
        assert f"worker 'die' (pid {pid})" in str(caught.value)
        reason = await ref.wait_stopped()
        assert reason.abnormal
        assert words in str(reason.error)
        assert len(made.told) == 1
        assert not lives(pid)

    within("die", use)


MORE = b'"' + b"x" * (64 << 10) + b'"'  # than is read at once


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ([frame(RESULT, 1, b'"last"')], None),
        ([], "ended with exit code 0"),
        ([frame(CHUNK, 1, MORE), frame(RESULT, 1, b'"last"')[:-1]], "left half a frame of"),
    ],
)
def test_what_it_said_is_read_though_it_ended_while_its_output_was_taken(then: list[bytes], words: str | None) -> None:
    said = b"".join([frame(CHUNK, 1, b'"first"'), frame(CHUNK, 1, MORE), *then])

    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        async def take(_value: Any) -> None:
            while worker_of(ref) is not None:  # noqa: ASYNC110  # the actor tells nobody
                await trio.sleep(0.005)

        asked = ask(ref, {"hex": said.hex(), "then": "exit"}, emit=take)
        if words is None:
            assert await asked == "last"
        else:
            with pytest.raises(WorkerEnded, match=words):
                await asked
        assert (await ref.wait_stopped()).abnormal

    within("forge", use)


def test_one_that_was_killed_while_its_output_was_taken_takes_no_other_along() -> None:
    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        first = pid_of(ref)

        async def take(_value: Any) -> None:
            while worker_of(ref) in (None, first):  # noqa: ASYNC110  # the actor tells nobody
                await trio.sleep(0.005)

        with pytest.raises(WorkerKilled, match="printed more"):
            await ask(ref, "flood", emit=take)
        second = pid_of(ref)
        assert [await ask(ref, "who") for _ in range(3)] == [second] * 3
        assert made.told == ["flood"]

    within("say_and_flood", use, max_output_bytes=4 << 20)


def test_one_that_is_lost_with_its_keeper_is_no_riddle_where_a_child_of_it_holds_the_link(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        assert await ask(ref, {"then": "answer", "file": str(file)}) == "answered"
        keeper = parent_of(pid_of(ref))

        async def wait() -> None:
            with pytest.raises(WorkerEnded, match="is lost with its keeper"):
                await ask(ref, {"then": "wait"}, timeout_s=None)

        with trio.fail_after(GONE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                while not is_busy(ref):  # noqa: ASYNC110  # the actor tells nobody
                    await trio.sleep(0.005)
                os.kill(keeper, signal.SIGKILL)

    try:
        within("family", use)
    finally:
        os.kill(int(file.read_text()), signal.SIGKILL)


def test_what_it_printed_is_in_no_report_where_it_may_be_secret() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        with pytest.raises(WorkerEnded) as caught:
            await ask(ref, "sys.exit")
        assert str(caught.value).endswith("ended with exit code 3 while it worked on a request")

    within("die", use, keep_stderr=False)


def test_a_copy_that_the_target_forked_answers_nothing() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        for number in range(4):
            assert await ask(ref, number) == number

    within("fork_and_echo", use)


def test_an_idle_process_that_is_killed_is_a_crash() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        os.kill(pid_of(ref), signal.SIGKILL)
        reason = await ref.wait_stopped()
        assert "was killed by SIGKILL" in str(reason.error)
        assert "while" not in str(reason.error)
        with pytest.raises(ActorDeadError):
            await ask(ref)

    within("echo", use)


def test_a_keeper_that_is_killed_takes_its_worker_along() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        found = await ask(ref)
        os.kill(found["keeper"], signal.SIGKILL)
        reason = await ref.wait_stopped()
        assert "is lost with its keeper" in str(reason.error)
        await see_dead(found["pid"])

    within("facts", use)


@pytest.mark.parametrize(
    ("data", "then", "words"),
    [
        (frame(RESULT, 1, b'"x')[:-1], "exit", "left half a frame"),
        (HEADER.pack(1 << 31, RESULT, 1), "wait", "announces 2147483648 bytes"),
        (b"\xff" * 64, "wait", "breaks the protocol"),
        (frame(99, 1), "wait", "unknown kind 99"),
        (frame(RESULT, 7, b"1"), "wait", "answered request 7 when it had number 1"),
        (frame(RESULT, 1, b"{no json"), "wait", "cannot be read"),
        (frame(RESULT, 1, b"\xff\xfe"), "wait", "cannot be read"),
        (frame(CHUNK, 1, b"[" * 100_000), "wait", "cannot be read"),
        (frame(21, 1, b"[]"), "wait", "cannot be read"),
    ],
)
def test_what_is_not_the_protocol_is_a_crash(data: bytes, then: str, words: str) -> None:
    async def ignore(_value: Any) -> None:
        pass

    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        pid = pid_of(ref)
        with pytest.raises(WorkerBroken, match=words):
            await ask(ref, {"hex": data.hex(), "then": then}, emit=ignore)
        assert (await ref.wait_stopped()).abnormal
        assert not lives(pid)
        assert made.told in (["broken"], ["crashed"])

    within("forge", use)


@pytest.mark.parametrize("data", [frame(kind, 1, b'"' + b"x" * 4_096 + b'"') for kind in (RESULT, CHUNK, ASK)])
def test_json_beyond_its_limit_is_not_even_read(data: bytes) -> None:
    async def ignore(_value: Any) -> None:
        pass

    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        with pytest.raises(WorkerBroken, match="4098 bytes of JSON; the limit is 4096"):
            await ask(ref, {"hex": data.hex(), "then": "wait"}, emit=ignore)

    within("forge", use, max_json_bytes=4_096)


def test_an_error_that_is_too_long_is_not_even_read() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        with pytest.raises(WorkerBroken, match="an error of 150000 bytes"):
            await ask(ref, {"hex": frame(21, 1, b"x" * 150_000).hex(), "then": "wait"})

    within("forge", use)


def test_json_may_have_a_limit_of_its_own() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        with pytest.raises(WorkerError, match="over the limit of 4096"):
            await ask(ref, "x" * 5_000)
        assert await ask(ref, b"x" * 5_000) == b"x" * 5_000
        assert await ask(ref, "x" * 4_000) == "x" * 4_000

    within("echo", use, max_json_bytes=4_096)


# Killed by us


@pytest.mark.parametrize("target", ["spin", "block_in_c", "ignore_term"])
def test_a_deadline_kills_the_process_and_another_takes_its_place(target: str) -> None:
    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        for _ in range(2):
            pid, began = pid_of(ref), trio.current_time()
            with pytest.raises(WorkerTimeout, match=rf"worker '{target}' \(pid {pid}\) .* longer than 0.2 s"):
                await ask(ref, timeout_s=0.2)
            assert 0.2 <= trio.current_time() - began < 5
            assert not lives(pid)
            with trio.fail_after(GONE_S):
                while (actor := ref._actor_weakref()) is None or actor.pid in (None, pid):  # noqa: ASYNC110
                    await trio.sleep(0.005)
            assert ref.is_alive()
        assert made.told == ["timeout"] * 2

    within(target, use, grace_s=0.1)


def test_a_kill_begins_with_sigterm_and_waits_no_longer_than_needed(tmp_path: Path) -> None:
    file = tmp_path / "left"

    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        assert await ask(ref, str(file)) == "ready"
        began = trio.current_time()
        with pytest.raises(WorkerTimeout):
            await ask(ref, None, timeout_s=0.2)
        assert file.read_text() == "tidied"
        assert trio.current_time() - began < 15

    within("tidy", use, grace_s=20)


def test_requests_behind_a_killed_one_are_served_by_the_next_process() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        async def late() -> None:
            with pytest.raises(WorkerTimeout):
                await ask(ref, 60, timeout_s=0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(late)
            await trio.testing.wait_all_tasks_blocked()
            assert await ask(ref, 0) == 0

    within("nap", use)


def test_a_caller_that_goes_away_kills_the_process() -> None:
    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        pid = pid_of(ref)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, ref, None, None)
            await trio.testing.wait_all_tasks_blocked()  # it has the request
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        await see_dead(pid)
        with pytest.raises(WorkerTimeout):
            await ask(ref, timeout_s=0.1)
        assert made.told == ["cancelled", "timeout"]

    within("spin", use)


def test_a_request_that_says_so_outlives_its_caller() -> None:
    class Patient(Perform):
        cancel_with_caller = False

    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        pid = pid_of(ref)
        with trio.move_on_after(0.05):
            await ref.call(Patient(request="stay", timeout_s=10), timeout=None)
        assert await ask(ref, "leave") == "left"
        assert pid_of(ref) == pid

    within("late_emit", use)


def test_a_flood_is_killed_and_a_large_output_is_not() -> None:
    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        for _ in range(3):
            assert await ask(ref, 3 << 20) == "all written"
        with pytest.raises(WorkerKilled, match="printed more than 4194304 bytes"):
            await ask(ref, 1 << 40)
        assert await ask(ref, 1 << 20) == "all written"
        assert made.told == ["flood"]

    within("flood", use, max_output_bytes=4 << 20)


def test_a_leak_ends_at_the_limit_and_costs_the_process_only() -> None:
    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        pid = pid_of(ref)
        with pytest.raises(WorkerKilled, match="more memory than it may have"):
            await ask(ref)
        assert not lives(pid)
        assert ref.is_alive()
        assert made.told == ["memory"]

    within("leak", use, limits=WorkerLimits(memory_bytes=256 << 20))


def test_descriptors_end_at_the_limit() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        with pytest.raises(WorkerError, match=r"OSError: .*Too many open files"):
            await ask(ref)

    within("slow_leak_of_descriptors", use, limits=WorkerLimits(open_files=32))


def test_processor_time_is_an_allowance_of_each_request() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        with pytest.raises(WorkerEnded, match="SIGXCPU"):
            await ask(ref)

    within("spin", use, limits=WorkerLimits(cpu_s=0))


@pytest.mark.parametrize("then", ["exit", "wait", "answer"])
def test_nothing_that_a_worker_started_outlives_it(tmp_path: Path, then: str) -> None:
    async def main() -> None:
        file = tmp_path / "pid"
        async with bench() as made:
            ref = await made.start("family")
            request = {"file": str(file), "then": then}
            if then == "answer":
                assert await ask(ref, request) == "answered"
                assert lives(int(file.read_text()))
            elif then == "wait":
                assert await ask(ref, request | {"then": "answer"}) == "answered"
                with pytest.raises(WorkerTimeout):
                    await ask(ref, request, timeout_s=0.2)
                assert not lives(int(file.read_text()))
            else:
                with pytest.raises(WorkerEnded):
                    await ask(ref, request)
                assert not lives(int(file.read_text()))
        assert not lives(int(file.read_text()))

    run(main)


# The end of the actor, and of the daemon


@pytest.mark.parametrize("target", ["echo", "spin", "ignore_term"])
@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_the_end_of_the_actor_is_the_end_of_the_process(target: str, how: str) -> None:
    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        async def busy() -> None:
            with contextlib.suppress(ActorDeadError):
                await ask(ref, timeout_s=None)

        pid = pid_of(ref)
        async with trio.open_nursery() as nursery:
            if target != "echo":
                nursery.start_soon(busy)
            await trio.testing.wait_all_tasks_blocked(0.02)
            if how == "terminate":
                await made.supervisor.terminate_child(target)
            else:
                ref._cell.kill()
                await ref.wait_stopped()
        assert not lives(pid)
        assert ref._cell.mailbox.closed

    within(target, use, grace_s=0.1)


def test_a_daemon_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import sys, trio
        sys.path[:0] = [{str(HERE)!r}]
        import process_kit as t

        async def main():
            async with t.bench() as made:
                spinning = await made.start("spin")
                blocked = await made.start("block_in_c")
                family = await made.start("family")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(t.ask, spinning, None, None)
                    nursery.start_soon(t.ask, blocked, None, None)
                    await t.ask(family, {{"file": {str(tmp_path / "pid")!r}, "then": "answer"}})
                    print(*t.descendants(), flush=True)
                    await trio.sleep_forever()

        trio.run(main)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    assert len(pids) == 7, "three keepers, three workers, a child of a worker"
    deadline = time.monotonic() + GONE_S
    while left := [pid for pid in pids if lives(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def test_no_descriptor_is_left_after_many_lives() -> None:
    async def main() -> None:
        async with bench() as made:
            before = len(os.listdir("/proc/self/fd"))
            for number in range(5):
                ref = await made.start("spin", name=f"spin{number}")
                with pytest.raises(WorkerTimeout):
                    await ask(ref, timeout_s=0.01)
                await made.supervisor.terminate_child(f"spin{number}")
            assert len(os.listdir("/proc/self/fd")) <= before

    run(main)
