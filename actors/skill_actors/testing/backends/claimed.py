"""Checks of what a backend claims."""

from __future__ import annotations

import contextlib
import socket
import struct
import zlib
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import trio

from skill_actors.backends.base import Capabilities, OutputChunk, ToolResult

from .trial import Check, Trial, Unmeasurable, always, expect

__all__ = ["CLAIMED"]

_BIG_S: Final = 60.0
_BIG_BYTES: Final = 32 << 20
_PIECE_BYTES: Final = 4 << 20  # of one request: no model writes more


async def _stream(trial: Trial) -> None:
    seen: list[str] = []

    async def emit(chunk: OutputChunk) -> None:
        seen.append(chunk.text)
        if "one" in chunk.text:
            await trial.tool("create_file", {"path": "go", "file_text": ""})

    result = await trial.bash("echo one; until [ -e go ]; do sleep 0.02; done; echo two", emit=emit)
    expect(result.outcome == "ok", "output did not come while the command ran", result)
    expect("".join(seen) == "one\ntwo\n", f"output came as {seen!r:.200}")


_SURVIVOR: Final = "(setsid bash -c 'sleep 2; touch survived' >/dev/null 2>&1 &); "


async def _cancel(trial: Trial) -> None:
    async def emit(_: OutputChunk) -> None:
        scope.cancel()

    with trio.CancelScope() as scope:
        await trial.bash(f"{_SURVIVOR}echo; sleep 60", emit=emit)
    expect(scope.cancelled_caught, "a cancelled call came to an end by itself")
    await _expect_no_survivor(trial, "the cancel of its call")


async def _late(trial: Trial) -> None:
    result = await trial.bash(f"{_SURVIVOR}sleep 60", timeout_s=0.5)
    expect(result.outcome == "timeout", "a call beyond its time is not ended as such", result)
    await _expect_no_survivor(trial, "the time of its call")


async def _expect_no_survivor(trial: Trial, what: str) -> None:
    await trio.sleep(3)
    await trial.bash("touch seen")
    seen = await trial.tool("view", {"path": "seen"})
    expect(not seen.is_error, "what a process leaves cannot be seen, so that none seems to survive", seen)
    result = await trial.tool("view", {"path": "survived"})
    expect(result.is_error, f"a process survived {what}", result)


async def _files(trial: Trial) -> None:
    text = "quote ' and \"\n$HOME \\n\nno newline at the end"
    made = await trial.tool("create_file", {"path": "a/ünï c.txt", "file_text": text})
    expect(not made.is_error, "a file cannot be made", made)
    edited = await trial.tool("str_replace", {"path": "a/ünï c.txt", "old_str": "$HOME", "new_str": "home"})
    expect(not edited.is_error, "a file cannot be edited", edited)
    result = await trial.bash("cat 'a/ünï c.txt'")
    expect(result.content == text.replace("$HOME", "home"), "a command sees another file than was written", result)


async def _parallel(trial: Trial) -> None:
    results: list[ToolResult] = []

    async def one(mine: str, other: str) -> None:
        results.append(await trial.bash(f"touch {mine}; until [ -e {other} ]; do sleep 0.02; done", timeout_s=10))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "a", "b")
        nursery.start_soon(one, "b", "a")
    expect(all(result.outcome == "ok" for result in results), "two calls did not run at the same time", results[0])


async def _images(trial: Trial) -> None:
    made = await trial.bash(f"echo {b64encode(_picture()).decode()} | base64 -d > picture")
    expect(not made.is_error, "a picture cannot be made", made)
    result = await trial.tool("view", {"path": "picture"})
    expect([image.data for image in result.images] == [_picture()], "view does not show a picture", result)


def _picture() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    dot = zlib.compress(bytes(4))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", dot) + chunk(b"IEND", b"")


async def _resume(trial: Trial) -> None:
    await trial.bash("echo kept > file")
    again = await trial.again()
    try:
        result = await again.bash("cat file")
        where = f"the file of the workspace {trial.workspace.root} is gone after it was opened again"
        expect(result.content == "kept", where, result)
    finally:
        await again.workspace.aclose()


def _veiled(command: str) -> str:
    """The same for bash, without the words that somebody may look for who only reads commands."""
    return f'eval "$(echo {b64encode(command.encode()).decode()} | base64 -d)"; echo tried'


async def _tried(trial: Trial, command: str) -> ToolResult:
    """What became of a command that is to fail; that it was run at all is made sure."""
    result = await trial.bash(_veiled(command))
    expect("tried" in result.content, "a command was not run", result)
    return result


async def _no_network(trial: Trial) -> None:
    """Neither a port of the host, nor a way to any other place: to connect by UDP takes a way, and sends nothing."""
    shell = await trial.bash('echo "shell=${BASH_VERSION:+bash}"')
    if "shell=bash" not in shell.content:
        raise Unmeasurable("commands are not run by bash, which can open a socket")
    expect("connected" not in (await _connect(trial)).content, "a command reached this host's network")
    for address in ("192.0.2.1", "2001:db8::1"):  # of documentation: they are nobody's
        result = await _tried(trial, f"(exec 3<>/dev/udp/{address}/9) && echo connected")
        expect("connected" not in result.content, "there is a way from a command to other hosts", result)


async def _host_network(trial: Trial) -> None:
    result = await _connect(trial)
    expect("connected" in result.content, "a command did not reach this host's network", result)


async def _connect(trial: Trial) -> ToolResult:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        return await _tried(trial, f"(exec 3<>/dev/tcp/127.0.0.1/{port}) && echo connected")


async def _sandbox(trial: Trial) -> None:
    secret = trial.folder / "outside"
    secret.write_text("out of reach")
    for command in (f"cat '{secret}'", "cat ../outside", f"ln '{secret}' stolen; cat stolen"):
        result = await _tried(trial, command)
        expect("out of reach" not in result.content, f"{command!r} reads a file outside of the workspace", result)
    await _tried(trial, f"echo x > '{secret}'; rm -f ../outside")
    with contextlib.suppress(FileNotFoundError):
        expect(secret.read_text() == "out of reach", "a command changed a file outside of the workspace")
        return
    raise AssertionError("a command removed a file outside of the workspace")


async def _cleanup(trial: Trial) -> None:
    beats = "echo yes > began; while :; do date +%N > beat; sleep 0.05; done"
    began = await trial.bash(f"(setsid bash -c '{beats}' >/dev/null 2>&1 &); until [ -s began ]; do sleep 0.05; done")
    expect(began.outcome == "ok", "nothing runs in the background of a command", began)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            again = await trial.again()
            stack.push_async_callback(again.workspace.aclose)
            began = await again.bash("cat began")
            expect(began.content == "yes", "what a process leaves cannot be seen, so that none seems to survive", began)
            seen = [(await again.bash("cat beat")).content]
            await trio.sleep(0.5)
            seen.append((await again.bash("cat beat")).content)
            expect(seen[0] == seen[1], "a process survived the end of its workspace")
            trial = again


async def _big(trial: Trial) -> None:
    line = "0123456789abcde\n"
    piece = line * (_PIECE_BYTES // len(line))
    pieces = _BIG_BYTES // _PIECE_BYTES
    for number in range(pieces):
        made = await trial.tool("create_file", {"path": f"pieces/{number}", "file_text": piece}, timeout_s=_BIG_S)
        expect(not made.is_error, f"a file of {_PIECE_BYTES} bytes cannot be made", made)
    make = "cat pieces/* > big.txt && rm -r pieces && sha256sum < big.txt && tr '\\n' x < big.txt > line.txt"
    summed = await trial.bash(make, timeout_s=_BIG_S)
    expect(sha256((piece * pieces).encode()).hexdigest() in summed.content, "what was written is not all there", summed)
    for path in ("big.txt", "line.txt"):
        shown = await trial.tool("view", {"path": path}, timeout_s=_BIG_S, max_output_chars=5_000)
        expect(not shown.is_error and line[:-1] in shown.content, f"{path} of 32 MiB cannot be viewed", shown)
        expect(len(shown.content) <= 5_000, f"what is shown of {path} is not capped")
    out = await trial.bash("cat big.txt; echo the end", timeout_s=_BIG_S, max_output_chars=5_000)
    is_whole = line[:-1] in out.content and "the end" in out.content and len(out.content) <= 5_000
    expect(out.outcome == "ok" and is_whole, "32 MiB of output are not shown from begin to end", out)


async def _cost(trial: Trial) -> None:
    result = await trial.bash("echo x")
    claimed = trial.executor.capabilities.cost
    told = result.cost_usd is not None and result.cost_usd >= 0
    expect(told == claimed, f"a result says {result.cost_usd!r} of its cost, and the claim is {claimed}", result)


def _is_enclosed(claimed: Capabilities) -> bool:
    return claimed.sandbox not in ("none", "process")


def _leaves_nothing(claimed: Capabilities) -> bool:
    """Where the claim is only partial, a call that ended by itself may have left something."""
    return claimed.cancel and claimed.resume and "cancel" not in claimed.partial


CLAIMED: Final[Sequence[Check]] = (
    Check("stream", "output arrives while the command runs", lambda claimed: claimed.stream, _stream),
    Check("cancel", "a cancelled call leaves no process", lambda claimed: claimed.cancel and claimed.stream, _cancel),
    Check("cancel", "a call beyond its time leaves no process", lambda claimed: claimed.cancel, _late),
    Check("cancel", "a workspace that is closed leaves no process", _leaves_nothing, _cleanup),
    Check("files", "tools and commands see the same files", lambda claimed: claimed.files, _files),
    Check("files", "files of 32 MiB go in and out", lambda claimed: claimed.files, _big),
    Check("parallel", "two calls run at the same time", lambda claimed: claimed.parallel, _parallel),
    Check("images", "view shows a picture", lambda claimed: claimed.images, _images),
    Check("resume", "files are there when it is opened again", lambda claimed: claimed.resume, _resume),
    Check("cost", "a result tells what it cost, or nothing of it", always, _cost),
    Check("network", "no host is reached", lambda claimed: claimed.network == "none", _no_network),
    Check("network", "the host's is reached", lambda claimed: claimed.network == "host", _host_network),
    Check("sandbox", "files outside of the workspace are out of reach", _is_enclosed, _sandbox),
)
