"""Identifiers: a three-letter kind, an underscore and 26 lower-case base32 characters (128 random bits)."""

import base64
import re
import secrets
from typing import Final, Literal

__all__ = ["is_id", "new_id"]

IdKind = Literal["ses", "trn", "apr"]

_PATTERN: Final = re.compile(r"(?:ses|trn|apr)_[a-z2-7]{26}")


def new_id(kind: IdKind) -> str:
    """A fresh identifier that nobody can guess."""
    return f"{kind}_{base64.b32encode(secrets.token_bytes(16)).decode('ascii').rstrip('=').lower()}"


def is_id(value: str, kind: IdKind) -> bool:
    """Whether `value` has the exact shape of an identifier of this kind (so it is safe in a path)."""
    return value.startswith(kind) and _PATTERN.fullmatch(value) is not None
