"""The key of rules that mask by `hash`: in all that one daemon keeps the same text looks the same, and without the key
nobody can try texts until one does."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from skill_actors.durable import replace_file

__all__ = ["mask_key"]

_BYTES: Final = 32


def mask_key(path: Path) -> bytes:
    """The key in this file, which is made, with mode 0600, when it is first asked for. Blocks. Raises OSError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_bytes(_BYTES)
    replace_file(path, key)
    return key
