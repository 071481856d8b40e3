"""What a server says of its tools, made into what a model may be offered. Pure; bounded work for any input.

A server is not trusted: what it says may be huge, may be made to hide things from people, or may be refused by the
model's API, which would end every turn of the conversation. A tool that is not plainly in order is left out.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from skill_actors.backends.tool_source import SourceTool
from skill_actors.mcp.options import ServerOptions

__all__ = ["read_listing"]

_MAX_DESCRIPTION: Final = 8_000  # characters
_MAX_SCHEMA: Final = 32_000  # characters of its JSON
_MAX_TOTAL: Final = 400_000  # characters of all definitions: what a model is sent with every request
_MAX_DEPTH: Final = 32
_MAX_NODES: Final = 5_000
_MAX_RAW_NAME: Final = 200
_PROPERTY: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # what the API takes
_NOT_AT_TOP: Final = ("oneOf", "anyOf", "allOf")  # nor these


def read_listing(raw: Sequence[Mapping[str, Any]], options: ServerOptions) -> tuple[list[SourceTool], dict[str, str]]:
    """The tools that conversations are offered, in the server's order, and why others are left out, by name.

    Args:
        raw: `name`, `description` and `inputSchema` of each tool.

    """
    kept: list[SourceTool] = []
    left_out: dict[str, str] = {}
    seen: set[str] = set()
    total = 0
    for tool in raw:
        name = str(tool.get("name", ""))
        if not options.offers(name):
            continue
        schema = tool.get("inputSchema")
        if len(kept) >= options.max_tools:  # before what takes time: there may be ten thousand
            why = f"there are more than {options.max_tools} (max_tools)"
        else:
            why = _wrong_name(name) or ("it is listed twice" if name in seen else "") or _wrong_schema(schema)
        seen.add(name)
        description = "" if why else _plain(str(tool.get("description") or ""))
        size = 0 if why else len(json.dumps(schema)) + len(description)
        if not why and total + size > _MAX_TOTAL:
            why = f"all tools together take more than {_MAX_TOTAL} characters"
        if why:
            left_out[_plain(name)[:_MAX_RAW_NAME]] = why
            continue
        total += size
        kept.append(
            SourceTool(
                name=name,
                description=description,
                input_schema=dict(schema or {}),
                reads=options.only_reads(name),
            )
        )
    return kept, left_out


def _wrong_name(name: str) -> str:
    if not 0 < len(name) <= _MAX_RAW_NAME:
        return f"its name has {len(name)} characters"
    return "its name has characters that cannot be seen" if any(map(_is_hidden, name)) else ""


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _plain(text: str) -> str:
    """Text without what people cannot see and models can read, and not too long."""
    shown = "".join(character for character in text[: 2 * _MAX_DESCRIPTION] if _stays(character))
    return shown if len(shown) <= _MAX_DESCRIPTION else f"{shown[:_MAX_DESCRIPTION]} [... the rest is left out]"


def _stays(character: str) -> bool:
    return character in "\n\t" or not _is_hidden(character)


def _wrong_schema(schema: Any) -> str:
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        return "its input is no object"
    if any(name in schema for name in _NOT_AT_TOP):
        return f"its input schema begins with one of {', '.join(_NOT_AT_TOP)}"
    problem = _walk(schema)
    if problem:
        return problem
    if _expanded(schema, schema.get("$defs") or schema.get("definitions") or {}) > _MAX_NODES:
        return "its input schema refers to itself over and over"
    if len(json.dumps(schema)) > _MAX_SCHEMA:
        return f"its input schema takes more than {_MAX_SCHEMA} characters"
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping) or not all(map(_PROPERTY.fullmatch, properties)):
        return "its input has a field whose name is not letters, digits, . _ and -, or too long"
    return _invalid(schema)


def _walk(schema: Mapping[str, Any]) -> str:
    """What is wrong with its size, depth or references. Visits a bounded number of values."""
    visited = 0
    waiting: list[tuple[Any, int]] = [(schema, 0)]
    while waiting:
        value, depth = waiting.pop()
        visited += 1
        if visited > _MAX_NODES or depth > _MAX_DEPTH:
            return f"its input schema has more than {_MAX_NODES} parts, or is deeper than {_MAX_DEPTH}"
        if isinstance(value, Mapping):
            if "$dynamicRef" in value or not _is_local(value.get("$ref", "#/$defs/"), schema):
                return "its input schema refers to what is not in it"
            waiting += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
    return ""


def _is_local(reference: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a reference is to a definition beside it, as nearly all are."""
    for place in ("$defs", "definitions"):
        start = f"#/{place}/"
        if isinstance(reference, str) and reference.startswith(start):
            name = reference.removeprefix(start)
            return not name or (isinstance(schema.get(place), Mapping) and name in schema[place])
    return False


def _expanded(schema: Mapping[str, Any], defined: Mapping[str, Any]) -> int:
    """How many references there are with each in the place of what refers to it; a cycle counts once."""
    sizes: dict[str, int] = {}

    def size_of(name: str, above: frozenset[str]) -> int:
        if name in above:
            return 1
        if name not in sizes:
            inner = _references(defined.get(name))
            sizes[name] = min(_MAX_NODES + 1, 1 + sum(size_of(each, above | {name}) for each in inner))
        return sizes[name]

    return sum(size_of(name, frozenset()) for name in _references({**schema, "$defs": None, "definitions": None}))


def _references(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        own = [str(value["$ref"]).rpartition("/")[2]] if "$ref" in value else []
        return own + [name for part in value.values() for name in _references(part)]
    return [name for part in value for name in _references(part)] if isinstance(value, list) else []


def _invalid(schema: Mapping[str, Any]) -> str:
    jsonschema: Any = import_module("jsonschema")  # the SDK's own; nobody lists tools without it
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"its input schema is none: {error.message[:200]}"
    for pattern in _patterns(schema):
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError):
            return "its input schema has a pattern that is none"
    return ""


def _patterns(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("pattern"), str):
            yield value["pattern"]
        for part in value.values():
            yield from _patterns(part)
    elif isinstance(value, list):
        for part in value:
            yield from _patterns(part)
