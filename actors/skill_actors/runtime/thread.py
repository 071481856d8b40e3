"""ThreadActor: pykka's actor on a thread of its own, for what blocks; supervised like any other actor.

A guardian, a trio task in the supervisor's nursery, stands for the thread, so that the task tree stays the supervision
tree. on_start -> messages -> on_stop, or on_failure after a crash: all of it runs in the thread.
Rules, those of TrioActor as far as a thread can keep them:
- nothing can interrupt a thread. A stop is seen when the running call returns; `shutdown_s` seconds after it (at the
  start: after `start_timeout_s`) the thread is *given up*: whoever waits for it is answered, the actor counts as ended
  and may be replaced, no hook runs any more, and the thread ends by itself if its call ever returns;
- given-up threads are counted, and a class with `max_leaked` of them that still hang is not started again: a leak ends
  in a failed start, not in a machine without threads;
- a BaseException such as SystemExit asks for the ordered shutdown of the system; pykka's `stop_all` is never called.
The thread tells the guardian by the trio token; the guardian tells the thread by the mailbox.
"""

from __future__ import annotations

import contextvars
import inspect
import logging
import math
import threading
import uuid
from collections.abc import Callable
from time import perf_counter
from typing import Any, ClassVar, Final, NoReturn, Self, TypeVarTuple, cast

import pykka
import trio
from pykka import ActorDeadError
from pykka._actor import ActorInbox
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from skill_actors.runtime.cell import Cell, Phase
from skill_actors.runtime.context import Context
from skill_actors.runtime.errors import Reject
from skill_actors.runtime.exit import ExitKind, ExitReason, detached, format_error
from skill_actors.runtime.future import TrioFuture
from skill_actors.runtime.messages import Stop
from skill_actors.runtime.ref import TrioActorRef, as_event
from skill_actors.runtime.thread_mailbox import ThreadMailbox

__all__ = ["ThreadActor", "threads_leaked"]

Ts = TypeVarTuple("Ts")
_Envelope = Envelope[Any]

_NORMAL: Final = ExitReason(ExitKind.NORMAL)
_HOOKS: Final = ("on_start", "on_receive", "on_tick", "on_stop", "on_failure")
_log = logging.getLogger(__name__)


class ThreadActor(pykka.ThreadingActor):
    """Base of actors that block. Override the hooks, none of them async; start it under a supervisor.

    A handler's return value answers an ask. `raise Reject(...)` answers it with a refusal; any other exception
    reaches the asker and crashes the actor. Whatever a handler waits for needs a time limit of its own.

    Class attributes:
        mailbox_capacity: messages it holds before senders wait and `tell` from trio raises MailboxFull.
        tick_s: seconds without a message after which `on_tick` is called, again and again; None for never.
        max_leaked: threads of the class that may hang, given up, before its start is refused.

    Raises:
        TypeError: when a subclass with an async hook is defined.

    """

    use_daemon_thread: ClassVar[bool] = True
    mailbox_capacity: ClassVar[int] = 64
    max_leaked: ClassVar[int] = 10
    tick_s: float | None = None  # an instance may set its own before it starts

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _HOOKS:
            if inspect.iscoroutinefunction(getattr(cls, name)):
                raise TypeError(f"{cls.__name__}.{name} is async, but runs in a thread: use a TrioActor")

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # Not pykka's own, which makes a ref of its own kind and a second inbox.
        self.actor_urn = uuid.uuid4().urn
        mailbox = ThreadMailbox(type(self).__name__, self.mailbox_capacity)
        self.actor_inbox = self._thread_mailbox = mailbox
        self._cell = Cell(mailbox, interruptible=False)
        self.actor_stopped = as_event(self._cell)
        self._actor_ref = TrioActorRef(self)
        self._given_up = False

    @staticmethod
    def _create_actor_inbox() -> ActorInbox:
        return ThreadMailbox("actor", ThreadActor.mailbox_capacity)

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return TrioFuture()

    def _start_actor_loop(self) -> NoReturn:
        pykka.ActorRegistry.unregister(self.actor_ref)
        name = type(self).__name__
        raise RuntimeError(f"{name}.start() has no guardian to tell: give it to a supervisor (ChildSpec, or spawn())")

    @property
    def actor_ref(self) -> TrioActorRef[Self]:
        """This actor's address."""
        return cast("TrioActorRef[Self]", self._actor_ref)

    def on_tick(self) -> None:
        """No message came for `tick_s` seconds. An exception crashes the actor."""

    def post(self, job: Callable[[*Ts], object], *args: *Ts) -> None:
        """Call `job(*args)` soon on the trio thread; dropped if the trio run is over. It must not raise or wait.

        Raises:
            RuntimeError: before the actor is started.

        """
        try:
            self._runtime_context().token.run_sync_soon(job, *args)
        except trio.RunFinishedError:
            _log.debug("%s is given up and outlived its system", type(self).__name__)

    # For supervisors

    def _runtime_context(self) -> Context:
        if self._cell.context is None:
            raise RuntimeError(f"{type(self).__name__} is not started yet: a supervisor has to")
        return self._cell.context

    async def _runtime_live(self, start_timeout_s: float, shutdown_s: float) -> ExitReason:
        """The guardian's task. Raises only cancellation; the cell is finished in any case."""
        guardian = _Guardian(self)
        reason = ExitReason(ExitKind.KILLED)
        try:
            reason = await guardian.live(start_timeout_s, shutdown_s)
        finally:
            guardian.finish(reason)
        return reason

    # In the thread

    def _runtime_thread(self, guardian: _Guardian) -> None:
        reason = ExitReason(ExitKind.CRASH)
        try:
            reason = self._runtime_work(guardian)
        finally:
            self.post(guardian.end, reason)

    def _runtime_work(self, guardian: _Guardian) -> ExitReason:
        try:
            self.on_start()
        except BaseException as error:
            return ExitReason(ExitKind.INIT, error)
        self._thread_mailbox.idle = True
        self.post(guardian.started.set)
        reason = self._runtime_serve()
        self.post(guardian.closing.set)
        _refuse_all(self._thread_mailbox.close())
        killed = self._given_up or reason.kind is ExitKind.KILLED  # the second where it saw the kill first
        if killed:
            return reason
        self._thread_mailbox.idle = False
        return self._runtime_close(reason)

    def _runtime_serve(self) -> ExitReason:
        """Handle messages until there is a reason to end."""
        while True:
            self._cell.progress_at = 0.0
            item = self._thread_mailbox.take(self.tick_s)
            if isinstance(item, Stop):
                return item.reason
            self._cell.progress_at = perf_counter()
            reason = self._runtime_tick() if item is None else self._runtime_dispatch(item)
            if reason is not None:
                return reason

    def _runtime_tick(self) -> ExitReason | None:
        try:
            self.on_tick()
        except BaseException as error:
            return ExitReason(ExitKind.CRASH, error)
        return None

    def _runtime_dispatch(self, envelope: _Envelope) -> ExitReason | None:
        reply = cast("TrioFuture[Any] | None", envelope.reply_to)
        if reply is not None and reply.abandoned:
            self._thread_mailbox.settle()
            return None
        if isinstance(envelope.message, _ActorStop):
            return _NORMAL  # not settled: the guardian answers it, at the very end
        try:
            result = self._handle_receive(envelope.message)
        except BaseException as error:
            return self._runtime_failed(reply, error)
        if self._thread_mailbox.settle() is not None and reply is not None:
            reply.set(result)
        return None

    def _runtime_failed(self, reply: TrioFuture[Any] | None, error: BaseException) -> ExitReason | None:
        """What a handler's exception means: an answer, or an answer and the end."""
        if self._thread_mailbox.settle() is None:
            reply = None
        if isinstance(error, Reject):
            if reply is not None:
                reply.fail(error)
            return None
        if reply is None:
            return ExitReason(ExitKind.CRASH, error)
        kept = detached(error)
        reply.fail(error if isinstance(error, Exception) else ActorDeadError(f"{self.actor_ref} ended: {error!r}"))
        return ExitReason(ExitKind.CRASH, kept)

    def _runtime_close(self, reason: ExitReason) -> ExitReason:
        error = reason.error
        try:
            if reason.kind is ExitKind.CRASH:
                self.on_failure(type(error) if error else None, error, error.__traceback__ if error else None)
            else:
                self.on_stop()
        except BaseException as again:
            if not (reason.abnormal and isinstance(again, Exception)):
                return ExitReason(ExitKind.CRASH, again)
            _log.error("%s failed again while it stopped:\n%s", type(self).__name__, format_error(again))
        return reason


class _Guardian:
    """The trio side of one thread. `end` and the setters of the events are called on the trio thread."""

    def __init__(self, actor: ThreadActor) -> None:
        self._actor = actor
        self._cell = actor._cell
        self.started = trio.Event()
        self.closing = trio.Event()
        self.ended = trio.Event()
        self._reason: ExitReason | None = None
        self._thread: threading.Thread | None = None

    def end(self, reason: ExitReason) -> None:
        """The thread is about to end."""
        self._reason = reason
        for event in (self.started, self.closing, self.ended):
            event.set()

    async def live(self, start_timeout_s: float, shutdown_s: float) -> ExitReason:
        """Start the thread and wait for its end, or for the moment it is given up; why it ended."""
        cell = self._cell
        cell.enter(Phase.STARTING)
        if (asked := cell.asked_to_stop()) is not None:
            return asked
        try:
            self._start_thread()
        except RuntimeError as error:
            return ExitReason(ExitKind.INIT, error)
        if not await self._wait(self.started, start_timeout_s):
            late = TimeoutError(f"{type(self._actor).__name__} was not set up within {start_timeout_s} s")
            return cell.asked_to_stop() or ExitReason(ExitKind.INIT, late)
        if self._reason is None or self._reason.kind is not ExitKind.INIT:  # it may have served and ended since
            cell.enter(Phase.RUNNING)
            await self._wait(self.closing, math.inf)
            cell.enter(Phase.CLOSING)
        # Who was asked to stop is killed by its supervisor in time; who ends by itself has `shutdown_s` seconds.
        await self._wait(self.ended, shutdown_s if cell.stop_reason is None or cell.self_bounded else math.inf)
        if self._reason is not None:
            return self._reason
        late = TimeoutError(f"{type(self._actor).__name__} did not end within {shutdown_s} s")
        return ExitReason(ExitKind.KILLED, None if cell.killed else late)

    def finish(self, reason: ExitReason) -> None:
        """The actor is gone, whatever its thread does, and whatever fails on the way: else a stop would never end."""
        actor, cell, mailbox = self._actor, self._cell, self._actor._thread_mailbox
        try:
            if self._reason is None and self._thread is not None:
                self._give_up(actor, mailbox)
            _refuse_all(mailbox.close())
        except Exception:
            _log.exception("a %s has ended, and not everybody who waited for it could be told", type(actor).__name__)
        finally:
            cell.finish(reason)
        if (current := mailbox.settle()) is not None:  # of the given-up, or pykka's stop
            _refuse_all([current])

    def _give_up(self, actor: ThreadActor, mailbox: ThreadMailbox) -> None:
        actor._given_up = True
        mailbox.put_control(Stop(ExitReason(ExitKind.KILLED)))
        if self._thread is not None and not mailbox.idle:  # else it ends at once
            _leaks.add(type(actor), self._thread)
            actor._runtime_context().tally.add("threads_leaked", type(actor).__name__)
            _log.error("the thread of %s hangs and is given up", type(actor).__name__)

    def _start_thread(self) -> None:
        """Raises RuntimeError if there can be no more threads, or may be no more of this class."""
        actor = self._actor
        if _leaks.count(type(actor)) >= actor.max_leaked:
            name = type(actor).__name__
            raise RuntimeError(
                f"{actor.max_leaked} threads of {name} were given up and still hang: no more are started"
            )
        thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(actor._runtime_thread, self),
            name=trio.lowlevel.current_task().name,
            daemon=actor.use_daemon_thread,
        )
        thread.start()
        self._thread = thread

    async def _wait(self, event: trio.Event, limit_s: float) -> bool:
        """Wait for the thread to say so; False if it did not in time, or the actor was killed.

        A mere request to stop is no reason to leave: the thread sees it by itself.
        """
        deadline = trio.current_time() + limit_s
        while not (event.is_set() or self._cell.killed or trio.current_time() >= deadline):
            with trio.CancelScope(deadline=deadline) as self._cell.scope:
                await event.wait()
            self._cell.scope = None
        return event.is_set()


class _Leaks:
    """Threads that were given up, by class. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: list[tuple[type[ThreadActor], threading.Thread]] = []

    def add(self, kind: type[ThreadActor], thread: threading.Thread) -> None:
        with self._lock:
            self._threads.append((kind, thread))

    def count(self, kind: type[ThreadActor] | None = None) -> int:
        """How many of them still run; of one class, or of all."""
        with self._lock:
            self._threads = [entry for entry in self._threads if entry[1].is_alive()]
            return sum(kind is None or owner is kind for owner, _ in self._threads)


_leaks: Final = _Leaks()


def threads_leaked() -> int:
    """How many threads of this process were given up and still run."""
    return _leaks.count()


def _refuse_all(envelopes: list[_Envelope]) -> None:
    """Answer messages that will not be handled, or not to their end."""
    for envelope in envelopes:
        reply, message = envelope.reply_to, envelope.message
        if isinstance(reply, TrioFuture) and isinstance(message, _ActorStop):
            reply.set(None)
        elif isinstance(reply, TrioFuture):
            name = type(message).__name__
            reply.fail(ActorDeadError(f"the actor stopped before it answered {name}; look it up again"))
