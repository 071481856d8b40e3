"""The sink that writes the event log. A disk that is full is waited for: the store has the events as long."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from skilld.monitor.questions import Wanted
from skilld.monitor.sinks.log_writer import LastWritten, LogRules, LogWriter
from skilld.monitor.sinks.status import SinkStatus

if TYPE_CHECKING:
    from skilld.monitor.monitor import Monitor

__all__ = ["EventLogSink"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_PAGE: Final = 200
_FIRST_WAIT_S: Final = 0.5
_MAX_WAIT_S: Final = 30.0
_TIDY_EVERY_S: Final = 60.0


class EventLogSink:
    """Hands events to a `LogWriter` in a thread, one call at a time."""

    page = _PAGE

    def __init__(self, rules: LogRules, status: SinkStatus) -> None:
        self._writer = LogWriter(rules)
        self._status = status
        self._one = trio.CapacityLimiter(1)
        self._tidied_at = float("-inf")

    async def start(self, monitor: Monitor, cursor: int) -> int:
        """Open the log; up to which event it has been written, if the store has that event still."""
        last = await self._until_it_works(self._writer.open)
        if last is not None and last.id > cursor and await _is_in(monitor, last):
            return last.id
        return cursor

    async def deliver(self, events: Sequence[dict[str, Any]]) -> None:
        """Write them."""
        left_out = await self._until_it_works(lambda: self._writer.append(events))
        self._status.sent += len(events) - len(left_out)
        self._status.failed += len(left_out)
        if left_out:
            _log.warning("event-log: no line holds event %d and %d more: left out", left_out[0], len(left_out) - 1)

    async def idle(self) -> None:
        """Pack and remove files, once a minute or when one has ended."""
        due = trio.current_time() - self._tidied_at >= _TIDY_EVERY_S
        if not due and not self._writer.has_ended:
            return
        self._tidied_at = trio.current_time()
        try:
            await self._in_thread(self._writer.tidy)
        except OSError as error:
            self._writer.has_ended = False  # again in a minute
            _log.error("the event log cannot be tidied up now: %s", error)

    async def close(self) -> None:
        """Close the file."""
        await self._in_thread(self._writer.close)

    async def _until_it_works(self, call: Callable[[], T]) -> T:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return await self._in_thread(call)
            except OSError as error:
                status = self._status
                if status.problem != str(error):
                    _log.error("the event log cannot be written now: %s; its events wait in the store", error)
                status.state, status.problem = "waiting", str(error)
                status.retries += 1
            await trio.sleep(wait_s)
            await self._make_room()
            wait_s = min(wait_s * 2, _MAX_WAIT_S)

    async def _make_room(self) -> None:
        """On a disk that is full the rules may say that something is old enough to go."""
        with contextlib.suppress(OSError):  # what comes next says so
            await self._in_thread(self._writer.make_room)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call, limiter=self._one)


async def _is_in(monitor: Monitor, last: LastWritten) -> bool:
    """Whether the store knows the event by this id: it may be another store than the one that was written of."""
    found = await monitor.events(Wanted(uid=None, after=last.id - 1, limit=1), ours=True)
    return bool(found) and (found[0]["id"], found[0]["run"], found[0]["seq"]) == (last.id, last.run, last.seq)
