"""The data base of generation A: tables `agents` and `events`. Blocks.

It is opened for reading only, and only tables are read: a view may be a program that never ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final

import apsw

from skilld.monitor.imports.generation_a import read_a
from skilld.monitor.imports.record import BadRecord, OldRecord
from skilld.monitor.imports.source import BadSource, Reading

__all__ = ["count_rows", "read_sqlite"]

_COLUMNS: Final = ("event_type", "channel", "level", "timestamp", "data")
_MAX_DATA_BYTES: Final = 4 << 20
_PAGE: Final = 500
_MOST_AGENTS: Final = 100_000


def count_rows(path: Path) -> int:
    """How many events it has; 0 where nobody can tell."""
    try:
        with _Opened(path) as db:
            return int(db.execute("SELECT count(*) FROM events").get)
    except (apsw.Error, BadSource):
        return 0


def read_sqlite(path: Path, zone: tzinfo | None, reading: Reading) -> Iterator[OldRecord]:
    """Records of its rows, in their order; what is none is noted by its number.

    Raises:
        BadSource: if it is no such data base, or damaged; what came before counts.

    """
    try:
        with _Opened(path) as db:
            found = db.execute("SELECT id, substr(agent_id, 1, 200) FROM agents LIMIT ?", (_MOST_AGENTS,))
            agents = {row[0]: row[1] for row in found}
            last = -(1 << 63)
            while rows := _page(db, last):
                for row in rows:
                    last = int(row[0])
                    reading.position += 1
                    try:
                        record = _record(row, agents, zone)
                    except BadRecord as error:
                        reading.add_problem(last, str(error))
                        continue
                    reading.records += 1
                    yield record
    except apsw.Error as error:
        raise BadSource(f"the data base cannot be read: {error}") from error


def _page(db: apsw.Connection, last: int) -> list[tuple[Any, ...]]:
    columns = ", ".join(f"CASE WHEN length({name}) > {_MAX_DATA_BYTES} THEN NULL ELSE {name} END" for name in _COLUMNS)
    question = f"SELECT rowid, agent_id, {columns} FROM events WHERE rowid > ? ORDER BY rowid LIMIT {_PAGE}"
    return db.execute(question, (last,)).fetchall()


def _record(row: tuple[Any, ...], agents: dict[Any, Any], zone: tzinfo | None) -> OldRecord:
    _, agent, event, channel, level, timestamp, raw = row
    if raw is None:
        raise BadRecord(f"data: there is none, or more than {_MAX_DATA_BYTES} bytes")
    try:
        data = json.loads(raw) if isinstance(raw, (str, bytes)) else None
    except (ValueError, RecursionError) as error:
        raise BadRecord("data: it is not JSON") from error
    line = {"event": event, "channel": channel, "level": level, "timestamp": timestamp, "data": data}
    return read_a({**line, "agent_id": str(agents.get(agent, "unknown"))}, zone)


class _Opened:
    """The data base, open for reading. Raises BadSource if its tables are not those of generation A."""

    def __init__(self, path: Path) -> None:
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW
        self._db = apsw.Connection(str(path.absolute()), flags=flags)

    def __enter__(self) -> apsw.Connection:
        db = self._db
        try:
            db.set_busy_timeout(5_000)
            db.execute("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0")
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if not {"agents", "events"} <= tables:
                raise BadSource("it has no tables agents and events, as those of generation A have")
            found = {row[1] for row in db.execute("PRAGMA table_info(events)")}
            missing = {"agent_id", *_COLUMNS} - found
            if missing:
                raise BadSource(f"its table events has no column {', '.join(sorted(missing))}")
        except BaseException:
            db.close()
            raise
        return db

    def __exit__(self, *_: object) -> None:
        self._db.close()
