"""From annotations to the schema of a tool's input, and input held to such a schema."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin

__all__ = ["PROPERTY_NAME", "UnknownType", "complaint", "is_schema", "schema_of"]

PROPERTY_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""What the Messages API takes as a name of a property; one that it does not take spoils the whole request."""

_MAX_DEPTH: Final = 8
_PLAIN: Final[Mapping[Any, str]] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_PYTHON: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (Mapping,),
    "null": (type(None),),
}


class UnknownType(Exception):
    """An annotation that has no schema here."""


def schema_of(annotation: Any, depth: int = 0) -> dict[str, Any]:
    """The JSON schema of a type: str, int, float, bool, None, Any, Literal, list, dict, TypedDict and unions of them.

    `Annotated[T, "text"]` gives the schema of T with that description. Raises UnknownType.
    """
    if depth > _MAX_DEPTH:
        raise UnknownType(f"it is nested more than {_MAX_DEPTH} levels deep")
    if annotation is Any:
        return {}
    if annotation is None or annotation is type(None):
        return {"type": "null"}
    if isinstance(annotation, type) and annotation in _PLAIN:
        return {"type": _PLAIN[annotation]}
    if typing.is_typeddict(annotation):
        return _of_typed_dict(annotation, depth)
    return _of_generic(annotation, depth)


def _of_generic(annotation: Any, depth: int) -> dict[str, Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        said = [extra for extra in arguments[1:] if isinstance(extra, str)]
        return {**schema_of(arguments[0], depth), **({"description": said[0]} if said else {})}
    if origin is Literal and all(type(value) in (str, int, bool) for value in arguments):
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(argument, depth + 1) for argument in arguments]}
    if annotation is list or origin is list:
        return {"type": "array", "items": schema_of(arguments[0], depth + 1)} if arguments else {"type": "array"}
    if annotation is dict:
        return {"type": "object"}
    if origin is dict and arguments[0] is str:
        return {"type": "object", "additionalProperties": schema_of(arguments[1], depth + 1)}
    raise UnknownType(f"{annotation!r} has no JSON schema; use str, int, float, bool, Literal, list, dict or TypedDict")


def _of_typed_dict(annotation: Any, depth: int) -> dict[str, Any]:
    hints = typing.get_type_hints(annotation, include_extras=True)
    odd = [name for name in hints if not PROPERTY_NAME.fullmatch(name)]
    if odd:
        raise UnknownType(f"{annotation!r} has the key {odd[0][:100]!r}; use letters, digits and underscores")
    return {
        "type": "object",
        "properties": {name: schema_of(_unwrapped(hint), depth + 1) for name, hint in hints.items()},
        "required": sorted(annotation.__required_keys__),
        "additionalProperties": False,
    }


def _unwrapped(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) in (typing.Required, typing.NotRequired) else hint


def is_schema(value: Any, depth: int = 0) -> bool:
    """Whether a JSON value is something that `schema_of` could have made, so that `complaint` can use it."""
    if not isinstance(value, Mapping) or depth > _MAX_DEPTH + 1:
        return False
    kind, required = value.get("type", "null"), value.get("required", [])
    options, properties = value.get("anyOf", []), value.get("properties", {})
    lists = (options, required, value.get("enum", []))
    if not isinstance(properties, Mapping) or not all(isinstance(one, list) for one in lists):
        return False
    if not all(isinstance(name, str) for name in (kind, *required)) or kind not in _PYTHON:
        return False
    others = [value[name] for name in ("items", "additionalProperties") if value.get(name, False) is not False]
    return all(is_schema(part, depth + 1) for part in (*options, *properties.values(), *others))


def complaint(schema: Mapping[str, Any], value: Any, where: str = "the input") -> str | None:
    """What is wrong with a JSON value, in words the model can act on; None if it is as `schema_of` describes."""
    if "enum" in schema:
        if any(type(value) is type(item) and value == item for item in schema["enum"]):
            return None
        return f"{where} must be one of {', '.join(map(repr, schema['enum']))}, not {value!r:.100}"
    if "anyOf" in schema:
        found = [complaint(option, value, where) for option in schema["anyOf"]]
        return None if None in found else " or ".join(sorted({text for text in found if text}))
    if "type" not in schema:
        return None
    return _of_wrong_type(schema["type"], value, where) or _of_parts(schema, value, where)


def _of_wrong_type(name: str, value: Any, where: str) -> str | None:
    fits = isinstance(value, _PYTHON[name]) and (name == "boolean" or not isinstance(value, bool))
    if fits:
        return None
    article = "an" if name[0] in "aio" else "a"
    return f"{where} must be {'null' if name == 'null' else f'{article} {name}'}, not {value!r:.100}"


def _of_parts(schema: Mapping[str, Any], value: Any, where: str) -> str | None:
    if schema["type"] == "array" and "items" in schema:
        found = (complaint(schema["items"], item, f"{where}[{place}]") for place, item in enumerate(value))
        return next((text for text in found if text is not None), None)
    if schema["type"] != "object":
        return None
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        return f"{where}: the field {', '.join(missing)} is missing"
    for name, item in value.items():
        if name not in properties and others is False:
            return f"{where}: unknown field {name[:100]!r}; the fields are {', '.join(properties) or 'none'}"
        inner = properties.get(name, others)
        found_here = complaint(inner, item, _below(where, name)) if isinstance(inner, Mapping) else None
        if found_here is not None:
            return found_here
    return None


def _below(where: str, name: str) -> str:
    return name if where == "the input" else f"{where}.{name[:100]}"
