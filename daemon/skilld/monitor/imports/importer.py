"""From a file to acknowledged batches, one agent's after the other's. Blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final

from skilld.monitor.imports.pairs import events_of
from skilld.monitor.imports.record import Head, Record
from skilld.monitor.imports.sender import Acknowledged
from skilld.monitor.imports.source import BadSource, Reading, kind_of, open_safely, read_lines
from skilld.monitor.imports.sqlite_a import count_rows, read_sqlite
from skilld.monitor.wire import batch_lines

__all__ = ["Imported", "import_file"]

_EVENTS_AT_ONCE: Final = 1_000  # of one agent, in memory
_MOST_HEADS: Final = 1_000

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Imported:
    """What became of one file.

    Args:
        events: that its records are.
        stored: that are new; None where nothing was sent.
        refused: that the daemon will not have.
        problem: why it was not read to its end; "" where it was.

    """

    path: Path
    reading: Reading = field(default_factory=Reading)
    events: int = 0
    stored: int | None = None
    refused: int = 0
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """For who prints it."""
        reading = self.reading
        already = None if self.stored is None else self.events - self.stored - self.refused
        return {
            "path": str(self.path),
            "records": reading.records,
            "events": self.events,
            "stored": self.stored,
            "already_there": already,
            "refused": self.refused,
            "notes": reading.notes,
            "bad": reading.bad,
            "problems": [{"at": where, "why": why} for where, why in reading.problems],
            "problem": self.problem,
        }


def import_file(
    path: Path,
    send: Callable[[bytes], Acknowledged] | None,
    *,
    zone: tzinfo | None = None,
    progress: Progress = lambda done, total: None,
) -> Imported:
    """Read a file and deliver what it holds. A file that cannot be read says so in what is returned.

    Args:
        send: delivers a batch; None: nothing is sent.
        zone: of times that name none; None: that of this host.
        progress: told how much of how much is read, now and then.

    Raises:
        NotDelivered: from `send`.

    """
    done = Imported(path, stored=None if send is None else 0)
    try:
        with _Records(path, zone, done.reading, progress) as records:
            for head, events in _grouped(events_of(records)):
                for line, count in batch_lines(head, events):
                    done.events += count
                    if send is not None:
                        answer = send(line)
                        done.stored = (done.stored or 0) + answer.stored
                        done.refused += answer.refused
    except BadSource as error:
        done.problem = str(error)
    return done


def _grouped(found: Iterable[tuple[Head, dict[str, Any]]]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Events by whose they are, not too many at once: an old file may have many agents in turn."""
    waiting: dict[Head, list[dict[str, Any]]] = {}
    for head, event in found:
        events = waiting.setdefault(head, [])
        events.append(event)
        if len(events) >= _EVENTS_AT_ONCE or len(waiting) > _MOST_HEADS:
            yield head._asdict(), waiting.pop(head)
    for head, events in waiting.items():
        yield head._asdict(), events


class _Records:
    """The records of a file of any kind, while it is open. Raises BadSource."""

    def __init__(self, path: Path, zone: tzinfo | None, reading: Reading, progress: Progress) -> None:
        self._path = path
        self._zone = zone
        self._reading = reading
        self._progress = progress
        self._file = open_safely(path)

    def __enter__(self) -> Iterator[Record]:
        file = self._file.__enter__()
        kind = kind_of(file)
        if kind == "sqlite":
            return self._telling(read_sqlite(self._path, self._zone, self._reading), count_rows(self._path))
        total = self._path.stat().st_size
        return self._telling(read_lines(file, self._zone, self._reading, packed=kind == "packed"), total)

    def __exit__(self, *_: object) -> None:
        self._file.__exit__(None, None, None)

    def _telling(self, records: Iterator[Record], total: int) -> Iterator[Record]:
        for number, record in enumerate(records):
            if number % 200 == 0:
                self._progress(self._reading.position, total)
            yield record
        self._progress(total, total)
