"""The near side of worker processes: one keeper process, and the workers that it forks one after another.

worker.py says who speaks to whom. What is here does not decide: `process.py` does. A Worker's link is read by whoever
has asked it something; its prints, and the word of its end, by `watch`, which has to run all the while.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import trio

from skill_actors.runtime import worker as wire
from skill_actors.runtime.errors import WorkerBroken, WorkerEnded, WorkerError, WorkerKilled, WorkerNotStarted
from skill_actors.runtime.process_spec import INHERITED, WorkerSpec
from skill_actors.runtime.worker import Value

__all__ = ["Keeper", "Worker"]

_READ_BYTES: Final = 65_536
_TAIL_BYTES: Final = 4_000
_FORCE_S: Final = 2.0  # for a keeper to end a family; it tries for half as long
_DRAIN_S: Final = 0.5
_DRAIN_PAUSE_S: Final = 0.002  # after a full pipe: who prints faster than 30 MB/s waits, not the event loop
_ERROR_BYTES: Final = 131_072  # its parts are cut there, and a character takes 12 of them at most
_EOF_S: Final = 1.0  # from the end of a link to the end of its process

Emit = Callable[[Value], Awaitable[None]]
Answer = Callable[[Value], Awaitable[Value]]


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a worker ended. `code` is an exit code, negative for a signal, None if the kernel could not end it."""

    code: int | None
    ended: int = 0
    left: int = 0


class Keeper:
    """The process that forks workers. At most one of its workers lives at a time."""

    def __init__(self, spec: WorkerSpec, process: trio.Process, control: trio.socket.SocketType) -> None:
        self.spec = spec
        self._process = process
        self._control = control
        self._worker: Worker | None = None

    @classmethod
    async def start(cls, spec: WorkerSpec, environ: Mapping[str, str] = os.environ) -> Keeper:
        """Start the process. Raises WorkerNotStarted."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                process = await trio.lowlevel.open_process(
                    [sys.executable, "-I", "-S", "-E", wire.__file__, str(theirs.fileno()), spec.name],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=(theirs.fileno(),),
                    cwd="/",
                    env={**{name: environ[name] for name in INHERITED if name in environ}, **spec.environment},
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise WorkerNotStarted(f"no process for worker {spec.name!r} could be started: {error}") from error
        except BaseException:
            ours.close()  # a process that was started sees the end, and ends
            raise
        return cls(spec, process, trio.socket.from_stdlib_socket(ours))

    async def launch(self) -> Worker:
        """Fork a worker and wait until it has imported its target. The one before it must be gone.

        Raises:
            WorkerNotStarted: if it cannot, or not within `start_timeout_s`. `aclose` then, before another try.

        """
        try:
            with trio.fail_after(self.spec.start_timeout_s):
                worker = self._worker = await self._fork()
                await worker.wait_ready()
                return worker
        except trio.TooSlowError:
            why = f"it was not ready within {self.spec.start_timeout_s:g} s"
        except (WorkerEnded, OSError) as error:
            why = str(error) or repr(error)
        raise WorkerNotStarted(f"worker {self.spec.name!r} could not be started: {why}")

    async def _fork(self) -> Worker:
        link, far_link = socket.socketpair()
        out, far_out = os.pipe2(os.O_CLOEXEC)
        err, far_err = os.pipe2(os.O_CLOEXEC)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(link))
        worker = Worker(self.spec, self._control, stream, (trio.lowlevel.FdStream(out), trio.lowlevel.FdStream(err)))
        try:
            with far_link:
                fds = array.array("i", [far_link.fileno(), far_out, far_err])
                await self._control.sendmsg([wire.START], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            started = await self._control.recv(_READ_BYTES)
            if not started:
                raise WorkerEnded(f"the keeper ended: {await self._last_words()}")
            worker.pid = int(json.loads(started)["started"])
        except BaseException:
            await worker.aclose()
            raise
        finally:
            os.close(far_out)
            os.close(far_err)
        return worker

    async def _last_words(self) -> str:
        assert self._process.stderr is not None
        with trio.move_on_after(_DRAIN_S):
            said = bytes(await self._process.stderr.receive_some(_TAIL_BYTES))
            return said.decode(errors="replace").strip() or "without a word"
        return "without a word"

    async def aclose(self, grace_s: float) -> None:
        """End the worker (the link's end asks it to, for `grace_s` seconds), all that it started, and the keeper.

        Takes at most `grace_s` + _FORCE_S seconds, whether cancelled or not.
        """
        with trio.CancelScope(shield=True):
            if self._worker is not None:
                await self._worker.leave(grace_s)
            self._control.close()
            with trio.move_on_after(_FORCE_S):
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()  # the kernel kills the worker then
                await self._process.wait()
            assert self._process.stderr is not None
            await self._process.stderr.aclose()


class Worker:
    """One worker process, from its fork to the death of the last thing it started.

    `verdict`: why it is condemned, if it is; the first word counts. `gone` is set by whoever runs `watch`, once it
    has drawn its conclusions.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        control: trio.socket.SocketType,
        link: trio.SocketStream,
        outputs: tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream],
    ) -> None:
        self._spec = spec
        self._control = control
        self._link = link
        self._outputs = outputs
        self._frames = wire.Frames(spec.max_frame_bytes)
        self._printed = 0
        self._tail = b""
        self._ended: _Ended | None = None
        self._number = 0
        self.pid = 0
        self.busy = False
        self.verdict: Exception | None = None
        self.gone = trio.Event()

    def __str__(self) -> str:
        return f"worker {self._spec.name!r} (pid {self.pid})"

    # Life

    async def wait_ready(self) -> None:
        """Configure it and wait for its word. Raises WorkerEnded."""
        configuration = json.dumps(self._spec.configuration()).encode()
        failed: Exception | None = None  # raised below: out of the nursery it would come as a group
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drain, 0)  # an import that prints must not wait for us
            nursery.start_soon(self._drain, 1)
            try:
                await self._link.send_all(wire.frame(wire.CONFIGURE, 0, configuration))
                kind, _, payload = await self._next_frame()
                failed = None if kind == wire.READY else self._not_ready(kind, payload)
            except (trio.BrokenResourceError, EOFError):
                await self._see_end()
            except WorkerBroken as error:
                failed = error
            drain_s = 0.0 if self._ended is None else _DRAIN_S  # its last words are in the pipes
            nursery.cancel_scope.deadline = trio.current_time() + drain_s
        if self._ended is not None:
            raise self.cause_of_end()
        if failed is not None:
            raise failed

    def _not_ready(self, kind: int, payload: bytes) -> Exception:
        if kind != wire.FAILED:
            return WorkerBroken(f"{self} sent a frame of kind {kind} where its readiness is due")
        error = self._checked(_remote, payload)
        return WorkerNotStarted(f"its target {self._spec.target} cannot be used: {error}\n{error.trace}")

    async def watch(self) -> None:
        """Drain what it prints until the process and all that it started are gone."""
        async with trio.open_nursery() as pumps:
            pumps.start_soon(self._drain, 0)
            pumps.start_soon(self._drain, 1)
            await self._see_end()
            pumps.cancel_scope.deadline = trio.current_time() + _DRAIN_S

    async def _see_end(self) -> None:
        """The keeper's word, or the keeper's end."""
        if self._ended is None:
            try:
                said = await self._control.recv(_READ_BYTES)
            except OSError:
                said = b""
            self._ended = _Ended(**json.loads(said)) if said else _Ended(None, left=1)

    async def _drain(self, which: int) -> None:
        with contextlib.suppress(trio.ClosedResourceError):
            while data := await self._outputs[which].receive_some(_READ_BYTES):
                self._printed += len(data)
                if which == 1 and self._spec.keep_stderr:
                    self._tail = (self._tail + bytes(data))[-_TAIL_BYTES:]
                if self._printed > self._spec.max_output_bytes and self.verdict is None:
                    limit = self._spec.max_output_bytes
                    self.condemn(WorkerKilled("flood", f"{self} was killed: it printed more than {limit} bytes"))
                    self.order(wire.KILL)
                if len(data) == _READ_BYTES:
                    await trio.sleep(_DRAIN_PAUSE_S)

    def condemn(self, verdict: Exception) -> None:
        """Say why it has to end; the first reason stays."""
        self.verdict = self.verdict or verdict

    def order(self, order: bytes) -> None:
        """Tell the keeper, which always listens; without one there is nothing left to tell."""
        with contextlib.suppress(OSError):
            os.write(self._control.fileno(), order)  # a packet, at once: the socket does not block

    async def end(self, verdict: Exception) -> None:
        """End it and all that it started: SIGTERM, and SIGKILL `grace_s` later. `watch` has to run meanwhile.

        Returns when `gone` is set, or _FORCE_S seconds after the SIGKILL. Not cancellable.
        """
        if self.gone.is_set():
            return  # its keeper may have another one by now
        self.condemn(verdict)
        with trio.CancelScope(shield=True):
            self.order(wire.TERM)
            with trio.move_on_after(self._spec.grace_s):
                await self.gone.wait()
            if not self.gone.is_set():
                self.order(wire.KILL)
                with trio.move_on_after(_FORCE_S):
                    await self.gone.wait()

    async def leave(self, grace_s: float) -> None:
        """Close everything that leads to it, and give it `grace_s` seconds to end by itself. Nobody may watch it."""
        await trio.aclose_forcefully(self._link)
        if self._ended is None:
            with trio.move_on_after(grace_s):
                await self._see_end()
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the descriptors. A request reads what the link holds, and then its end, whoever else has it."""
        if self.busy:
            with contextlib.suppress(OSError):  # not connected any more
                self._link.socket.shutdown(socket.SHUT_RDWR)
        for stream in self._outputs if self.busy else (self._link, *self._outputs):
            await trio.aclose_forcefully(stream)

    def cause_of_end(self) -> Exception:
        """Why it ended, once it has: the verdict, or what the system says."""
        if self.verdict is not None:
            return self.verdict
        ended = self._ended
        if ended is None or ended.code is None:
            how = "is lost with its keeper"
        elif ended.code < 0:
            how = f"was killed by {_signal_name(-ended.code)}"
        else:
            how = f"ended with exit code {ended.code}"
        doing = " while it worked on a request" if self.busy else ""
        more = f"; {ended.ended} processes that it had left behind were killed" if ended and ended.ended else ""
        tail = self._tail.decode(errors="replace").strip()
        return WorkerEnded(f"{self} {how}{doing}{more}" + (f"; its stderr ends with:\n{tail}" if tail else ""))

    # Requests

    async def perform(self, request: Value, emit: Emit | None, answer: Answer | None = None) -> Value:
        """Have the target work on one request. Whoever cancels this has to `end` the worker.

        `answer` is awaited with what the target asks; without it, and where it raises, the worker is killed.

        Raises:
            TypeError: the request is no JSON.
            ValueError: likewise, or it is too large.
            WorkerError, WorkerKilled, WorkerEnded: as `Perform` says.

        """
        self._number += 1
        data = wire.encode(wire.CALL, self._number, request, self._spec.max_frame_bytes)
        self._printed = 0
        self.busy = True
        try:
            await self._link.send_all(data)
            return await self._answer(emit, answer)
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            await self._why_silent()
        finally:
            self.busy = False
            if self.gone.is_set():
                self._link.socket.close()

    async def _answer(self, emit: Emit | None, answer: Answer | None) -> Value:
        while True:
            kind, number, payload = await self._next_frame()
            late = number < self._number and kind & ~wire.BYTES == wire.CHUNK  # a thread that the target left behind
            if number != self._number and not late:
                raise self._broken(f"it answered request {number} when it had number {self._number}")
            match kind & ~wire.BYTES:
                case wire.CHUNK:
                    if emit is not None and not late:
                        await self._hand_over(emit, self._decode(kind, payload))
                case wire.ASK:
                    await self._tell(answer, self._decode(kind, payload))
                case wire.RESULT:
                    return self._decode(kind, payload)
                case wire.ERROR:
                    if len(payload) > _ERROR_BYTES:
                        raise self._broken(f"it sent an error of {len(payload)} bytes")
                    raise self._checked(_remote, payload)
                case wire.EXHAUSTED:
                    raise WorkerKilled("memory", f"{self} was killed: the request needed more memory than it may have")
                case _:
                    raise self._broken(f"it sent a frame of unknown kind {kind}")

    async def _hand_over(self, emit: Emit, value: Value) -> None:
        try:
            await emit(value)
        except Exception as error:
            why = f"{self} was killed: its output was not taken: {error!r}"
            raise WorkerKilled("unread", why) from error

    async def _tell(self, answer: Answer | None, question: Value) -> None:
        """Answer what the target asks. Nothing else of it is read meanwhile: whoever wants to emit waits."""
        if self.gone.is_set():
            raise EOFError
        if answer is None:
            raise WorkerKilled("unanswered", f"{self} was killed: it asked, and nobody answers there")
        try:
            data = wire.encode(wire.ANSWER, self._number, await answer(question), self._spec.max_frame_bytes)
        except Exception as error:
            raise WorkerKilled("unanswered", f"{self} was killed: there is no answer to it: {error!r}") from error
        await self._link.send_all(data)

    async def _next_frame(self) -> tuple[int, int, bytes]:
        """Raises EOFError and trio.BrokenResourceError at the end of the link, WorkerBroken for what is no frame."""
        while True:
            try:
                whole = self._frames.next()
            except wire.FrameTooLarge as error:
                raise self._broken(str(error)) from None
            if whole is not None:
                return whole
            data = await self._link.receive_some(_READ_BYTES)
            if not data:
                raise EOFError
            self._frames.feed(bytes(data))

    async def _why_silent(self) -> NoReturn:
        """Raise why the link has ended."""
        half = self._frames.pending
        with trio.move_on_after(_EOF_S):
            await self.gone.wait()
        if not self.gone.is_set():
            raise self._broken("it closed its link")
        cause = self.cause_of_end()
        if half and self.verdict is None:
            raise WorkerBroken(f"{cause}; it left half a frame of {half} bytes")
        raise cause

    def _decode(self, kind: int, payload: bytes) -> Value:
        limit = self._spec.max_json_bytes
        if limit is not None and len(payload) > limit and not kind & wire.BYTES:
            raise self._broken(f"it sent {len(payload)} bytes of JSON; the limit is {limit}")
        value: Value = self._checked(lambda data: wire.decode(kind, data), payload)
        return value

    def _checked(self, parse: Callable[[bytes], Any], payload: bytes) -> Any:
        try:
            return parse(payload)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._broken(f"it sent a frame that cannot be read: {error!r:.300}") from None

    def _broken(self, what: str) -> WorkerBroken:
        return WorkerBroken(f"{self} breaks the protocol: {what}")


def _remote(payload: bytes) -> WorkerError:
    fields = json.loads(payload)
    return WorkerError(str(fields["type"]), str(fields["message"]), str(fields["traceback"]))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
