"""Request bodies: bytes to checked values. What JSON leaves open is closed here, before any handler sees it."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, NoReturn

import trio
from pydantic import BaseModel, ValidationError

from skill_actors.errors import Refused

__all__ = ["parse_body", "parse_json", "read_body", "stream_body", "validate"]

_MAX_DEPTH: Final = 64
_MAX_DIGITS: Final = 19
_MAX_VALUES: Final = 10_000  # in one document, keys counted: naming faults costs far more than reading them
_THREAD_BYTES: Final = 64 << 10  # above it parsing would hold up every conversation

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def read_body(receive: Receive) -> bytes:
    """The whole body. Its size and time are bounded by the connection.

    Raises:
        Refused: from the connection.
        ConnectionError: if the client leaves in the middle.

    """
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError("the client left in the middle of its request")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def stream_body(receive: Receive) -> AsyncGenerator[bytes, None]:
    """The body part by part. Raises as `read_body`."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError("the client left in the middle of its request")
        if part := message.get("body", b""):
            yield part
        if not message.get("more_body", False):
            return


async def parse_body(raw: bytes, model: type[BaseModel]) -> BaseModel:
    """Parse and check, big bodies in a worker thread.

    Raises:
        Refused: bad_request.

    """
    if len(raw) > _THREAD_BYTES:
        return await trio.to_thread.run_sync(_parse_and_validate, raw, model)
    return _parse_and_validate(raw, model)


def _parse_and_validate(raw: bytes, model: type[BaseModel]) -> BaseModel:
    return validate(parse_json(raw), model)


def parse_json(raw: bytes) -> Any:
    """Strict JSON: UTF-8 without BOM, no NaN or infinity, no duplicate keys, no NUL, no lone surrogates.

    Raises:
        Refused: bad_request naming what is wrong and where.

    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("bad_request", f"the body is not UTF-8 at byte {error.start}") from error
    if text.startswith("\ufeff"):
        raise Refused("bad_request", "the body begins with a byte order mark: send UTF-8 without one")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise Refused("bad_request", f"the body is not JSON: {error.msg} at {where}") from error
    except RecursionError as error:
        raise _too_deep() from error
    _check(value)
    return value


def validate(value: Any, model: type[BaseModel]) -> BaseModel:
    """The value as its model.

    Raises:
        Refused: bad_request naming each wrong field and, for an unknown one, the nearest known.

    """
    if not isinstance(value, dict):
        raise Refused("bad_request", f"the body is a JSON {_kind(value)}; expected an object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        items = error.errors(include_url=False, include_context=False, include_input=False)[:10]
        faults = [_fault(item["loc"], item["type"], item["msg"], model) for item in items]
        fields = [".".join(str(part) for part in item["loc"])[:200] for item in items]
        raise Refused("bad_request", "; ".join(faults), details={"fields": fields}) from None


def _fault(location: tuple[int | str, ...], kind: str, message: str, model: type[BaseModel]) -> str:
    field = ".".join(str(part) for part in location)[:200]
    if kind == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        return f"unknown field {field!r}: " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}")
    if kind == "missing":
        return f"field {field!r} is missing"
    return f"field {field!r}: {message.removeprefix('Value error, ').replace('Input should be', 'must be')}"


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        candidates = [] if field is None else [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        model = inner or model
    return sorted(model.model_fields)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Refused("bad_request", f"key {_shown(twice)} occurs twice in one object")
    return result


def _constant(text: str) -> NoReturn:
    raise Refused("bad_request", f"{text} is not JSON: numbers are finite")


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise Refused("bad_request", f"the number {text[:24]}... has more than {_MAX_DIGITS} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Refused("bad_request", f"the number {text[:24]} is out of range")
    return value


def _check(root: Any) -> None:
    """Walk without recursion: depth is bounded, text is free of what no store or terminal takes."""
    level = [root]
    count = 0
    for _ in range(_MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, dict):
                below.extend(value)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return
        count += len(below)
        if count > _MAX_VALUES:
            raise Refused("bad_request", f"the body holds more than {_MAX_VALUES} values")
        level = below
    raise _too_deep()


def _check_text(text: str) -> None:
    if "\0" in text:
        raise Refused("bad_request", f"text {_shown(text)} holds a NUL character")
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused("bad_request", f"text {_shown(text)} holds half a surrogate pair") from error


def _too_deep() -> Refused:
    return Refused("bad_request", f"the body is nested more than {_MAX_DEPTH} levels deep")


def _kind(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), "value")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else f"{text[:37]}...")
