"""From what a program has printed to the result of a turn. Pure."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

from skill_actors.backends.agents.base import AgentError

__all__ = ["OUTPUTS", "Answer", "answer_of", "is_pointer"]

OUTPUTS: Final = ("json", "lines", "text")

_POINTER: Final = re.compile(r"(/([^~/]|~[01])*)+")
_MISSING: Final = object()
_MAX_SESSION: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a program says of its turn. `cost_usd`, `session_id`: None where it says nothing that can be one."""

    text: str
    session_id: str | None = None
    cost_usd: float | None = None
    failed: bool = False


def is_pointer(text: str) -> bool:
    """Whether this is a JSON pointer (RFC 6901) to something inside of a value."""
    return _POINTER.fullmatch(text) is not None


def answer_of(printed: str, output: str, *, result: str, session: str, cost: str, failed: str) -> Answer:
    """The answer.

    Args:
        output: one of OUTPUTS.
        result, session, cost, failed: JSON pointers; "" for nowhere.

    Raises:
        AgentError: "protocol", if it is no JSON, or the answer is not in it.

    """
    if output == "text":
        return Answer(text=printed.strip("\n"))
    lines = [line for line in printed.splitlines() if line.strip()]
    text = printed if output == "json" else (lines[-1] if lines else "")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AgentError("protocol", f"the program did not print JSON: {error}", partial=printed, acted=True) from error
    answer, has_failed = _at(value, result), bool(_at(value, failed, None)) if failed else False
    if answer is _MISSING and not has_failed:
        raise AgentError("protocol", f"what the program printed has nothing at {result}", partial=printed, acted=True)
    return Answer(
        text=_text(answer),
        session_id=_session(_at(value, session, None)) if session else None,
        cost_usd=_cost(_at(value, cost, None)) if cost else None,
        failed=has_failed,
    )


def _at(value: Any, pointer: str, otherwise: Any = _MISSING) -> Any:
    for raw in pointer.split("/")[1:]:
        key = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return otherwise
    return value


def _text(value: Any) -> str:
    if value is _MISSING or value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _session(value: Any) -> str | None:
    """An id goes into a command line, as one word that must be no option."""
    good = isinstance(value, str) and 0 < len(value) <= _MAX_SESSION and value.isprintable()
    return value if good and not value.startswith("-") else None


def _cost(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(value)
