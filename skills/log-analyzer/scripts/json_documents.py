"""Logs that are one JSON document rather than a line for each record, as the HTTP APIs of services give them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

MAX_CHARS = 32 * 1024 * 1024
LISTS = ("logs", "records", "entries", "events", "items", "results", "data", "hits")

# `[2026-11-21 02:13] text` and `[error] text` are lines of logs; so is an object that ends on its own line.
BEGINNING = re.compile(r"\s*(?:\[\s*(?:\]\s*|\{.*)?|\{\s*(?:\"(?:[^\"\\]|\\.)*\"\s*:.*)?)$")


def unfolded(lines: Iterable[str]) -> Iterator[str]:
    """The same lines; or, if all of them are one document with a list of records, a line for each of these."""
    rest = iter(lines)
    taken = list(_through_text(rest))
    first = taken[-1] if taken else ""
    alone = _parsed(first, dict)  # a line of JSON lines, or all there is
    if alone is not None and _records(alone) is not None:
        taken += _through_text(rest)
        is_document = not taken[-1].strip() or taken[-1] is first
    else:
        is_document = alone is None and BEGINNING.match(first) is not None
        size = 0
        for line in rest if is_document else ():
            taken.append(line)
            size += len(line) + 1
            if size > MAX_CHARS:
                is_document = False
                break
    found = _records(_parsed("\n".join(taken), (dict, list))) if is_document else None
    if found is None:
        yield from chain(taken, rest)
    else:
        yield from map(json.dumps, found)


def _through_text(lines: Iterator[str]) -> Iterator[str]:
    """The next lines up to one that is not blank, and that one."""
    for line in lines:
        yield line
        if line.strip():
            return


def _parsed(text: str, kinds: Any) -> Any:
    """What the text is in JSON, if it is one of these kinds; else None."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kinds) else None


def _records(document: Any) -> list[dict[str, Any]] | None:
    """The records of a document: a list of objects, or an object that has one under a usual name."""
    if isinstance(document, dict):
        document = next((document[name] for name in LISTS if isinstance(document.get(name), list)), None)
    if not isinstance(document, list) or not all(isinstance(record, dict) for record in document):
        return None
    return document
