"""Tokens of leases, which nobody can guess.

The kernel is asked once for each board and not for each token: while it answers, the interpreter lock goes to the
thread that writes the journal, and a claim waits longer for it to come back than it takes in all.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from itertools import count

__all__ = ["Tokens"]


class Tokens:
    """A row of them, from a key that never leaves the process: 128 bits each, and none comes twice."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._numbers = count()

    def new(self) -> str:
        """The next one, in hexadecimal digits."""
        return blake2b(next(self._numbers).to_bytes(8, "big"), digest_size=16, key=self._key).hexdigest()
