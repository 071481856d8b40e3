"""TrioActor: pykka's actor contract on a trio task. What a class may override and use; how it is run is in life.py.

One message at a time. A sync handler runs to its end; an async one is awaited inside a cancel scope, so that a stop,
an interrupt and a kill reach it. Long-lived work beside the messages (an accept loop, a watcher): `self.spawn(job)`.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, NoReturn, Self, TypeVarTuple, cast

import pykka
from pykka._actor import ActorInbox

from skill_actors.runtime.cell import Cell
from skill_actors.runtime.context import Context
from skill_actors.runtime.directory import Directory
from skill_actors.runtime.exit import ExitReason
from skill_actors.runtime.future import TrioFuture
from skill_actors.runtime.inline import INLINE_CALLS
from skill_actors.runtime.life import live, run_job
from skill_actors.runtime.links import link, unlink
from skill_actors.runtime.mailbox import Mailbox, Overflow
from skill_actors.runtime.messages import Control, Down
from skill_actors.runtime.ref import TrioActorRef, as_event

__all__ = ["TrioActor"]

Ts = TypeVarTuple("Ts")


class TrioActor(pykka.Actor):
    """Base of actors. Override the hooks; start it under a supervisor. Messages: override `on_receive`, sync or async.

    A handler's return value answers an ask. `raise Reject(...)` answers it with a refusal; any other exception
    reaches the asker and crashes the actor.

    Class attributes:
        mailbox_capacity: messages it holds before senders wait and `tell` raises MailboxFull.
        slice_messages, slice_s: how many messages, for how many seconds, before other tasks have their turn.
        overflow: what a full mailbox does: see Overflow.
        inline: whether a `call` to it while it is idle runs a sync handler inside the caller's task, which is several
            times faster. Such a call lets other tasks run only every 32nd time. For handlers that are short and sync.
        trap_exits: whether the end of a linked actor comes to `on_down`, instead of ending this one.
        interruptible: whether a stop cancels the running handler; if not, it waits for it, until the kill.

    """

    mailbox_capacity: ClassVar[int] = 1024
    overflow: ClassVar[Overflow] = Overflow.RAISE
    inline: ClassVar[bool] = False
    trap_exits: ClassVar[bool] = False
    slice_messages: ClassVar[int] = 32
    slice_s: ClassVar[float] = 0.0005
    interruptible: ClassVar[bool] = True

    # Whether a class waits at its start and end. Most idle actors do not, and a cancel scope is a third of a stop.
    _runtime_starts_async: ClassVar[bool] = False
    _runtime_ends_async: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._runtime_starts_async = cls.setup is not TrioActor.setup
        releases = cls._runtime_release is not TrioActor._runtime_release
        cls._runtime_ends_async = releases or cls.teardown is not TrioActor.teardown

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # Not pykka's own: its threading.Event alone is 1.2 KB, a third of an idle actor.
        self.actor_urn = uuid.uuid4().urn
        mailbox = Mailbox(type(self).__name__, self.mailbox_capacity, self.overflow)
        self.actor_inbox = mailbox
        self._cell = Cell(mailbox, interruptible=self.interruptible)
        if self.inline:
            self._cell.inline_left = INLINE_CALLS
        self.actor_stopped = as_event(self._cell)
        self._actor_ref = self._runtime_ref()

    @staticmethod
    def _create_actor_inbox() -> ActorInbox:
        return Mailbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return TrioFuture()

    def _start_actor_loop(self) -> NoReturn:
        pykka.ActorRegistry.unregister(self.actor_ref)
        name = type(self).__name__
        raise RuntimeError(f"{name}.start() has no task to run in: give it to a supervisor (ChildSpec, or spawn())")

    @property
    def actor_ref(self) -> TrioActorRef[Self]:
        """This actor's address."""
        return cast("TrioActorRef[Self]", self._actor_ref)

    @property
    def directory(self) -> Directory:
        """Names of the system this actor runs in.

        Raises:
            RuntimeError: before the actor is started.

        """
        return self._runtime_context().directory

    async def setup(self) -> None:
        """Async twin of `on_start`, run after it; messages wait until it is done, at most `start_timeout_s`.

        If it raises, the start failed: no other hook runs, so it must undo what it did itself.
        """

    async def teardown(self, reason: ExitReason) -> None:
        """Async twin of `on_stop` and `on_failure`, run after them; cancelled only by the kill at `shutdown_s`.

        Not run after a failed start or a kill.
        """

    def on_down(self, down: Down) -> Any:
        """An actor given to `monitor` has ended, or a linked one if the class traps exits. May be async."""

    def monitor(self, ref: TrioActorRef[Any]) -> object:
        """Have `on_down` called once when the actor behind `ref` ends, at once if it has; a key for `demonitor`."""
        key = object()
        mailbox = self._cell.mailbox
        ref._cell.monitor(key, lambda reason: mailbox.put_control(Down(ref, reason)))
        return key

    def demonitor(self, ref: TrioActorRef[Any], key: object) -> bool:
        """Take a monitor back; False if it has fired already."""
        return ref._cell.demonitor(key)

    def link(self, ref: TrioActorRef[Any]) -> None:
        """Tie this actor and the one behind `ref` together: if one ends, but for a NORMAL end, so does the other.

        It ends with the same kind of exit (CRASH if the other failed to start) and a LinkedActorEnded that names the
        other, at once: a running handler is cancelled if the class is `interruptible`. If the class says `trap_exits`,
        every end of the other comes to `on_down` instead. Linking to a dead actor does so at once. Links are made once,
        however often they are asked for, and are gone with either actor: an actor that was restarted has none.
        """
        link(self.actor_ref, ref)

    def unlink(self, ref: TrioActorRef[Any]) -> bool:
        """Take a link back, both ways; False if there is none."""
        return unlink(self.actor_ref, ref)

    def spawn(self, job: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Run `job(*args)` beside the messages, in a nursery that lives as long as the actor serves.

        Called in `setup` or in a handler, it starts once that has returned (at once if other jobs run already).
        If the job raises, the actor crashes with that error; if it returns, nothing happens. When the actor stops
        or crashes, jobs are cancelled and awaited first, then the stop hooks run. A job talks to its actor by
        messages to `self.actor_ref`; plain attributes are safe between two awaits, since all is one thread.
        """
        cell = self._cell
        if cell.job_nursery is not None:
            cell.job_nursery.start_soon(run_job, cell, job, args)
        else:
            cell.jobs = [*(cell.jobs or ()), (job, args)]

    # For supervisors

    def _runtime_ref(self) -> TrioActorRef[Any]:
        return TrioActorRef(self)

    def _runtime_context(self) -> Context:
        if self._cell.context is None:
            raise RuntimeError(f"{type(self).__name__} is not started yet: a supervisor has to")
        return self._cell.context

    def _runtime_live(self, start_timeout_s: float, shutdown_s: float) -> Coroutine[Any, Any, ExitReason]:
        """The whole life, to be awaited in the actor's task; a plain function, since each frame costs memory."""
        return live(self, start_timeout_s, shutdown_s)

    def _runtime_control(self, message: Control) -> Any:
        """Handle a control message other than Stop; an ExitReason ends the actor."""
        return self.on_down(message) if isinstance(message, Down) else None

    async def _runtime_release(self) -> None:
        """First step of the end, also after a failed start and a kill: supervisors end their children here."""
