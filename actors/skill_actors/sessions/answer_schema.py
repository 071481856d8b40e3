"""Answers as JSON of a given form: what a message may ask for, what the model is told, whether it kept to it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.native.schema import complaint, is_schema

__all__ = ["check_schema", "output_config", "schema_fault"]

_MAX_CHARS: Final = 65_536


def check_schema(schema: object) -> None:
    """Raise Refused("bad_request") unless this can be an answer's schema; whether it is a good one, the API says."""
    if not isinstance(schema, Mapping) or not schema:
        raise Refused("bad_request", "schema: expected a JSON schema, which is an object that is not empty")
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (ValueError, RecursionError) as error:
        raise Refused("bad_request", f"schema: expected JSON: {error}") from error
    if size > _MAX_CHARS:
        raise Refused("bad_request", f"schema: expected at most {_MAX_CHARS} characters of JSON, not {size}")


def output_config(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """The field of a model request that asks for such an answer; nothing where none was asked for."""
    return {} if schema is None else {"output_config": {"format": {"type": "json_schema", "schema": dict(schema)}}}


def schema_fault(schema: Mapping[str, Any], text: str) -> str | None:
    """What is wrong with an answer; None if it is JSON and as the schema says.

    Types, properties, required ones, items, enumerations and alternatives are looked at. A schema that has more is the
    API's to enforce: then only that the answer is JSON.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON: {error}"
    return complaint(schema, value, "the answer") if is_schema(schema) else None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no value of JSON")
