"""The queue between the program's threads and the one that sends: bounded, and what does not fit is counted.

`put` may be called from anywhere, also from a signal handler or while garbage is collected, so it takes no lock that a
call of itself in the same thread could wait for.
"""

from __future__ import annotations

import itertools
import threading
from queue import Empty, SimpleQueue

from skilld_monitor.records import Record

__all__ = ["Outbox"]

_PER_RECORD_BYTES = 1024  # about what a record without long text takes
_PER_VALUE_BYTES = 64
_SHORT_CHARS = 256  # whatever characters they are


class Outbox:
    """Records that wait to be sent, numbered in the order they came.

    Args:
        max_records: more are dropped, the newest first.
        max_bytes: of memory, roughly.

    """

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._records: SimpleQueue[Record | None] = SimpleQueue()
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._in_bytes = 0
        self._out_bytes = 0
        self.accepted = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._records.qsize()

    def put(self, record: Record) -> bool:
        """Whether there was room. Waits for nothing."""
        size = _record_bytes(record)
        with self._lock:
            if self._records.qsize() >= self._max_records or self._in_bytes - self._out_bytes + size > self._max_bytes:
                self.dropped += 1
                return False
            self._in_bytes += size
            self.accepted += 1
            record.size = size
            record.seq = next(self._numbers)
            self._records.put(record)
        return True

    def wake(self) -> None:
        """Let who waits in `take` come back."""
        self._records.put(None)

    def take(self, wait_s: float) -> Record | None:
        """The oldest; None when none came in `wait_s` seconds, or somebody called `wake`. 0 does not wait."""
        try:
            record = self._records.get(wait_s > 0, wait_s or None)
        except Empty:
            return None
        if record is not None:
            self._out_bytes += record.size
        return record


def _record_bytes(record: Record) -> int:
    """About how much memory it takes."""
    data = record.data
    if type(data) is not dict:
        return _PER_RECORD_BYTES + _data_bytes(data)
    size = _PER_RECORD_BYTES + _PER_VALUE_BYTES * (1 + len(data))
    for value in data.values():
        kind = type(value)
        if kind is str:
            chars = len(value)
            size += chars if chars < _SHORT_CHARS else _data_bytes(value)
        elif kind is dict or kind is list:
            size += _data_bytes(value)
    return size


def _data_bytes(value: object) -> int:
    """About how much memory plain data takes, of which there are only so many values and levels."""
    if type(value) is str:
        return _PER_VALUE_BYTES + (len(value) if value.isascii() else 4 * len(value))
    if type(value) is dict:
        return _PER_VALUE_BYTES * (1 + len(value)) + sum(map(_data_bytes, value.values()))
    if type(value) is list:
        return _PER_VALUE_BYTES + sum(map(_data_bytes, value))
    return _PER_VALUE_BYTES
