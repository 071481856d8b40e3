"""What a stage's result has to be like: words that it holds or lacks, or a value at a place in it. Pure.

Nothing here is an expression of some language: a workflow is data, and no part of it is run as code.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Condition", "Outcome", "at_pointer"]

Outcome = Literal["done", "failed", "skipped", "cancelled"]
"""How a stage may end."""

Words = Annotated[str, Field(min_length=1, max_length=10_000)]

_NOWHERE: Final = object()


class Condition(BaseModel):
    """All that is given has to hold.

    Args:
        ended: how the stage ended; `is` where it is written. Where it is not, the stage has to be done: what has no
            result is like nothing.
        contains: text that the result has, as it is written.
        lacks: text that it has not.
        field: a JSON Pointer (RFC 6901) into the result, which has to be JSON then.
        equals: what is to be found there.

    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    ended: Outcome | None = Field(default=None, alias="is")
    contains: Words | None = None
    lacks: Words | None = None
    field: Annotated[str, Field(pattern=r"^(/.*)?$", max_length=1_000)] | None = None
    equals: Any = None

    def holds(self, outcome: str, result: str) -> bool:
        """Whether a stage that ended so, with this result, is what was asked for."""
        if outcome != (self.ended or "done"):
            return False
        if self.contains is not None and self.contains not in result:
            return False
        if self.lacks is not None and self.lacks in result:
            return False
        if self.field is None:
            return True
        found, value = at_pointer(result, self.field)
        return found and _is_same(value, self.equals)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if ("field" in self.model_fields_set) != ("equals" in self.model_fields_set):
            raise ValueError("field and equals belong together")
        if self.ended is None and self.contains is None and self.lacks is None and self.field is None:
            raise ValueError("give at least one of is, contains, lacks, or field with equals")
        return self


def at_pointer(text: str, pointer: str) -> tuple[bool, Any]:
    """Whether there is something at this place of a JSON text, and what."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return False, None
    for part in pointer.split("/")[1:]:
        found = _inside(found, part.replace("~1", "/").replace("~0", "~"))
        if found is _NOWHERE:
            return False, None
    return True, found


def _is_same(one: Any, other: Any) -> bool:
    """Whether they are the same JSON: true is not 1, and 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(one == other)


def _inside(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part, _NOWHERE)
    if isinstance(value, list) and part.isascii() and part.isdigit() and len(part) < 10 and int(part) < len(value):
        return value[int(part)]
    return _NOWHERE
