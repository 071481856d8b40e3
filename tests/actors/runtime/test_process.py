"""ProcessActor: real processes that oblige, fail and do not start, and the frames they speak in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from process_kit import HERE, Bench, ask, bench, pid_of, spec_of, within
from skill_actors.runtime import (
    ProcessActor,
    Reject,
    RequestRefused,
    StartFailed,
    TrioActorRef,
    WorkerError,
    WorkerKilled,
    WorkerLimits,
    WorkerTimeout,
)
from skill_actors.runtime.worker import CHUNK, HEADER, RESULT, Frames, FrameTooLarge, decode, encode
from support import run

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
        assert (found["nice"], found["cwd"]) == (min(os.nice(0) + 7, 19), "/tmp")
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
            scope.deadline = trio.current_time() + 0.3  # from the first on: how soon it comes is not the question
            await trio.sleep_forever()

        with trio.move_on_after(20) as scope:
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
    ("body", "start_timeout_s", "words"),
    [
        ("import time; time.sleep(60)", 0.5, "not ready within 0.5 s"),
        ("while True: print('x' * 10_000)", 0.5, "not ready within 0.5 s|printed more"),
        ("import os; os._exit(5)", 20.0, "ended with exit code 5"),
        ("import os, sys; print('why', file=sys.stderr); sys.exit(4)", 20.0, "exit code 4; its stderr ends with:\nwhy"),
        ("raise RuntimeError('no database')", 20.0, "RuntimeError: no database"),
    ],
)
def test_an_import_that_misbehaves_is_a_failed_start(
    tmp_path: Path, body: str, start_timeout_s: float, words: str
) -> None:
    (tmp_path / "slow.py").write_text(body + "\ndef go(request, emit): return 1\n")

    async def main() -> None:
        async with bench() as made:
            with pytest.raises(StartFailed, match=words):
                await made.start("echo", target="slow:go", paths=[tmp_path], start_timeout_s=start_timeout_s)

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
