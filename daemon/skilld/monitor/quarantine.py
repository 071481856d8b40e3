"""Events that cannot be kept: what they were and why, in a file of their own, so that somebody can look.

A line of JSON for each. Their content is not there: what could not be looked into may hold anything. The file is
bounded: when it is full it becomes the old one, in the place of the one before.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from skilld.monitor.batch import Batch, as_json
from skilld.monitor.inspected import Origin
from skilld.monitor.preparing import Spoiled
from skilld.monitor.questions import time_text

__all__ = ["Quarantine"]

_log = logging.getLogger(__name__)

_MAX_FILE_BYTES: Final = 1 << 20
_MAX_LISTED: Final = 1_000


class Quarantine:
    """The file. Every method blocks and may be called in any thread; a full disk is logged, and nobody's trouble."""

    def __init__(self, path: Path, *, max_file_bytes: int = _MAX_FILE_BYTES) -> None:
        self._path = path
        self._old = path.with_name(f"{path.name}.1")
        self._max_file_bytes = max_file_bytes
        self._lock = threading.Lock()

    def add(self, batch: Batch, origin: Origin, spoiled: Iterable[Spoiled]) -> None:
        """Note events that cannot be kept."""
        now = time_text(time.time_ns() // 1000)
        lines = [as_json(_noted(batch, origin, one, now)).encode() + b"\n" for one in spoiled]
        try:
            with self._lock:
                for line in lines:
                    self._append(line)
        except OSError as error:
            _log.error("%d events that cannot be kept could not be noted: %s", len(lines), error.strerror)

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size + len(line) > self._max_file_bytes:
            os.replace(self._path, self._old)
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)

    def listing(self, uid: int | None, limit: int = _MAX_LISTED) -> list[dict[str, Any]]:
        """What was noted last, the newest first, of one user or of everybody."""
        found = [one for path in (self._old, self._path) for one in _read(path) if uid is None or one.get("uid") == uid]
        return found[: -limit - 1 : -1]


def _noted(batch: Batch, origin: Origin, spoiled: Spoiled, now: str | None) -> dict[str, Any]:
    event = spoiled.event
    return {
        "time": now,
        "uid": origin.uid,
        "sender_pid": origin.pid,
        "agent": batch.agent,
        "run": batch.run,
        "seq": event.seq,
        "event_time": time_text(event.time_us),
        "channel": event.channel,
        "why": spoiled.why,
    }


def _read(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:  # the end of a line that a full disk cut off
            continue
        if isinstance(found, dict):
            yield found
