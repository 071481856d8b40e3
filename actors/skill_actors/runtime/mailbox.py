"""The inbox of one actor: a bounded lane of messages and an unbounded lane of control.

States: open, then closed for ever. Rules:
- one consumer, the actor's task; control before messages; messages in the order they were admitted;
- at the bound senders wait or are refused, or a message is dropped: see Overflow;
- waiting senders exist only while the lane is full; the first of them enters in the moment a message is taken, so
  a later `tell` cannot overtake them;
- a sender that is cancelled while it waits leaves no message;
- pykka's stop message is admitted past the bound and never dropped: a full mailbox cannot refuse to stop;
- everything but `put` belongs to the trio thread.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn

import trio
from pykka import ActorDeadError
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from skill_actors.runtime.errors import MailboxFull
from skill_actors.runtime.future import TrioFuture
from skill_actors.runtime.messages import Control

if TYPE_CHECKING:
    from skill_actors.runtime.tally import Tallied, Tally

__all__ = ["Mailbox", "Overflow"]

_Envelope = Envelope[Any]


class Overflow(Enum):
    """What a full mailbox does. Where it drops, senders never wait, and a dropped ask is answered with MailboxFull."""

    RAISE = "raise"  # `tell` raises MailboxFull, `send` and `call` wait for room
    DROP_OLDEST = "drop_oldest"  # the message that has waited longest makes room
    DROP_NEW = "drop_new"  # what comes is dropped


class _Sender:
    __slots__ = ("admitted", "envelope")

    def __init__(self, envelope: _Envelope) -> None:
        self.envelope = envelope
        self.admitted = False


class Mailbox:
    """pykka's ActorInbox for one trio task.

    Args:
        owner: class name of the actor, for messages.
        capacity: messages it holds; further ones wait (`send`) or are refused (`put_nowait`).
        overflow: what else to do with further ones.

    Raises:
        ValueError: if the capacity is below 1.

    """

    __slots__ = (
        "_control",
        "_messages",
        "_receiver",
        "_senders",
        "_thread_id",
        "_token",
        "capacity",
        "closed",
        "overflow",
        "owner",
        "tally",
    )

    def __init__(self, owner: str = "actor", capacity: int = 1024, overflow: Overflow = Overflow.RAISE) -> None:
        if capacity < 1:
            raise ValueError(f"mailbox capacity of {owner} must be at least 1, not {capacity}")
        self.owner = owner
        self.capacity = capacity
        self.overflow = overflow
        self.tally: Tally | None = None  # of the system it belongs to
        self.closed = False
        # Both are made when something comes: an idle actor has neither, and an empty deque takes 0.6 KB.
        self._messages: deque[_Envelope] | tuple[()] = ()
        self._control: deque[Control] | None = None
        self._senders: dict[trio.lowlevel.Task, _Sender] | None = None
        self._receiver: trio.lowlevel.Task | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread_id: int | None = None

    def bind(self, token: trio.lowlevel.TrioToken, thread_id: int) -> None:
        """Say which trio run the actor belongs to, so that other threads can reach it."""
        self._token = token
        self._thread_id = thread_id

    def __len__(self) -> int:
        """Messages that wait, without those of blocked senders."""
        return len(self._messages)

    def empty(self) -> bool:
        """Whether no message waits."""
        return not self._messages

    def get(self) -> _Envelope:
        """pykka's protocol: take a message.

        Raises:
            queue.Empty: at once if there is none, since waiting here would stop the event loop.

        """
        if not self._messages:
            raise queue.Empty
        return self._take()

    def put(self, envelope: _Envelope, /) -> None:
        """Admit a message from any thread. Other threads wait while the mailbox is full.

        Raises:
            MailboxFull: on the trio thread, at the bound.
            ActorDeadError: if the actor has ended.

        """
        if self._token is None or threading.get_ident() == self._thread_id:
            self.put_nowait(envelope)
            return
        try:
            trio.from_thread.run(self._put_from_thread, envelope, trio_token=self._token)
        except trio.RunFinishedError:
            self._refuse_dead()

    async def _put_from_thread(self, envelope: _Envelope) -> None:
        if isinstance(envelope.message, _ActorStop):
            self.put_nowait(envelope)
        else:
            await self.send(envelope)

    def put_nowait(self, envelope: _Envelope) -> None:
        """Admit a message now.

        Raises:
            MailboxFull: at the bound, unless it is pykka's stop message.
            ActorDeadError: if the actor has ended.

        """
        if not self.try_put(envelope):
            self._count("mailbox_rejected")
            raise MailboxFull(f"mailbox of {self.owner} is full ({self.capacity} messages); `await ref.send()` waits")

    def try_put(self, envelope: _Envelope) -> bool:
        """Admit a message now, or drop one as the overflow policy says; False, and nothing done, if it has to wait.

        Raises:
            ActorDeadError: if the actor has ended.

        """
        if self.closed:
            self._refuse_dead()
        if (
            len(self._messages) >= self.capacity
            and not isinstance(envelope.message, _ActorStop)
            and not self._make_room(envelope)
        ):
            return self.overflow is not Overflow.RAISE
        (self._messages or self._lane()).append(envelope)
        if self._receiver is not None:
            self.wake()
        return True

    def _lane(self) -> deque[_Envelope]:
        """The messages that wait, to change them."""
        if isinstance(self._messages, tuple):
            self._messages = deque()
        return self._messages

    def _make_room(self, envelope: _Envelope) -> bool:
        """Whether the lane, which is full, has room for the message now."""
        if self.overflow is Overflow.RAISE:
            return False
        dropped, room = envelope, False
        if self.overflow is Overflow.DROP_OLDEST:
            for queued in self._messages:  # the first, unless it is a stop
                if not isinstance(queued.message, _ActorStop):
                    self._lane().remove(queued)
                    dropped, room = queued, True
                    break
        self._count("mailbox_dropped")
        if isinstance(dropped.reply_to, TrioFuture):
            dropped.reply_to.fail(
                MailboxFull(f"mailbox of {self.owner} was full ({self.capacity} messages): this one was dropped")
            )
        return room

    def _count(self, what: Tallied) -> None:
        if self.tally is not None:
            self.tally.add(what, self.owner)

    async def send(self, envelope: _Envelope) -> None:
        """Admit a message, waiting for room in order of arrival. A checkpoint only if it has to wait.

        Raises:
            ActorDeadError: if the actor has ended, or ends meanwhile.

        """
        if self.try_put(envelope):
            return
        task, sender = trio.lowlevel.current_task(), _Sender(envelope)
        senders = self._senders = {} if self._senders is None else self._senders
        senders[task] = sender

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            del senders[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if not sender.admitted:
            self._refuse_dead()

    def put_control(self, message: Control) -> None:
        """Admit a control message; dropped if the actor has ended, since it then has nothing left to control."""
        if self.closed:
            return
        if self._control is None:
            self._control = deque()
        self._control.append(message)
        if self._receiver is not None:
            self.wake()

    def try_receive(self) -> _Envelope | Control | None:
        """The next control message, else the next message, else None."""
        if self._control:
            return self._control.popleft()
        return self._take() if self._messages else None

    def _take(self) -> _Envelope:
        messages = self._messages or self._lane()
        envelope = messages.popleft()
        if self._senders and len(messages) < self.capacity:
            task = next(iter(self._senders))
            sender = self._senders.pop(task)
            sender.admitted = True
            messages.append(sender.envelope)
            trio.lowlevel.reschedule(task)
        return envelope

    def park(self) -> None:
        """Say that the actor's task is about to wait for a message of either lane (see `life`), having found none."""
        self._receiver = trio.lowlevel.current_task()
        self._messages = ()

    def unpark(self, _raise_cancel: object = None) -> trio.lowlevel.Abort:
        """Take `park` back: trio's abort function for that wait."""
        self._receiver = None
        return trio.lowlevel.Abort.SUCCEEDED

    def close(self) -> list[_Envelope]:
        """Refuse everything from now on; the messages nobody will handle. Blocked senders get ActorDeadError."""
        self.closed = True
        left = list(self._messages)
        self._messages = ()
        self._control = None
        senders, self._senders = self._senders, None
        for task in senders or ():
            trio.lowlevel.reschedule(task)
        return left

    @property
    def parked(self) -> trio.lowlevel.Task | None:
        """The actor's task, if it waits for a message. Then both lanes are empty."""
        return self._receiver

    def wake(self) -> None:
        """Have the actor's task look for work, if it is parked."""
        task, self._receiver = self._receiver, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _refuse_dead(self) -> NoReturn:
        raise ActorDeadError(f"{self.owner} has stopped; look it up again, or have its supervisor start another")
