"""The daemon's end of a runner, against a runner that is played by the test, on a virtual clock."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import pytest
import trio
import trio.testing

from skill_actors.backends import OutputChunk, frames
from skill_actors.backends.frames import CANCEL, CREDIT, DONE, FATAL, HELLO, RUN, STDERR, STDOUT, frame
from skill_actors.backends.link import Done, Link, Output, Request, RunnerBroken
from support import run_virtual

REQUEST = Request(
    argv=("x",), cwd="/", env={}, timeout_s=1, max_chars=10, spill=("a", "f"), spill_after_chars=10, stream=True
)
GREETING = frame(HELLO, 0, json.dumps({"protocol": frames.PROTOCOL}).encode())


class Peer:
    """The runner's side."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self._frames = frames.Frames()
        self._ready: list[tuple[int, int, bytes | None]] = []

    async def say(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def hear(self) -> tuple[int, int, bytes | None]:
        while not self._ready:
            self._ready += self._frames.feed(bytes(await self._stream.receive_some(65_536)))
        return self._ready.pop(0)

    async def end(self) -> None:
        await self._stream.send_eof()


Body = Callable[[Link, Peer], Awaitable[None]]


def linked(body: Body, idle_s: float = 1_000) -> None:
    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        link, peer = Link(ours, ours), Peer(theirs)
        async with trio.open_nursery() as nursery:
            await peer.say(GREETING)

            async def served(*, task_status: trio.TaskStatus[Link]) -> None:
                await link.serve(idle_s=idle_s, task_status=task_status)
                link.fail_all()

            await nursery.start(served)
            await body(link, peer)
            link.stop()

    run_virtual(main)


async def call_into(results: list[Done], link: Link) -> None:
    results.append(await link.call(REQUEST, None))


def done(number: int, **fields: object) -> bytes:
    return frame(DONE, number, json.dumps({"outcome": "exited", "code": 0} | fields).encode())


def test_output_is_handed_over_in_order_and_paid_with_credit() -> None:
    async def body(link: Link, peer: Peer) -> None:
        got: list[OutputChunk] = []

        async def emit(chunk: OutputChunk) -> None:
            got.append(chunk)

        async def play() -> None:
            kind, number, payload = await peer.hear()
            assert (kind, json.loads(payload or b"")["spill"]["folders"]) == (RUN, ["a"])
            await peer.say(frame(STDOUT, number, "é".encode()) + frame(STDERR, number, b"err"))
            assert await peer.hear() == (CREDIT, number, (2).to_bytes(4, "big"))
            assert await peer.hear() == (CREDIT, number, (3).to_bytes(4, "big"))
            await peer.say(done(number, stdout={"head": "é", "tail": "", "chars": 1}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(play)
            result = await link.call(REQUEST, emit)
        assert result == Done(outcome="exited", code=0, stdout=Output(head="é", chars=1))
        assert got == [OutputChunk("stdout", "é"), OutputChunk("stderr", "err")]

    linked(body)


def test_a_cancelled_call_is_ended_before_it_returns() -> None:
    async def body(link: Link, peer: Peer) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.call, REQUEST, None)
            _, number, _ = await peer.hear()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert await peer.hear() == (CANCEL, number, b"")
                await trio.sleep(1)
                assert nursery.child_tasks
                await peer.say(done(number, outcome="cancelled"))
        assert not link.closed

    linked(body)


def test_a_runner_that_does_not_end_a_call_is_given_up() -> None:
    async def body(link: Link, peer: Peer) -> None:
        with trio.move_on_after(1):
            await link.call(REQUEST, None)
        assert link.hangs
        assert link.closed

    linked(body)


SENSELESS: Sequence[Mapping[str, object]] = [
    {"outcome": "excellent"},
    {"outcome": None},
    {"code": "0"},
    {"code": True},
    {"code": 1 << 70},
    {"error": 5},
    {"left": -1},
    {"left": "many"},
    {"ended": None},
    {"tree": ["x"]},
    {"stdout": None},
    {"stdout": {"head": 5}},
    {"stdout": {"chars": -1}},
    {"stdout": {"chars": 0.5}},
    {"stderr": {"tail": None}},
    {"spill": {"bytes": 1}},
    {"spill": {"bytes": 1, "cut": "no", "error": None}},
    {"spill": "file"},
]  # of a result, what it cannot say


@pytest.mark.parametrize(
    "garbage",
    [
        frame(77, 1),
        frame(DONE, 1, b"no json"),
        frame(DONE, 1, b"[]"),
        frame(DONE, 1, b'{"surprise": 1}'),
        frames.HEADER.pack(frames.MAX_FRAME_BYTES + 1, DONE, 1),
        frame(DONE, 1, b"[" * 200_000),
        frame(DONE, 1, b" " * 100_000 + b'{"outcome": "exited"}'),
        frame(STDOUT, 1, b"x" * (9 << 20)),
        *(frame(DONE, 1, json.dumps({"outcome": "exited", **fields}).encode()) for fields in SENSELESS),
    ],
)
def test_a_runner_that_talks_nonsense_loses_its_calls(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def body(link: Link, peer: Peer) -> None:
        results: list[Done] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_into, results, link)
            await peer.hear()
            await peer.say(garbage)
        assert results == [Done(outcome="lost")]
        assert await link.call(REQUEST, None) == Done(outcome="lost")

    with caplog.at_level(logging.ERROR):
        linked(body)
    assert "a runner is stopped" in caplog.text


def test_output_that_nobody_asked_for_ends_the_runner(caplog: pytest.LogCaptureFixture) -> None:
    async def body(link: Link, peer: Peer) -> None:
        results: list[Done] = []

        async def call() -> None:
            results.append(await link.call(replace(REQUEST, stream=False), None))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await peer.hear()
            await peer.say(frame(STDOUT, 1, b"x"))
        assert results == [Done(outcome="lost")]

    linked(body)
    assert "sends more output than it may" in caplog.text


def test_a_flood_is_held_up_by_whoever_does_not_take_it_and_one_without_credit_ends_the_runner() -> None:
    async def body(link: Link, peer: Peer) -> None:
        taken = 0
        results: list[Done] = []

        async def slow(chunk: OutputChunk) -> None:
            nonlocal taken
            taken += len(chunk.text)
            await trio.sleep(1)

        async def call() -> None:
            results.append(await link.call(REQUEST, slow))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await peer.hear()
            for _ in range(20):  # as fast as it is taken: this may go on for ever
                await peer.say(frame(STDOUT, 1, b"x" * (1 << 20)))
                assert (await peer.hear())[0] == CREDIT
            assert not link.closed
            with contextlib.suppress(trio.BrokenResourceError):
                while not link.closed:
                    await peer.say(frame(STDOUT, 1, b"x" * (1 << 20)))
        assert results == [Done(outcome="lost")]
        assert taken < 40 << 20

    linked(body)


def test_the_end_of_the_stream_at_any_byte_loses_the_call_or_nothing() -> None:
    result = done(1, stdout={"head": "12345", "tail": "", "chars": 5})
    said = frame(STDOUT, 1, b"12") + frame(STDERR, 1, b"") + frame(STDOUT, 1, b"345") + result

    async def body(cut: int, link: Link, peer: Peer) -> None:
        got: list[str] = []
        results: list[Done] = []

        async def emit(chunk: OutputChunk) -> None:
            got.append(chunk.text)

        async def call() -> None:
            results.append(await link.call(REQUEST, emit))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await peer.hear()
            for byte in said[:cut]:
                await peer.say(bytes([byte]))
            await peer.end()
        whole = Done(outcome="exited", code=0, stdout=Output(head="12345", chars=5))
        assert results == [whole if cut == len(said) else Done(outcome="lost")]
        assert "12345".startswith("".join(got))

    for cut in range(len(said) + 1):
        linked(partial(body, cut))


def test_a_runner_that_ends_loses_its_calls_and_its_last_words_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def body(link: Link, peer: Peer) -> None:
        results: list[Done] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_into, results, link)
            await peer.hear()
            await peer.say(frame(FATAL, 0, b"Traceback: boom"))
            await peer.end()
        assert results == [Done(outcome="lost")]

    linked(body)
    assert "boom" in caplog.text


def test_what_is_said_about_unknown_calls_is_ignored() -> None:
    async def body(link: Link, peer: Peer) -> None:
        await peer.say(done(99) + frame(STDOUT, 99, b"x"))
        await trio.testing.wait_all_tasks_blocked()
        assert not link.closed

    linked(body)


def test_serving_ends_after_the_idle_time_but_not_during_a_call() -> None:
    async def body(link: Link, peer: Peer) -> None:
        began = trio.current_time()
        results: list[Done] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_into, results, link)
            _, number, _ = await peer.hear()
            await trio.sleep(100)
            assert not link.closed
            await peer.say(done(number))
        while not link.closed:  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(0.1)
        assert 110 <= trio.current_time() - began < 111

    linked(body, idle_s=10)


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (frame(HELLO, 0, b'{"protocol": 999}'), "did not greet with protocol"),
        (frame(DONE, 0, b"{}"), "did not greet with protocol"),
        (b"Python 3.11 error message", "did not greet with protocol"),
        (b"", "said nothing for 10 s"),
        (None, "ended as soon as it was started"),
    ],
)
def test_a_runner_that_does_not_greet_is_broken(greeting: bytes | None, words: str) -> None:
    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        if greeting is None:
            await theirs.send_eof()
        else:
            await theirs.send_all(greeting)
        with pytest.raises(RunnerBroken, match=words):
            await Link(ours, ours).serve(idle_s=1)

    run_virtual(main)
