"""What a client says of an item, read once: fields that are known, of the right shape, within bounds."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.sessions.answer_schema import check_schema
from skill_actors.workshop.board.item import Item, Verification
from skill_actors.workshop.names import check_name

__all__ = ["FIELDS", "MAX_ATTEMPTS", "MAX_SPEC_CHARS", "read_draft", "read_fields"]

MAX_SPEC_CHARS: Final = 65_536
MAX_ATTEMPTS: Final = 100
_MAX_TITLE_CHARS: Final = 200
_MAX_DEPENDENCIES: Final = 256
_MAX_LABELS: Final = 32
_MAX_LABEL_CHARS: Final = 200
_MAX_META_CHARS: Final = 16_384
_MAX_ARGV: Final = 100
_MAX_ARGV_CHARS: Final = 16_384
_MAX_VERIFY_S: Final = 3600.0
_ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def read_draft(given: Mapping[str, Any], types: Collection[str], now: str) -> Item:
    """A new item; without an `id` it gets one. Raises Refused("bad_request")."""
    values = read_fields({name: value for name, value in given.items() if name != "id"}, types)
    if "title" not in values:
        raise Refused("bad_request", "title: an item has one")
    id = check_name(_text("id", given["id"], 64), "item") if given.get("id") is not None else _new_id()
    return Item(id=id, created=now, updated=now, **values)


def read_fields(given: Mapping[str, Any], types: Collection[str]) -> dict[str, Any]:
    """The fields that are given, as an Item has them. Raises Refused("bad_request")."""
    unknown = sorted(given.keys() - FIELDS.keys())
    if unknown:
        raise Refused("bad_request", f"{unknown[0][:60]!a}: an item has no such field; it has {', '.join(FIELDS)}")
    values = {name: FIELDS[name](given[name]) for name in given}
    if "type" in values and values["type"] not in types:
        raise Refused("bad_request", f"type {values['type']!a}: expected {', '.join(types)}")
    return values


def _title(value: object) -> str:
    title = " ".join(_text("title", value, _MAX_TITLE_CHARS).split())
    if not title:
        raise Refused("bad_request", "title: it is empty")
    return title


def _priority(value: object) -> int:
    return _whole("priority", value, 1, 5)


def _attempts(value: object) -> int:
    return _whole("max_attempts", value, 1, MAX_ATTEMPTS)


def _depends_on(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Refused("bad_request", "depends_on: expected a list of ids of items")
    if len(value) > _MAX_DEPENDENCIES:
        raise Refused("bad_request", f"depends_on: expected at most {_MAX_DEPENDENCIES} items, not {len(value)}")
    return tuple(dict.fromkeys(check_name(_text("depends_on", id, 64), "depends_on") for id in value))


def _agent(value: object) -> str | None:
    return None if value is None else check_name(_text("agent", value, 64), "agent")


def _due(value: object) -> str | None:
    if value is None:
        return None
    text = _text("due", value, 40)
    if _TIME.fullmatch(text) is None:
        raise Refused("bad_request", f"due {text!a}: expected a time as 2030-12-31T18:00:00Z")
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused("bad_request", f"due {text!a}: {error}") from error
    return text


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > _MAX_LABELS:
        raise Refused("bad_request", f"labels: expected an object of at most {_MAX_LABELS} texts")
    return {_text("labels", name, 64): _text(f"labels.{name}", text, _MAX_LABEL_CHARS) for name, text in value.items()}


def _meta(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Refused("bad_request", "meta: expected an object")
    _check_json("meta", value, _MAX_META_CHARS)
    return dict(value)


def _verify(value: object) -> Verification | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not value.keys() & {"argv", "schema"}:
        raise Refused("bad_request", "verify: expected an object with argv, or schema, or both")
    unknown = sorted(map(str, value.keys() - {"argv", "schema", "timeout_s"}))
    if unknown:
        raise Refused("bad_request", f"verify.{unknown[0][:60]}: expected argv, schema and timeout_s only")
    schema = value.get("schema")
    if schema is not None:
        check_schema(schema)
    timeout_s = value.get("timeout_s", Verification().timeout_s)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 1 <= timeout_s <= _MAX_VERIFY_S:
        raise Refused("bad_request", f"verify.timeout_s: expected 1 to {_MAX_VERIFY_S:g} seconds")
    return Verification(argv=_argv(value.get("argv", ())), timeout_s=float(timeout_s), schema=schema)


def _argv(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > _MAX_ARGV:
        raise Refused("bad_request", f"verify.argv: expected a list of at most {_MAX_ARGV} words: no shell reads it")
    words = tuple(_text("verify.argv", word, _MAX_ARGV_CHARS) for word in value)
    if any("\0" in word for word in words) or (words and not words[0]):
        raise Refused("bad_request", "verify.argv: a word holds NUL, or the first one is empty")
    return words


def _spec(value: object) -> str:
    return _text("spec", value, MAX_SPEC_CHARS)


def _type(value: object) -> str:
    return _text("type", value, 64)


# What a client may say of an item, and change later.
FIELDS: Final[Mapping[str, Callable[[object], Any]]] = {
    "title": _title,
    "spec": _spec,
    "type": _type,
    "priority": _priority,
    "depends_on": _depends_on,
    "agent": _agent,
    "max_attempts": _attempts,
    "due": _due,
    "labels": _labels,
    "verify": _verify,
    "meta": _meta,
}


def _text(name: str, value: object, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise Refused("bad_request", f"{name[:80]}: expected a text of at most {most} characters")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Refused("bad_request", f"{name[:80]}: it holds half a surrogate pair") from error
    return value


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Refused("bad_request", f"{name}: expected a whole number from {low} to {high}")
    return value


def _check_json(name: str, value: object, most: int) -> None:
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, TypeError, RecursionError) as error:
        raise Refused("bad_request", f"{name}: it is not JSON: {error}") from error
    if size > most:
        raise Refused("bad_request", f"{name}: expected at most {most} bytes of JSON, not {size}")


def _new_id() -> str:
    return "item-" + "".join(secrets.choice(_ID_LETTERS) for _ in range(10))
