"""Native skills in this very process: as fast as a call, with all that the program has, and unprotected from it.

Each skill has one instance, which serves all conversations. Plain functions run in threads of a limiter of their own,
so that the event loop goes on; `async def` functions run on it, and are ended at their next checkpoint. Rules:

- a thread cannot be killed. One that goes on after its time, or its cancel, is left alone: the result says so, it is
  counted, and what it was lent (a thread, its skill's turn) comes back when it ends. Nobody waits for it;
- a skill that does not declare `parallel` has one call at a time, of all conversations, and an abandoned one counts;
- what a skill does not give back it lacks itself: it has its share of the threads, and a constructor that hangs is not
  begun again while it does;
- output and questions of a call that is over reach nobody.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn, cast

import trio

from skill_actors.native import Context, NativeCode
from skill_actors.native.answers import answer_bytes
from skill_actors.native.code import forget_class, load_beside
from skill_actors.runtime import WorkerError

from .exposed import Exposed
from .workers import Host

__all__ = ["InlineLate", "InlineNatives"]

Version = tuple[str, str]  # of a NativeCode: skill and version
Emit = Callable[[Any], Awaitable[None]]

_SWEEP_EVERY_S: Final = 5.0
_MAX_WAITING: Final = 1_000  # pieces of output of an asynchronous function that nobody has taken yet

_OVER: Final = {"kind": "gone", "error": "the call is over"}

_log = logging.getLogger(__name__)


class InlineLate(Exception):
    """A call in this process was not over in time."""


@dataclass(slots=True, eq=False)
class _Skill:
    """One version's instance."""

    instance: Any
    turns: trio.CapacityLimiter | None  # None where calls may run at the same time
    threads: trio.CapacityLimiter
    calls: int = 0
    used_at: float = 0.0


@dataclass(slots=True, eq=False)
class _Making:
    """Of one version's instance: one call makes it, and others wait for that."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    thread: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))

    @property
    def is_busy(self) -> bool:
        return self.lock.locked() or self.thread.borrowed_tokens > 0


@dataclass(slots=True, eq=False)
class _Call:
    """What a call's function and the event loop know of each other."""

    in_thread: bool
    begun: bool = False
    over: bool = False  # nobody waits for it any more; threads read it
    abandoned: bool = False
    ended: bool = False  # its function
    waits: set[trio.CancelScope] = field(default_factory=set)  # in which its threads wait for the event loop

    async def while_wanted(self, work: Callable[[Any], Awaitable[Any]], argument: Any, otherwise: Any) -> Any:
        """What it gives for a thread of this call; `otherwise`, at once, when the call is over."""
        with trio.CancelScope() as scope:
            self.waits.add(scope)
            try:
                if not self.over:
                    return await work(argument)
            finally:
                self.waits.discard(scope)
        return otherwise

    def end(self) -> None:
        """Nobody waits for it any more."""
        self.over = True
        for scope in self.waits:
            scope.cancel()


class InlineNatives:
    """Runs the code of native skills in this process. For the trio thread.

    Args:
        host: has the actors that skills may ask.
        threads: plain functions that run at the same time at most; further calls wait.
        per_skill: of them, those of one skill at most.
        idle_s: seconds without a call after which the instance of a version that is not in force is forgotten.

    Attributes:
        abandoned: threads that still run a call which nobody waits for.

    """

    def __init__(self, host: Host, *, threads: int = 32, per_skill: int = 16, idle_s: float = 300.0) -> None:
        self.abandoned = 0
        self._exposed = Exposed(host.expose)
        self._threads = trio.CapacityLimiter(threads)
        self._per_skill = per_skill
        self._idle_s = idle_s
        self._skills: dict[Version, _Skill] = {}
        self._making: dict[Version, _Making] = {}

    def offer(self, code: NativeCode, instance: Any) -> None:
        """Have calls of this code answered by this object."""
        turns = None if getattr(instance, "parallel", False) else trio.CapacityLimiter(1)
        self._skills[code.skill, code.version] = _Skill(instance, turns, trio.CapacityLimiter(self._per_skill))

    async def call(self, code: NativeCode, request: Mapping[str, Any], *, timeout_s: float, emit: Emit) -> bytes:
        """Answer one call, as `NativeProcesses.call` does.

        If it is cancelled, a plain function may go on, unheard, after this has returned.

        Raises:
            WorkerError: the skill's code raised, or returned what no model can read.
            InlineLate: it was not over in time.

        """
        call: _Call | None = None
        with trio.move_on_after(timeout_s):
            deadline = time.monotonic() + timeout_s
            skill = await self._skill(code)
            function = _unwrapped(_caught(lambda: getattr(skill.instance, request["kind"])))
            call = _Call(in_thread=not inspect.iscoroutinefunction(function))
            context = self._context(code, request, call, deadline)
            skill.calls += 1
            try:
                run = self._in_thread if call.in_thread else self._on_loop
                answer: bytes = await run(functools.partial(function, **request["input"]), context, skill, call, emit)
                return answer
            finally:
                call.end()
                skill.calls -= 1
                skill.used_at = trio.current_time()
        raise InlineLate(self._why_late(code.skill, call, timeout_s))

    async def keep(self, current: Callable[[], Collection[Version] | None] = lambda: None) -> None:
        """Forget what is not needed, for ever. `current`: the versions in force; None where all are."""
        while True:
            await trio.sleep(_SWEEP_EVERY_S)
            self.sweep(current())

    def sweep(self, current: Collection[Version] | None = None) -> int:
        """Forget the instances of versions that are not in force and had no call for long; how many."""
        now = trio.current_time()
        due = [
            version
            for version, skill in self._skills.items()
            if current is not None and version not in current and not skill.calls and now - skill.used_at > self._idle_s
        ]
        for version in due:
            del self._skills[version]
            forget_class(*version)
        self._making = {version: making for version, making in self._making.items() if making.is_busy}
        return len(due)

    async def _skill(self, code: NativeCode) -> _Skill:
        """Whose call it is; made with the first one. Raises WorkerError."""
        version = (code.skill, code.version)
        if version not in self._skills:
            making = self._making.setdefault(version, _Making())
            async with making.lock:
                if version not in self._skills:
                    maker = _Call(in_thread=True)
                    made = await self._thread(lambda: load_beside(code)(), maker, making.thread, self._threads)
                    self.offer(code, _unwrapped(made))
        return self._skills[version]

    def _context(self, code: NativeCode, request: Mapping[str, Any], call: _Call, deadline: float) -> Context:
        workspace = Path(request["workspace"])
        return Context(
            session=request["session"],
            workspace=workspace,
            skill_dir=Path(code.root),
            allowed_paths=(workspace, *map(Path, request["readable"])),
            deadline=deadline,
            environment=request["environment"],
            asker=_refuse_to_block,
            awaiter=self._answer,
            wanted=lambda: not call.over,
        )

    async def _answer(self, question: Mapping[str, Any]) -> Any:
        return await self._exposed.answer(json.loads(json.dumps(question)))  # as from another process: nothing shared

    def _why_late(self, skill: str, call: _Call | None, timeout_s: float) -> str:
        if call is None:
            return f"skill {skill!r} was not made within {timeout_s:g} s"
        if not call.begun:
            left = f", {self.abandoned} of them abandoned" if self.abandoned else ""
            return f"skill {skill!r} was busy with other calls{left} for {timeout_s:g} s"
        late = f"the call took longer than {timeout_s:g} s"
        if not call.in_thread:
            return f"{late} and was ended"
        return (
            f"{late}. It runs in the program's own process, where it cannot be killed: it was left alone and may go on"
        )

    async def _in_thread(
        self, work: Callable[..., Any], context: Context, skill: _Skill, call: _Call, emit: Emit
    ) -> bytes:
        token = trio.lowlevel.current_trio_token()

        def say(text: str) -> None:
            data = str(text).encode(errors="replace")
            trio.from_thread.run(call.while_wanted, emit, data, None, trio_token=token)

        def ask(question: Mapping[str, Any]) -> Any:
            return trio.from_thread.run(call.while_wanted, self._answer, question, _OVER, trio_token=token)

        told = replace(context, emit=say, asker=ask)
        limiters = (skill.turns, skill.threads, self._threads)
        data: bytes = _unwrapped(await self._thread(lambda: answer_bytes(work(context=told)), call, *limiters))
        return data

    async def _thread(self, work: Callable[[], Any], call: _Call, *limiters: trio.CapacityLimiter | None) -> Any:
        """What it returns, or a _Failure. If this is cancelled, its thread goes on."""
        # A limiter of ours: what it lends comes back when the thread ends, however long nobody waits for it.
        limiter = cast("trio.CapacityLimiter", _Turn(self, call, *limiters))
        try:
            return await trio.to_thread.run_sync(_caught, work, abandon_on_cancel=True, limiter=limiter)
        except trio.Cancelled:
            if call.begun and not call.ended:
                call.abandoned = True
                self.abandoned += 1
                _log.warning("a native skill's thread goes on after its call; there are %d of them", self.abandoned)
            raise

    async def _on_loop(
        self, work: Callable[..., Any], context: Context, skill: _Skill, call: _Call, emit: Emit
    ) -> bytes:
        send, receive = trio.open_memory_channel[bytes](_MAX_WAITING)

        def say(text: str) -> None:
            try:
                send.send_nowait(str(text).encode(errors="replace"))
            except trio.WouldBlock:
                raise RuntimeError("output comes faster than it is taken: await something between the pieces") from None

        turn = _Turn(self, call, skill.turns)
        await turn.acquire_on_behalf_of(call)
        done: Any = None
        try:
            async with trio.open_nursery() as nursery, send:
                nursery.start_soon(_pump, receive, emit, untaken := list[Exception](), nursery.cancel_scope)
                try:
                    done = answer_bytes(await work(context=replace(context, emit=say)))
                except BaseException as error:
                    if _is_cancelled(error):
                        raise
                    done = _failure(error)  # SystemExit too, as in a thread
            if untaken:
                done = _failure(RuntimeError(f"its output was not taken: {untaken[0]!r}"))
        finally:
            turn.release_on_behalf_of(call)
        data: bytes = _unwrapped(done)
        return data


class _Turn:
    """Lends a call what it needs to run: its skill's turn, and a thread if it runs in one. A limiter."""

    def __init__(self, natives: InlineNatives, call: _Call, *limiters: trio.CapacityLimiter | None) -> None:
        self._natives = natives
        self._call = call
        self._limiters = [limiter for limiter in limiters if limiter is not None]

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Wait for all of it."""
        with contextlib.ExitStack() as undo:
            for limiter in self._limiters:
                await limiter.acquire_on_behalf_of(borrower)
                undo.callback(limiter.release_on_behalf_of, borrower)
            undo.pop_all()
        self._call.begun = True

    def release_on_behalf_of(self, borrower: object) -> None:
        """The function has ended. Called on the trio thread, also for a thread that nobody waits for."""
        for limiter in self._limiters:
            limiter.release_on_behalf_of(borrower)
        self._call.ended = True
        if self._call.abandoned:
            self._natives.abandoned -= 1


async def _pump(
    receive: trio.MemoryReceiveChannel[bytes], emit: Emit, untaken: list[Exception], scope: trio.CancelScope
) -> None:
    """Hand output on; cancel the call where it is not taken."""
    async with receive:
        async for piece in receive:
            try:
                await emit(piece)
            except Exception as error:
                untaken.append(error)
                scope.cancel()


def _refuse_to_block(_question: Mapping[str, Any]) -> NoReturn:
    raise RuntimeError("this function runs on the event loop: await context.ask_async(...) or tell_async")


def _is_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_cancelled, error.exceptions))
    return isinstance(error, trio.Cancelled)


@dataclass(frozen=True, slots=True)
class _Failure:
    """What the skill's code raised."""

    error: WorkerError


def _caught(work: Callable[[], Any]) -> Any:
    """What it returns, or a _Failure: whatever it raises, SystemExit too, is its own affair and not this program's."""
    try:
        return work()
    except BaseException as error:
        return _failure(error)


def _failure(error: BaseException) -> _Failure:
    try:
        message = str(error)
    except Exception:
        message = "(its text cannot be made)"
    return _Failure(WorkerError(type(error).__qualname__, message[:2_000], "".join(traceback.format_exception(error))))


def _unwrapped(done: Any) -> Any:
    if isinstance(done, _Failure):
        raise done.error
    return done
