"""What a holder says it has done, and whether that is enough for the item to be done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.native.schema import complaint, is_schema
from skill_actors.sessions.answer_schema import schema_fault
from skill_actors.workshop.board.item import Item

__all__ = ["MAX_RESULT_CHARS", "Outcome", "check_outcome", "cut_result", "structured_of"]

MAX_RESULT_CHARS: Final = 65_536
_MAX_STRUCTURED_BYTES: Final = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of an attempt that went well.

    Args:
        result: in words.
        structured: the same as JSON, where the item has a schema; without it `result` is read as JSON.
        command_passed: whether the item's command was run, and ended with 0.
        waived: why it counts although the verification was not made.

    """

    result: str | None = None
    structured: Any = None
    command_passed: bool = False
    waived: str | None = None


def check_outcome(item: Item, outcome: Outcome) -> str:
    """See that the item is done with this; a note for its history.

    Raises Refused: conflict, with the reason `unverified` in its details, where the item's verification does not hold;
    too_large.
    """
    if len(outcome.result or "") > MAX_RESULT_CHARS:
        raise Refused("too_large", f"result: expected at most {MAX_RESULT_CHARS} characters")
    _check_size(outcome.structured)
    verify = item.verify
    if verify is None:
        return ""
    if outcome.waived is not None:
        return f"verification waived: {outcome.waived[:200]}"
    if verify.schema is not None and (fault := _schema_fault(item, outcome)) is not None:
        raise _unverified(item, f"its answer is not as its schema says: {fault}")
    if verify.argv and not outcome.command_passed:
        raise _unverified(
            item, "its command has to pass first, which a board worker runs; or say why it counts without (waive)"
        )
    return "verified"


def structured_of(item: Item, outcome: Outcome) -> Any:
    """The answer as JSON, of one that was checked; None where none was asked for, or its check was waived."""
    asked = item.verify is not None and item.verify.schema is not None
    if outcome.structured is not None or not asked or outcome.waived is not None:
        return outcome.structured
    return json.loads(outcome.result or "null")


def cut_result(text: str) -> str:
    """As much of an answer as an item holds; the end of a long one is left out, and said so."""
    if len(text) <= MAX_RESULT_CHARS:
        return text
    note = f"\n[skilld: {len(text) - MAX_RESULT_CHARS + 80} characters more are in the turn]"
    return text[: MAX_RESULT_CHARS - len(note)] + note


def _check_size(structured: Any) -> None:
    if structured is None:
        return
    try:
        size = len(json.dumps(structured, allow_nan=False))
    except (ValueError, TypeError, RecursionError) as error:
        raise Refused("bad_request", f"structured: it is not JSON: {error}") from error
    if size > _MAX_STRUCTURED_BYTES:
        raise Refused("too_large", f"structured: expected at most {_MAX_STRUCTURED_BYTES} bytes of JSON, not {size}")


def _schema_fault(item: Item, outcome: Outcome) -> str | None:
    assert item.verify is not None
    assert item.verify.schema is not None
    schema = item.verify.schema
    if outcome.structured is None:
        return schema_fault(schema, outcome.result or "")
    return complaint(schema, outcome.structured, "the answer") if is_schema(schema) else None


def _unverified(item: Item, why: str) -> Refused:
    return Refused(
        "conflict",
        f"item {item.id!r} is not done: {why}",
        details={"id": item.id, "status": item.status, "reason": "unverified"},
    )
