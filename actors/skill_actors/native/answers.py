"""What a callback may return, and what the model reads of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["MAX_ANSWER_BYTES", "BadAnswer", "answer_bytes"]

MAX_ANSWER_BYTES: Final = 8 << 20


class BadAnswer(Exception):
    """A callback returned something that no model can read."""


def answer_bytes(answer: Any) -> bytes:
    """Text, or a list or mapping of JSON values, as UTF-8.

    Raises:
        BadAnswer: it is something else, or too long.

    """
    if isinstance(answer, str):
        text = answer
    elif isinstance(answer, list | tuple | Mapping):
        try:
            text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadAnswer(f"it returned a {type(answer).__name__} that is no JSON: {error}") from None
    else:
        what = "nothing" if answer is None else f"a value of type {type(answer).__name__}"
        raise BadAnswer(f"it returned {what}; it has to return text, or a list or mapping of JSON values")
    data = text.encode(errors="replace")
    if len(data) > MAX_ANSWER_BYTES:
        raise BadAnswer(f"it returned {len(data)} bytes, over the limit of {MAX_ANSWER_BYTES}")
    return data
