"""What became of steered messages, by their idempotency keys: kept among the settings of their session. Pure.

Such a message has no turn of its own that could hold its key, and the key is stored in the same commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["steered_under", "with_steered"]

_STEERED: Final = "steered"  # none that anybody may choose
_KEPT: Final = 64  # keys of the latest steered messages of a session


def steered_under(settings: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """The message that was steered under this key: {"turn", "seq", "digest"}."""
    found: Mapping[str, Any] | None = settings.get(_STEERED, {}).get(_digest(key))
    return found


def with_steered(settings: Mapping[str, Any], key: str, *, turn: str, seq: int, digest: str) -> Mapping[str, Any]:
    """The change of settings by which a message is known under its key; the oldest keys go."""
    found = {**settings.get(_STEERED, {}), _digest(key): {"turn": turn, "seq": seq, "digest": digest}}
    return {_STEERED: dict(list(found.items())[-_KEPT:])}


def _digest(key: str) -> str:
    """Of a key, which may be long."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
