"""Values as TOML. Pure; what it writes, tomllib reads as the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["toml_text"]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(data: Mapping[str, Any], comments: Sequence[str] = ()) -> str:
    """A document: plain keys first, then a table for each mapping and a table of a list for each list of mappings.

    Args:
        data: JSON-ready, and without null.
        comments: lines that come first.

    Raises:
        TypeError: something in it is none of TOML.

    """
    lines = [f"# {line}" for line in comments]
    return "\n".join([*lines, *_table(data, ())]).strip("\n") + "\n"


def _table(data: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[str]:
    """The plain keys of a table, and the tables in it."""
    below = {key: value for key, value in data.items() if _is_table(value) or _are_tables(value)}
    yield from (f"{_key(key)} = {_value(value)}" for key, value in data.items() if key not in below)
    for key, value in below.items():
        path = (*above, key)
        name = ".".join(map(_key, path))
        if not _is_table(value):
            for each in value:
                yield from ("", f"[[{name}]]", *_table(each, path))
            continue
        inner = list(_table(value, path))
        if not value or any(not (_is_table(each) or _are_tables(each)) for each in value.values()):
            yield from ("", f"[{name}]")
        yield from inner


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _are_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_table, value))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _value(value: Any) -> str:
    match value:
        case bool() | int() | float():
            return json.dumps(value, allow_nan=False)
        case str():
            return _lines(value) if "\n" in value else _text(value)
        case Mapping():
            return "{" + ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items()) + "}"
        case Sequence():
            return "[" + ", ".join(map(_value, value)) + "]"
        case _:
            raise TypeError(f"TOML has no {type(value).__name__}")


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _lines(value: str) -> str:
    """A text over several lines, as people write it."""
    inner = "\n".join(_text(line)[1:-1] for line in value.split("\n"))
    return f'"""\n{inner}"""'
