"""The key of rules that mask by `hash`: in all that one daemon keeps the same text looks the same, and without the key
nobody can try texts until one does."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

__all__ = ["mask_key"]

_BYTES: Final = 32


def mask_key(path: Path) -> bytes:
    """The key in this file, which is made, with mode 0600, when it is first asked for. Blocks. Raises OSError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_bytes(_BYTES)
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)  # of a daemon that was killed here
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(fd)
    partial.replace(path)
    return key
