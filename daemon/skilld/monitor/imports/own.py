"""Lines of our own: of `skillctl monitor export`, and of the files of an event log. Pure.

{"id", "time", "agent", "name", "channel", "level", "data", ..., "run", "seq"}

They have the run and the number that the event had, so that what is in the store still is not taken over again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any, Final

from skilld.monitor.batch import MAX_RAW_NAME_CHARS, as_json
from skilld.monitor.imports.record import BadRecord, Head, OwnRecord, time_us_of

__all__ = ["is_own", "known_of", "read_own"]

_KEYS: Final = frozenset({"id", "name", "run", "seq"})
_TAKEN: Final = (
    *("name", "channel", "level", "trace", "span", "parent", "duration_ms", "status"),
    *("session", "user", "tags", "masked", "agent"),
)
_HEX: Final = frozenset("0123456789abcdef")


def is_own(found: Mapping[str, Any]) -> bool:
    """Whether it looks like one."""
    return found.keys() >= _KEYS


def read_own(found: Mapping[str, Any]) -> OwnRecord:
    """The event of a line. What is no event for another reason the daemon will say.

    Raises:
        BadRecord: if it does not say which event it was, or when.

    """
    known = known_of(found.get("run"), found.get("seq"))
    if known is None:
        raise BadRecord("run, seq: expected 32 hexadecimal digits and a number")
    run, seq = known
    pid = found.get("pid")
    head = Head(
        agent=_text(found, "agent") or "unknown",
        run=run,
        pid=pid if type(pid) is int else 0,
        program=_text(found, "program"),
        environment=_text(found, "environment"),
    )
    event = {key: found[key] for key in _TAKEN if key in found}
    event |= {"seq": seq, "time_us": time_us_of(found.get("time"), UTC), "data": found.get("data")}
    try:
        return OwnRecord(head, json.loads(as_json(event)))  # without the numbers that JSON does not have
    except RecursionError as error:
        raise BadRecord("data: it is nested too deeply") from error


def known_of(run: Any, seq: Any) -> tuple[str, int] | None:
    """Which event it was, where a line says so."""
    if not isinstance(run, str) or len(run) != 32 or not set(run) <= _HEX or type(seq) is not int or seq < 0:
        return None
    return run, seq


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    return value[:MAX_RAW_NAME_CHARS] if isinstance(value, str) else ""
