"""An agent's program as a process of the daemon: lines in and out, and nothing of it left behind.

Between daemon and program stands a small launcher (`launcher.py`), the parent and heir of all that the program starts:
it ends with everything below it when the program ends, when the daemon wants an end, and when the daemon is killed.
"""

from __future__ import annotations

import errno
import json
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends import cgroups, processes
from skill_actors.backends.agents import launcher
from skill_actors.backends.agents.base import AgentError
from skill_actors.backends.programs import Programs
from skill_actors.backends.resident import Nest, find_nest
from skill_actors.backends.survivors import end_marked, end_strays

__all__ = ["AgentProcess", "ProcessLimits", "open_nest", "open_process"]

_log = logging.getLogger(__name__)

_READ_BYTES: Final = 65_536
_START_S: Final = 10.0  # for launcher and program to be there
_END_S: Final = 1.5  # for a launcher to kill what it has, which takes it 1 s at most, and to end
_DRAIN_S: Final = 0.2  # for the last of stderr to arrive once the program has ended
_MISSING: Final = (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """What one program may take.

    Args:
        memory_bytes: memory that it and all it starts have in use together. The kernel holds it where the daemon may
            make control groups with memory; everywhere it is looked at twice a second, and a program beyond it is
            ended whole. None: no limit. Address space is not limited: what runs on V8 reserves many times what it uses.
        max_line_bytes: of one line of its output; a longer one is an error.
        stderr_bytes: how much of the end of its stderr is kept.

    """

    memory_bytes: int | None = None
    max_line_bytes: int = 16 << 20
    stderr_bytes: int = 16 << 10


class AgentProcess:
    """A running program. Made by `open_process`. One task sends at a time, and one reads lines."""

    def __init__(
        self,
        process: trio.Process,
        control: trio.SocketStream,
        limits: ProcessLimits,
        mark: str,
        group: Path | None,
        memory: Path | None = None,
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._control = control
        self._said = _Lines(control, _READ_BYTES)
        self._limits = limits
        self._mark = mark
        self._group = group
        self._memory = memory
        self._stderr = b""
        self._ended = trio.Event()
        self._drained = trio.Event()
        self._unread = _Lines(self._stdout, limits.max_line_bytes)
        self.pid = 0
        self.returncode: int | None = None
        self.limited: str | None = None  # what it took too much of, where it was ended for that

    @property
    def stderr_tail(self) -> str:
        """The end of what it wrote to stderr so far; bytes that are not UTF-8 appear as U+FFFD."""
        return self._stderr.decode(errors="replace")

    async def send(self, data: bytes) -> None:
        """Write to its stdin. Raises AgentError "terminated" if it reads no more."""
        try:
            await self._stdin.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise AgentError("terminated", f"the program reads no more input: {error}") from error

    async def close_stdin(self) -> None:
        """Let it see the end of its input. May be called twice."""
        await self._stdin.aclose()

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """The lines of its stdout without their ends, as they come; a last one without an end as well.

        May be left and called again: nothing of what was not handed out is lost.

        Raises:
            AgentError: "protocol" for a line longer than it may be.

        """
        while (line := await self.next_line()) is not None:
            yield line

    async def next_line(self) -> bytes | None:
        """The next of its `lines`; None at the end. Cancelling this loses nothing. Raises AgentError "protocol"."""
        return await self._unread.next()

    async def wait(self) -> int:
        """Wait until it has ended with all that it started; its exit code, negative for a signal."""
        await self._ended.wait()
        with trio.move_on_after(_DRAIN_S):
            await self._drained.wait()
        assert self.returncode is not None
        return self.returncode

    async def signal(self, number: int) -> None:
        """Send a signal to its process group. Nothing happens if it has ended."""
        if not self._ended.is_set():
            await self._tell(signal=int(number))

    async def stop(self, grace_s: float = 0.5) -> int:
        """SIGTERM to its group; after `grace_s` seconds everything it started is killed. Its exit code.

        Takes at most `grace_s` and about a second. May be called twice, and of what has ended.
        """
        await self.signal(signal.SIGTERM)
        with trio.move_on_after(grace_s):
            return await self.wait()
        await self.signal(signal.SIGKILL)
        with trio.move_on_after(_END_S):
            return await self.wait()
        self._process.kill()  # the launcher; the program dies with it
        return await self.wait()

    # What `open_process` does

    async def _start(self, job: Mapping[str, Any]) -> None:
        with trio.move_on_after(_START_S) as waiting:
            await self._tell(**job)
            answer = await self._answer()
        if waiting.cancelled_caught:
            raise AgentError("io", f"the program was not started within {_START_S:g} s")
        if answer is None:
            raise AgentError("io", "the launcher ended before it had started the program")
        if "error" in answer:
            what = job["cwd"] if answer["of"] == "cwd" else job["argv"][0]
            missing = answer["of"] == "argv" and answer["errno"] in _MISSING
            raise AgentError("binary_not_found" if missing else "io", f"{what} cannot be used: {answer['error']}")
        self.pid = answer["started"]

    async def _tell(self, **message: Any) -> None:
        try:
            await self._control.send_all(json.dumps(message).encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the launcher is gone: whoever waits sees it

    async def _answer(self) -> dict[str, Any] | None:
        line = await self._said.next()
        return None if line is None else json.loads(line)

    async def _watch(self) -> None:
        """Wait for its end."""
        answer = await self._answer() or {}
        code = answer.get("code")
        if code is None:  # the launcher was killed: what it leaves holds the program's output open
            with trio.move_on_after(_END_S):
                await self._process.wait()
            await self._end_left()
        self.returncode = -signal.SIGKILL if code is None else code
        self.limited = answer.get("limited") or await trio.to_thread.run_sync(self._killed_for)
        if answer.get("left"):
            _log.error("%d processes that an agent's program started cannot be killed", answer["left"])
        self._ended.set()

    def _killed_for(self) -> str | None:
        """What the kernel has killed something of it for, where it did not end well."""
        if self.returncode == 0 or self._memory is None or not cgroups.out_of_memory(self._memory):
            return None
        return f"it needed more than {self._limits.memory_bytes} bytes of memory"

    async def _drain(self) -> None:
        """Keep the end of stderr, so that the program never waits for a reader."""
        assert self._process.stderr is not None
        try:
            async for data in self._process.stderr:
                self._stderr = (self._stderr + data)[-self._limits.stderr_bytes :]
        except trio.BrokenResourceError:
            pass
        self._drained.set()

    async def _end(self) -> None:
        """Let the launcher kill what is left and end, or kill it. Not to be cancelled."""
        await self._control.aclose()
        with trio.move_on_after(_END_S):
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        for stream in (self._stdin, self._stdout, self._process.stderr):
            assert stream is not None
            await stream.aclose()
        await _remove(self._group, self._memory)
        if self._process.returncode != 0:
            left = await self._end_left()
            _log.warning("a launcher ended with %d; %d of its processes are left", self._process.returncode, left)
        # Whoever still waits must learn of it, also where the tasks that would tell were cancelled.
        if self.returncode is None:
            self.returncode = -signal.SIGKILL
        self._ended.set()
        self._drained.set()

    async def _end_left(self) -> int:
        """End what a killed launcher has left; how many could not be killed."""
        left = await trio.to_thread.run_sync(end_marked, f"{processes.MARK}={self._mark}")
        return left + await trio.to_thread.run_sync(end_strays)


async def open_nest(owner: str | None, backend: str, programs: Programs | None = None) -> Nest:
    """Where the programs of one backend live. Ends what an earlier life of the owner has left of them.

    Args:
        owner: as `Host.owner`; None for nobody's.
        backend: in letters and digits; part of the name, as each nest ends all that has its own.
        programs: as `Host.programs`.

    """
    nest = await trio.to_thread.run_sync(find_nest, None if owner is None else f"{owner}{backend}")
    return nest if programs is None else replace(nest, programs=programs)


@asynccontextmanager
async def open_process(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    limits: ProcessLimits | None = None,
    nest: Nest | None = None,
    agent: str = "",
) -> AsyncIterator[AgentProcess]:
    """Run a program while the block runs; leaving it ends the program and all that it started, at once.

    Call `AgentProcess.stop` first where it should have time for its own end.

    Args:
        argv: the program, by path or found by the PATH in `env`, and its arguments. Secrets do not belong here.
        env: all of its environment, but for one entry that marks what is ours.
        nest: whose process it is, so that the next life of a killed daemon finds what was left; nobody's by default.
        agent: as `AgentSpec.agent`: whom the program, and all that it starts, acts for where it is a client itself.

    Raises:
        AgentError: "binary_not_found" if there is no such program; "io" if it cannot be started.

    """
    limits = limits or ProcessLimits()
    nest = nest or await open_nest(None, "")
    mark = nest.new_mark()
    group, memory = await trio.to_thread.run_sync(_groups, nest, mark, limits.memory_bytes)
    try:
        process, control = await _launch(mark, group)
    except BaseException:
        with trio.CancelScope(shield=True):
            await _remove(group, memory)
        raise
    running = AgentProcess(process, control, limits, mark, group, memory)
    job = {
        "argv": list(argv),
        "cwd": str(cwd),
        "env": {**env, processes.MARK: mark},
        "memory_bytes": limits.memory_bytes,
        "memory_group": None if memory is None or memory == group else str(memory),
    }
    failure: Exception | None = None
    with nest.programs.running(process.pid, agent):
        try:
            await running._start(job)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(running._watch)
                nursery.start_soon(running._drain)
                try:
                    yield running
                except Exception as error:
                    failure = error  # raised outside, so that it does not come as a group
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await running._end()
    if failure is not None:
        raise failure


async def _launch(mark: str, group: Path | None) -> tuple[trio.Process, trio.SocketStream]:
    environment = {"LANG": "C.UTF-8", processes.MARK: mark}
    if group is not None:
        environment[processes.GROUP] = str(group)
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-I", "-S", "-E", launcher.__file__, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        ours.close()
        raise AgentError("io", f"no program can be started: {error}") from error
    except BaseException:
        ours.close()  # a launcher that was started sees the end, and ends
        raise
    return process, trio.SocketStream(trio.socket.from_stdlib_socket(ours))


class _Lines:
    """The lines of a stream, one at a time."""

    def __init__(self, stream: trio.abc.ReceiveStream, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._data = bytearray()
        self._looked = 0  # bytes known to hold no line's end
        self._over = False

    async def next(self) -> bytes | None:
        """The next line; None at the end. Cancelling this loses nothing. Raises AgentError "protocol"."""
        while (end := self._data.find(b"\n", self._looked)) < 0:
            self._looked = len(self._data)
            if self._looked > self._max_bytes:
                raise AgentError("protocol", f"the program wrote a line of more than {self._max_bytes} bytes")
            if self._over:
                rest, self._data = bytes(self._data), bytearray()
                self._looked = 0
                return rest or None
            await self._more()
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        self._looked = 0
        return line

    async def _more(self) -> None:
        try:
            data = await self._stream.receive_some(_READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        self._data += data
        self._over = not data


def _groups(nest: Nest, mark: str, memory_bytes: int | None) -> tuple[Path | None, Path | None]:
    """Where the program lives, and where the kernel holds it to its memory; both may be the same, or none. Blocks."""
    name = nest.group_name(mark)
    group = cgroups.make(nest.home, name)
    return group, None if memory_bytes is None else cgroups.limit_memory(group, name, memory_bytes)


async def _remove(group: Path | None, memory: Path | None) -> None:
    if group is not None:
        await trio.to_thread.run_sync(partial(cgroups.end, group))
    if memory is not None and memory != group:
        await trio.to_thread.run_sync(partial(cgroups.remove, memory))
