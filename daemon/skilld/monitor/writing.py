"""Batches that wait for the file are written together; one that no file can hold takes none of the others along.

What fails for its content would fail each time that it is sent again. It is looked for by halves, so that of thousands
of events the one is found in a dozen transactions, and all others are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import apsw

from skilld.monitor.inspected import Found, Inspected, Origin
from skilld.monitor.store import EventStore, Written

__all__ = ["write_together"]

# Of SQLite's errors those that say something of a value. All others are of the file or the disk, and pass.
_OF_CONTENT: Final = (apsw.ConstraintError, apsw.MismatchError, apsw.RangeError, apsw.TooBigError)


def write_together(store: EventStore, batches: Sequence[tuple[Inspected, Origin]]) -> list[Written | Exception]:
    """What became of each batch; the error where it can be written another time. Blocks, and raises nothing of that."""
    try:
        return [*store.write(batches)]
    except Exception as error:
        if not _is_of_content(error):  # each of them is told
            return [error] * len(batches)
    return [_write_apart(store, *one) for one in batches]


def _write_apart(store: EventStore, inspected: Inspected, origin: Origin) -> Written | Exception:
    try:
        return _write_halves(store, inspected, origin)
    except (apsw.Error, OSError) as error:  # some of it may be kept: it is sent again, and each is known by its number
        return error


def _write_halves(store: EventStore, inspected: Inspected, origin: Origin) -> Written:
    total = len(inspected.batch.events)
    try:
        (written,) = store.write([(inspected, origin)])
    except Exception as error:
        if not _is_of_content(error):
            raise
        if total <= 1:
            return Written(0, 0, total, kept=frozenset(), unstorable=frozenset(range(total)))
        middle = total // 2
        first = _write_halves(store, _part(inspected, 0, middle), origin)
        second = _write_halves(store, _part(inspected, middle, total), origin)
        return Written(
            first.stored + second.stored,
            first.duplicates + second.duplicates,
            first.quarantined + second.quarantined,
            kept=_places(first, 0, middle) | _places(second, middle, total),
            unstorable=first.unstorable | frozenset(middle + place for place in second.unstorable),
        )
    return written


def _is_of_content(error: Exception) -> bool:
    return isinstance(error, _OF_CONTENT) or not isinstance(error, (apsw.Error, OSError))


def _part(inspected: Inspected, start: int, stop: int) -> Inspected:
    """Some of the events, with what was found in those."""
    found = [
        Found(one.index - start, one.finding, one.sample) for one in inspected.findings if start <= one.index < stop
    ]
    return Inspected(replace(inspected.batch, events=inspected.batch.events[start:stop]), tuple(found))


def _places(written: Written, start: int, stop: int) -> frozenset[int]:
    """Of what was stored, in the batch that it is a part of."""
    kept = range(stop - start) if written.kept is None else written.kept
    return frozenset(start + place for place in kept)
