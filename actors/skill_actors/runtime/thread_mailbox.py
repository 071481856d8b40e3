"""The inbox of an actor that is a thread: what Mailbox is to a task, under a lock.

Rules:
- one consumer, the actor's thread; the request to stop comes before messages; messages in the order they were admitted;
- senders wait while it is full, whether they are threads or trio tasks; the first of them enters in the moment a
  message is taken; one that is cancelled while it waits leaves no message;
- the message being handled belongs to whoever settles it first: the thread that has its answer, or the guardian that
  gives the thread up. So it is answered once, whatever happens.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import trio
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from skill_actors.runtime.exit import ExitKind
from skill_actors.runtime.mailbox import Mailbox
from skill_actors.runtime.messages import Control, Stop

__all__ = ["ThreadMailbox"]

_Envelope = Envelope[Any]


class _Waiting:
    """A sender for whom there was no room; `wake` is called once, under the mailbox's lock."""

    __slots__ = ("admitted", "envelope", "wake")

    def __init__(self, envelope: _Envelope, wake: Callable[[], object]) -> None:
        self.envelope = envelope
        self.wake = wake
        self.admitted = False


class ThreadMailbox(Mailbox):
    """pykka's ActorInbox for one thread. Every method may be called from any thread, `send` from any trio run.

    Args:
        owner: class name of the actor, for messages.
        capacity: messages it holds; further ones wait (`send`, `put` of a thread) or are refused (`put_nowait`).

    """

    __slots__ = ("_arrived", "_consumer", "_current", "_stop", "_waiting", "idle")

    def __init__(self, owner: str, capacity: int) -> None:
        super().__init__(owner, capacity)
        self._arrived = threading.Condition(threading.Lock())
        self._waiting: deque[_Waiting] = deque()
        self._stop: Stop | None = None
        self._current: _Envelope | None = None
        self._consumer: int | None = None
        self.idle = False  # whether the thread runs nothing of its actor's own: killed now, it ends at once

    def get(self) -> _Envelope:
        """pykka's protocol: take a message.

        Raises:
            queue.Empty: at once if there is none.

        """
        with self._arrived:
            if not self._messages:
                raise queue.Empty
            return self._take()

    def take(self, timeout_s: float | None) -> _Envelope | Stop | None:
        """Wait for the request to stop or a message, at most `timeout_s` seconds (None: for ever); None if none came.

        For the actor's thread alone. A message that was taken has to be settled.
        """
        with self._arrived:
            self._consumer = threading.get_ident()
            self.idle = True
            self._arrived.wait_for(lambda: self._stop is not None or self._messages, timeout_s)
            self.idle = self._stop is not None and self._stop.reason.kind is ExitKind.KILLED
            if self._stop is not None:
                return self._stop
            self._current = self._take() if self._messages else None
            return self._current

    def settle(self) -> _Envelope | None:
        """Take over the message being handled, to answer it; None if another thread has done so."""
        with self._arrived:
            current, self._current = self._current, None
            self.idle = self.idle or threading.get_ident() == self._consumer
            return current

    def put(self, envelope: _Envelope, /) -> None:
        """Admit a message. Threads wait while the mailbox is full, but for the actor's own, which would for ever.

        Raises:
            MailboxFull: at the bound, inside a trio run and in the actor's own thread.
            ActorDeadError: if the actor has ended, or ends meanwhile.

        """
        if trio.lowlevel.in_trio_run() or self._token is None or threading.get_ident() == self._consumer:
            self.put_nowait(envelope)
            return
        room = threading.Event()
        waiting = self._admit_or_wait(envelope, room.set)
        if waiting is None:
            return
        room.wait()
        if not waiting.admitted:
            self._refuse_dead()

    def try_put(self, envelope: _Envelope) -> bool:
        """Admit a message now; False, and nothing done, if it has to wait.

        Raises:
            ActorDeadError: if the actor has ended.

        """
        with self._arrived:
            return self._admit(envelope)

    async def send(self, envelope: _Envelope) -> None:
        """Admit a message, waiting for room in order of arrival. A checkpoint only if it has to wait.

        Raises:
            ActorDeadError: if the actor has ended, or ends meanwhile.

        """
        task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
        waiting = self._admit_or_wait(envelope, lambda: token.run_sync_soon(trio.lowlevel.reschedule, task))
        if waiting is None:
            return

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            with self._arrived:
                if waiting not in self._waiting:
                    return trio.lowlevel.Abort.FAILED  # its wake-up is on the way
                self._waiting.remove(waiting)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if not waiting.admitted:
            self._refuse_dead()

    def put_control(self, message: Control) -> None:
        """Admit a request to stop; a thread has no use for other control messages."""
        with self._arrived:
            if isinstance(message, Stop) and not self.closed:
                self._stop = message
                self._arrived.notify_all()

    def close(self) -> list[_Envelope]:
        """Refuse everything from now on; the messages nobody will handle. Blocked senders get ActorDeadError."""
        with self._arrived:
            self.closed = True
            left = list(self._messages)
            self._messages = ()
            while self._waiting:
                self._waiting.popleft().wake()
        return left

    # Under the lock

    def _admit_or_wait(self, envelope: _Envelope, wake: Callable[[], object]) -> _Waiting | None:
        """None if the message is admitted; else the sender's place, to be waited on outside the lock."""
        with self._arrived:
            if self._admit(envelope):
                return None
            waiting = _Waiting(envelope, wake)
            self._waiting.append(waiting)
            return waiting

    def _admit(self, envelope: _Envelope) -> bool:
        if self.closed:
            self._refuse_dead()
        if len(self._messages) >= self.capacity and not isinstance(envelope.message, _ActorStop):
            return False
        self._lane().append(envelope)
        self._arrived.notify()
        return True

    def _take(self) -> _Envelope:
        messages = self._messages or self._lane()
        envelope = messages.popleft()
        if self._waiting and len(messages) < self.capacity:
            waiting = self._waiting.popleft()
            waiting.admitted = True
            messages.append(waiting.envelope)
            waiting.wake()
        return envelope
