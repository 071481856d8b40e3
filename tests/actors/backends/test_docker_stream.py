"""The streams of a container: the engine's frames taken apart, and an engine that does not do what it should."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import trio
import trio.testing

from skill_actors.backends import BackendUnavailable
from skill_actors.backends.docker_stream import AttachedStream, Demultiplexer, attach
from support import run, run_virtual


def frame(kind: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", kind, len(data)) + data


FRAMES = frame(1, b"one") + frame(2, b"noise") + frame(1, b"") + frame(1, b"two" * 1000) + frame(2, b"!")


@pytest.mark.parametrize("step", [1, 2, 7, 8, 9, 5000])
def test_frames_cut_anywhere_give_the_same(step: int) -> None:
    frames = Demultiplexer()
    out = b"".join(frames.feed(FRAMES[at : at + step]) for at in range(0, len(FRAMES), step))
    assert (out, frames.noise) == (b"one" + b"two" * 1000, b"noise!")


@pytest.mark.parametrize("data", [b"HTTP/1.1 500 oops", b"\x09\0\0\0\0\0\0\x01x", b"\x01\0\0\0\xff\xff\xff\xff"])
def test_what_is_no_frame_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="a frame of kind"):
        Demultiplexer().feed(data)


def test_noise_is_bounded() -> None:
    frames = Demultiplexer()
    for _ in range(100):
        frames.feed(frame(2, b"x" * 1000))
    assert len(frames.noise) == 4000


def test_a_stream_that_makes_no_sense_is_broken_and_one_that_ends_is_at_its_end() -> None:
    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        stream = AttachedStream(ours, frame(1, b"early"))
        assert await stream.receive_some() == b"early"
        await theirs.send_all(b"\xff" * 20)
        with pytest.raises(trio.BrokenResourceError, match="no stream"):
            await stream.receive_some()
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.aclose()
        assert await AttachedStream(ours, b"").receive_some() == b""

    run(main)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404"),
        (b"garbage\r\n\r\n", "does not let us attach"),
        (b"HTTP/1.1 101 Switching", "does not let us attach"),
        (b"", "does not let us attach"),
    ],
)
def test_an_engine_that_answers_otherwise_is_an_error_in_words(tmp_path: Path, answer: bytes, words: str) -> None:
    path = tmp_path / "e.sock"

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)

    async def main() -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as listening:
            await listening.bind(str(path))
            listening.listen()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening)])
                with pytest.raises(BackendUnavailable, match=words):
                    await attach(f"unix://{path}", "abc")
                nursery.cancel_scope.cancel()

    run(main)


def test_an_engine_that_never_answers_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"

    async def main() -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as listening:
            await listening.bind(str(path))
            listening.listen()
            with pytest.raises(BackendUnavailable, match="TooSlow"):
                await attach(f"unix://{path}", "abc")
            assert trio.current_time() > 29

    run_virtual(main)


@pytest.mark.parametrize("address", ["ssh://host", "npipe:////./pipe/docker", "tcp://host", "nonsense"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(BackendUnavailable, match="cannot use the address"):
        run(attach, address, "abc")
