"""How much of a text is kept with a run: all of a run is one document, whose size is bounded. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = [
    *("MAX_ARGUMENTS_BYTES", "MAX_DEFINITION_BYTES", "MAX_ERROR_BYTES"),
    *("json_fault", "kept", "result_bytes", "size_bytes"),
]

MAX_DEFINITION_BYTES: Final = 256 << 10
MAX_ARGUMENTS_BYTES: Final = 64 << 10
MAX_ERROR_BYTES: Final = 1_000
_ALL_RESULTS_BYTES: Final = 400 << 10
_MOST_BYTES: Final = 50_000
_MAX_DEPTH: Final = 32


def result_bytes(stages: int) -> int:
    """What the result of each of so many stages may take. The whole of it stays in the turn's conversation."""
    return min(_ALL_RESULTS_BYTES // stages, _MOST_BYTES)


def size_bytes(value: object) -> int:
    """What it takes as JSON."""
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def json_fault(value: Any) -> tuple[tuple[int | str, ...], str] | None:
    """Where this cannot be stored as JSON, and why; None if it can. Does not recurse."""
    level: list[tuple[tuple[int | str, ...], Any]] = [((), value)]
    for _ in range(_MAX_DEPTH):
        if not level:
            return None
        below: list[tuple[tuple[int | str, ...], Any]] = []
        for place, each in level:
            why = _fault_of(each)
            if why is not None:
                return place, why
            below.extend(_parts(place, each))
        level = below
    return (level[0][0][:4], f"it is nested more than {_MAX_DEPTH} levels deep") if level else None


def _fault_of(value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no number of JSON"
    if isinstance(value, Mapping):
        return next((why for key in value if (why := _fault_of(key) or _no_text(key)) is not None), None)
    if isinstance(value, str):
        return None if _is_unicode(value) else "half a surrogate pair is no text"
    if value is None or isinstance(value, bool | int | float | list | tuple):
        return None
    return f"a {type(value).__name__} is no JSON; write it as text"


def _no_text(key: Any) -> str | None:
    return None if isinstance(key, str) else f"{key!r:.40} is no name"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parts(place: tuple[int | str, ...], value: Any) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    if isinstance(value, Mapping):
        yield from (((*place, f"{key:.60}"), each) for key, each in value.items())
    elif isinstance(value, list | tuple):
        yield from (((*place, number), each) for number, each in enumerate(value))


def kept(text: str, most_bytes: int) -> str:
    """The text; of one that takes more the beginning and the end, with a line in between that says so.

    Half a surrogate pair becomes a question mark: the document that it goes into is in UTF-8.
    """
    text = text.encode(errors="replace").decode()
    if size_bytes(text) <= most_bytes:
        return text
    keep = len(text)
    while True:
        keep = min(keep * 9 // 10, keep * most_bytes // size_bytes(text[:keep])) if keep else 0
        half = keep // 2
        short = (
            f"{text[:half]}\n[... {len(text) - 2 * half} characters are left out here ...]\n{text[len(text) - half :]}"
        )
        if keep == 0 or size_bytes(short) <= most_bytes:
            return short
