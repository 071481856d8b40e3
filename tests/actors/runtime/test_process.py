"""ProcessActor: real processes that oblige, fail, and do their worst."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

import worker_targets
from skill_actors.runtime import (
    ActorDeadError,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    Perform,
    ProcessActor,
    Reject,
    RequestRefused,
    StartFailed,
    TrioActorRef,
    WorkerBroken,
    WorkerEnded,
    WorkerError,
    WorkerKilled,
    WorkerLimits,
    WorkerSpec,
    WorkerTimeout,
    open_system,
)
from skill_actors.runtime.worker import ASK, CHUNK, HEADER, RESULT, Frames, FrameTooLarge, decode, encode, frame
from support import run

HERE = Path(worker_targets.__file__).parent
GONE_S = 5.0


def spec_of(what: str, **changes: Any) -> WorkerSpec:
    values: dict[str, Any] = {"name": what, "target": f"worker_targets:{what}", "paths": [HERE]}
    return WorkerSpec(**values | changes)


@dataclass(slots=True)
class Bench:
    """A supervisor, and what the actors have told."""

    supervisor: DynamicSupervisorRef[DynamicSupervisor]
    told: list[str]

    async def start(self, what: str, **changes: Any) -> TrioActorRef[ProcessActor]:
        spec = spec_of(what, **changes)
        return await self.supervisor.spawn(lambda: ProcessActor(spec, self.told.append), id=spec.name)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Ends with no process left."""
    before = set(descendants())
    spec = ChildSpec(id="w", name="w", factory=lambda: DynamicSupervisor("worker", start_timeout_s=20))
    async with open_system([spec]) as system:
        yield Bench(cast("DynamicSupervisorRef[DynamicSupervisor]", system.directory.ref("w")), [])
    assert set(descendants()) <= before


async def ask(
    ref: TrioActorRef[Any], request: Any = None, timeout_s: float | None = 20, emit: Callable[[Any], Any] | None = None
) -> Any:
    return await ref.call(Perform(request=request, timeout_s=timeout_s, emit=emit), timeout=None)


def pid_of(ref: TrioActorRef[ProcessActor]) -> int:
    actor = ref._actor_weakref()
    assert actor is not None
    assert actor.pid is not None
    return actor.pid


def descendants() -> list[int]:
    """Processes below this one."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(name))
    found, parents = [], [os.getpid()]
    while parents:
        below = children.get(parents.pop(), [])
        found += below
        parents += below
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


async def see_dead(pid: int) -> None:
    with trio.fail_after(GONE_S):
        while lives(pid):  # noqa: ASYNC110  # the kernel tells nobody
            await trio.sleep(0.005)


def within(what: str, use: Callable[[Bench, TrioActorRef[ProcessActor]], Any], **changes: Any) -> None:
    """Run `use` with an actor for this target."""

    async def main() -> None:
        async with bench() as made:
            await use(made, await made.start(what, **changes))

    run(main)


# Obliging


@pytest.mark.parametrize("value", [None, 3, "text \u2713", {"a": [1, 2.5, {"b": None}]}, b"", b"\x00\xff" * 40_000])
def test_a_request_comes_back(value: Any) -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        assert await ask(ref, value) == value

    within("echo", use)


def test_a_worker_has_its_own_session_its_limits_and_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    monkeypatch.setenv("TZ", "UTC")

    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        found = await ask(ref)
        assert found["pid"] == found["group"] == found["session"] == pid_of(ref)
        assert found["keeper"] != os.getpid()
        allowed = {"LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "MINE"}
        assert set(found["environment"]) <= allowed
        assert (found["environment"]["MINE"], found["environment"]["TZ"]) == ("1", "UTC")
        assert (found["core"], found["files"], found["no_new_privs"]) == (0, 32, 1)
        assert (found["nice"], found["cwd"]) == (os.nice(0) + 7, "/tmp")
        assert found["path"][0] == str(HERE)
        assert not any("site-packages" in path for path in found["path"])

    changes = {"environment": {"MINE": "1"}, "limits": WorkerLimits(open_files=32), "nice": 7, "cwd": "/tmp"}
    within("facts", use, **changes)


def test_state_lives_as_long_as_the_process() -> None:
    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        assert [await ask(ref) for _ in range(3)] == [1, 2, 3]
        with pytest.raises(WorkerTimeout):
            await ask(ref, timeout_s=0)
        assert await ask(ref) == 1

    within("counter", use)


def test_output_comes_in_order_and_before_the_answer() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        seen: list[Any] = []

        async def emit(value: Any) -> None:
            await trio.lowlevel.checkpoint()
            seen.append(value)

        assert await ask(ref, 100, emit=emit) == "done"
        assert seen == [*({"number": number} for number in range(100)), b"\x00\xff"]

    within("chat", use)


def test_a_slow_reader_slows_the_worker_and_nothing_piles_up() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        seen = 0

        async def emit(value: Any) -> None:
            nonlocal seen
            seen += 1
            await trio.sleep_forever()

        with trio.move_on_after(0.3):
            await ask(ref, 1_000_000, emit=emit)
        assert seen == 1

    within("chat", use)


def test_a_reader_that_fails_costs_the_worker_its_life_and_not_the_actor() -> None:
    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        async def emit(value: Any) -> None:
            raise OSError("disk full")

        with pytest.raises(WorkerKilled, match="not taken: OSError"):
            await ask(ref, 3, emit=emit)
        assert await ask(ref, 0) == "done"
        assert made.told == ["unread"]

    within("chat", use)


def test_prints_are_no_part_of_the_protocol() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        for _turn in range(20):
            assert await ask(ref, "x" * 100_000) == 100_000

    within("print_and_answer", use)


def test_requests_are_served_one_at_a_time_in_order() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        counts: list[int] = []

        async def one() -> None:
            counts.append(await ask(ref))

        async with trio.open_nursery() as nursery:
            for _number in range(20):
                nursery.start_soon(one)
        assert counts == list(range(1, 21))

    within("counter", use)


def test_late_output_of_an_earlier_request_is_dropped() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        seen: list[Any] = []

        async def emit(value: Any) -> None:
            seen.append(value)

        assert await ask(ref, "leave", emit=emit) == "left"
        assert await ask(ref, "stay", emit=emit) == "next"
        assert seen == []

    within("late_emit", use)


# Failing


def test_an_exception_is_an_answer_and_the_process_goes_on() -> None:
    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        before = pid_of(ref)
        with pytest.raises(WorkerError, match="LookupError: nothing") as caught:
            await ask(ref)
        assert "worker_targets.py" in caught.value.trace
        assert (pid_of(ref), made.told) == (before, [])

    within("fail", use)


@pytest.mark.parametrize(
    ("what", "kind"),
    [("object", "TypeError"), ("nan", "ValueError"), ("surrogate", "UnicodeEncodeError"), ("large", "FrameTooLarge")],
)
def test_an_answer_that_cannot_be_sent_is_an_error(what: str, kind: str) -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        with pytest.raises(WorkerError, match=kind):
            await ask(ref, what)

    within("unsayable", use, max_frame_bytes=4_096)


@pytest.mark.parametrize("request_", [object(), float("inf"), "\udcff", b"x" * 5_000, "y" * 4_095])
def test_a_request_that_cannot_be_sent_is_refused(request_: Any) -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        with pytest.raises(RequestRefused, match="worker 'echo' was not sent"):
            await ask(ref, request_)
        assert await ask(ref, "fine") == "fine"

    within("echo", use, max_frame_bytes=4_096)


def test_a_foreign_message_is_refused() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        with pytest.raises(Reject, match="understands Perform, not str"):
            await ref.call(cast("Any", "hello"))

    within("echo", use)


# Starting


@pytest.mark.parametrize(
    ("target", "words"),
    [("no_such_module:x", "No module named 'no_such_module'"), ("worker_targets:nothing", "no attribute 'nothing'")],
)
def test_a_target_that_cannot_be_imported_is_a_failed_start(target: str, words: str) -> None:
    async def main() -> None:
        async with bench() as made:
            with pytest.raises(StartFailed, match=words):
                await made.start("echo", target=target)

    run(main)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import time; time.sleep(60)", "not ready within 0.5 s"),
        ("while True: print('x' * 10_000)", "not ready within 0.5 s|printed more"),
        ("import os; os._exit(5)", "ended with exit code 5"),
        ("import os, sys; print('why', file=sys.stderr); sys.exit(4)", "exit code 4; its stderr ends with:\nwhy"),
        ("raise RuntimeError('no database')", "RuntimeError: no database"),
    ],
)
def test_an_import_that_misbehaves_is_a_failed_start(tmp_path: Path, body: str, words: str) -> None:
    (tmp_path / "slow.py").write_text(body + "\ndef go(request, emit): return 1\n")

    async def main() -> None:
        async with bench() as made:
            with pytest.raises(StartFailed, match=words):
                await made.start("echo", target="slow:go", paths=[tmp_path], start_timeout_s=0.5)

    run(main)


def test_an_import_that_prints_much_is_no_reason_to_wait(tmp_path: Path) -> None:
    (tmp_path / "wordy.py").write_text("print('x' * 1_000_000)\ndef go(request, emit): return 1\n")

    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        assert await ask(ref) == 1

    within("echo", use, target="wordy:go", paths=[tmp_path])


@pytest.mark.parametrize(
    "changes",
    [
        *({"name": ""}, {"target": "a.b"}, {"max_frame_bytes": 0}, {"nice": 20}),
        *({"max_json_bytes": 0}, {"max_json_bytes": 1 << 21}),
        *({"grace_s": -1.0}, {"start_timeout_s": float("inf")}),
        *({"environment": {"A=B": "c"}}, {"environment": {"A": "\0"}}),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="worker"):
        spec_of("echo", **changes)


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
            with trio.fail_after(5):
                while (actor := ref._actor_weakref()) is None or actor.pid in (None, pid):  # noqa: ASYNC110
                    await trio.sleep(0.005)
            assert ref.is_alive()
        assert made.told == ["timeout"] * 2

    within(target, use, grace_s=0.1)


def test_a_kill_begins_with_sigterm_and_waits_no_longer_than_needed(tmp_path: Path) -> None:
    file = tmp_path / "left"

    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        began = trio.current_time()
        with pytest.raises(WorkerTimeout):
            await ask(ref, str(file), timeout_s=1)
        assert file.read_text() == "tidied"
        assert trio.current_time() - began < 15

    within("tidy", use, grace_s=20)


def test_requests_behind_a_killed_one_are_served_by_the_next_process() -> None:
    async def use(_: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        async def late() -> None:
            with pytest.raises(WorkerTimeout):
                await ask(ref, "stay", timeout_s=0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(late)
            await trio.testing.wait_all_tasks_blocked()
            assert await ask(ref, "leave") == "left"

    within("late_emit", use)


def test_a_caller_that_goes_away_kills_the_process() -> None:
    async def use(made: Bench, ref: TrioActorRef[ProcessActor]) -> None:
        pid = pid_of(ref)
        with trio.move_on_after(0.2):
            await ask(ref, timeout_s=None)
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
            else:
                expected = WorkerTimeout if then == "wait" else WorkerEnded
                with pytest.raises(expected):
                    await ask(ref, request, timeout_s=2)
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
        sys.path[:0] = [{str(HERE)!r}, {str(HERE / "actors" / "runtime")!r}]
        import test_process as t

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


# Frames


def test_frames_come_out_whole_however_they_come_in() -> None:
    frames = Frames(100)
    sent = [encode(RESULT, number, {"n": number}, 100) for number in range(50)] + [encode(CHUNK, 1, b"\x00" * 100, 100)]
    got = []
    for byte in b"".join(sent):
        frames.feed(bytes([byte]))
        while (whole := frames.next()) is not None:
            got.append(whole)
    assert [decode(kind, payload) for kind, _, payload in got] == [*({"n": n} for n in range(50)), b"\x00" * 100]
    assert frames.pending == 0


def test_a_frame_over_the_limit_is_an_error_before_its_bytes_come() -> None:
    frames = Frames(100)
    frames.feed(HEADER.pack(101, RESULT, 1))
    with pytest.raises(FrameTooLarge, match="announces 101 bytes"):
        frames.next()
