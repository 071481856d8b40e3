"""The one thread that writes and checkpoints: everything that queued up during a commit joins the next.

    trio thread    put() -> Ticket -----------------> queue                 ticket.wait() returns
    writer thread             take a batch -> BEGIN IMMEDIATE, apply each, COMMIT (fsync) -> wake -> checkpoint if due

Only the queue and the trio token are shared between the two; `close` puts an end mark behind what is queued.

Where the next batch is queued already, those of the last one are woken just before the next COMMIT rather than at
once. They would compete with the statements of the next batch for the interpreter lock, and then all wait for the
disk; so instead they work while the disk does (about a fifth more appends a second, see benchmarks/journal.py).
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from skill_actors.store.base import JournalClosed
from skill_actors.store.changes import Write
from skill_actors.store.commit import Committer, Job, JournalStats
from skill_actors.store.copying import JournalCopy

__all__ = ["HeardTicket", "Ticket", "Writer"]

_MAX_BATCH: Final = 512
_MAX_BATCH_BYTES: Final = 8 * 1024 * 1024


class Ticket(Job):
    """A write in the queue, and the one who waits for it. Trio thread only, but for what is a Job's."""

    # A trio.Event would do; parking the one waiter directly takes half the time, and this is paid for every event.
    __slots__ = ("_task", "_woken")

    def __init__(self, write: Write) -> None:
        super().__init__(write)
        self._woken = False
        self._task: trio.lowlevel.Task | None = None

    def wake(self) -> None:
        """Let `wait` return."""
        self._woken = True
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)

    async def wait(self) -> bool:
        """What the write's apply returned, once it is durable; raises what it raised."""
        if not self._woken:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        if self.error is not None:
            raise self.error
        return self.applied

    def _give_up(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class HeardTicket(Ticket):
    """A ticket that also calls `then` when its write is durable, whether or not anybody still waits for it."""

    __slots__ = ("_then",)

    def __init__(self, write: Write, then: Callable[[], None]) -> None:
        super().__init__(write)
        self._then = then

    def wake(self) -> None:
        if self.error is None:
            self._then()
        super().wake()


class Writer:
    """Runs `committer` from `start()` on. Made, fed and closed on the trio thread.

    Args:
        name: of the journal, for messages.
        on_end: called once on the trio thread when the thread has ended, with the failure if it was not asked to.

    """

    def __init__(self, committer: Committer, name: str, on_end: Callable[[BaseException | None], None]) -> None:
        self._committer = committer
        self._name = name
        self._on_end = on_end
        self._token = trio.lowlevel.current_trio_token()
        self._queue: queue.SimpleQueue[Ticket | JournalCopy | None] = queue.SimpleQueue()
        self._in_hand: list[Ticket] = []
        self._durable: list[Ticket] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, write: Write, then: Callable[[], None] | None = None) -> Ticket:
        """Queue `write`; `then` is called on the trio thread when it is durable. Raises JournalClosed."""
        if self._closed:
            raise JournalClosed(f"journal {self._name} is closed")
        ticket = Ticket(write) if then is None else HeardTicket(write, then)
        self._queue.put(ticket)
        return ticket

    def put_copy(self, copy: JournalCopy) -> None:
        """Queue a copy of the journal as it is then, or newer. Raises JournalClosed."""
        if self._closed:
            raise JournalClosed(f"journal {self._name} is closed")
        self._queue.put(copy)

    def close(self) -> None:
        """Take no more writes; the thread ends when those queued are done."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)

    def join(self) -> None:
        """Block until the thread has ended. Not on the trio thread."""
        self._thread.join()

    def stats(self, *, damaged: int) -> JournalStats:
        return self._committer.stats(queue_depth=self._queue.qsize(), damaged=damaged)

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            self._serve()
        except BaseException as error:  # a thread has nobody above it: the trio side gets the reason and decides
            failure = error
        self._tell(partial(self._end, failure))

    def _serve(self) -> None:
        committer, closing = self._committer, False
        try:
            while not closing:
                self._in_hand, closing = self._take()
                if self._in_hand:
                    committer.commit(self._in_hand, self._announce)
                    self._announce()  # where the batch never came to its COMMIT
                    self._durable, self._in_hand = self._in_hand, []
                if closing or committer.has_chores or self._queue.empty():
                    self._announce()
                committer.tidy(sweep=not closing)
            committer.fold()
        finally:
            committer.close()

    def _announce(self) -> None:
        if self._durable:
            durable, self._durable = self._durable, []
            self._tell(partial(_wake_all, durable))

    def _take(self) -> tuple[list[Ticket], bool]:
        """The next batch (empty only while there is a copy to make or rows to sweep), and whether it is the last."""
        batch: list[Ticket] = []
        size_bytes = 0
        while len(batch) < _MAX_BATCH and size_bytes < _MAX_BATCH_BYTES:
            try:
                ticket = self._queue.get(block=not batch and not self._committer.restless)
            except queue.Empty:
                break
            if ticket is None:
                return batch, True
            if isinstance(ticket, JournalCopy):
                self._committer.begin_copy(ticket)
                continue
            batch.append(ticket)
            size_bytes += ticket.write.size_bytes
        return batch, False

    def _tell(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(trio.RunFinishedError):  # then nobody waits any more
            self._token.run_sync_soon(what)

    def _end(self, failure: BaseException | None) -> None:
        self._closed = True
        _wake_all(self._durable)
        left = self._in_hand
        with contextlib.suppress(queue.Empty):
            while True:
                ticket = self._queue.get_nowait()
                if isinstance(ticket, Ticket):
                    left.append(ticket)
                elif ticket is not None:
                    ticket.end(JournalClosed(f"journal {self._name} failed: {failure}"))
        for ticket in left:
            ticket.error = JournalClosed(f"journal {self._name} failed: {failure}")
        _wake_all(left)
        self._on_end(failure)


def _wake_all(batch: list[Ticket]) -> None:
    for ticket in batch:
        ticket.wake()
