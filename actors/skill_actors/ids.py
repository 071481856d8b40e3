"""Identifiers: a three-letter kind, an underscore and 26 lower-case base32 characters (128 random bits)."""

import base64
import hashlib
import re
import secrets
from typing import Final, Literal

__all__ = ["id_of", "is_id", "new_id"]

IdKind = Literal["ses", "trn", "apr", "run"]

_PATTERN: Final = re.compile(r"(?:ses|trn|apr|run)_[a-z2-7]{26}")


def new_id(kind: IdKind) -> str:
    """A fresh identifier that nobody can guess."""
    return _id(kind, secrets.token_bytes(16))


def id_of(kind: IdKind, *parts: object) -> str:
    """The identifier that these parts always have: for what must not be made twice."""
    return _id(kind, hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()[:16])


def _id(kind: IdKind, raw: bytes) -> str:
    return f"{kind}_{base64.b32encode(raw).decode('ascii').rstrip('=').lower()}"


def is_id(value: str, kind: IdKind) -> bool:
    """Whether `value` has the exact shape of an identifier of this kind (so it is safe in a path)."""
    return value.startswith(kind) and _PATTERN.fullmatch(value) is not None
