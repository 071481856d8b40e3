"""What there is to know about the file of reported events."""

from __future__ import annotations

from typing import Any

import apsw

from skilld.monitor.questions import time_text

__all__ = ["store_facts"]


def store_facts(db: apsw.Connection, uid: int | None) -> dict[str, Any]:
    """How large the file is, and how many events of one user, or of everybody, it has since when; JSON-ready."""
    mine, values = ("1", ()) if uid is None else ("uid = ?", (uid,))
    ((events, size, first, last),) = db.execute(
        "SELECT count(*), coalesce(sum(length(name) + length(data)), 0), min(time_us), max(time_us)"
        f" FROM event WHERE {mine}",
        values,
    )
    return {
        "version": int(db.pragma("user_version")),
        "file_bytes": int(db.pragma("page_count")) * int(db.pragma("page_size")),
        "events": events,
        "event_bytes": size,
        "oldest": None if first is None else time_text(first),
        "newest": None if last is None else time_text(last),
    }
