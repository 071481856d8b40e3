"""A place for what an actor made, for those who are started after it."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

__all__ = ["NotStarted", "Slot"]

T = TypeVar("T")


class NotStarted(RuntimeError):
    """A part of the daemon was used before its actor had made it."""


class Slot(Generic[T]):
    """Holds what an actor made, for those who are started after it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._value: T | None = None
        self._filled = trio.Event()
        self.why = ""  # there is nothing, in words for users; "" where nobody knows

    def put(self, value: T) -> None:
        """Publish; replaces what an earlier incarnation published."""
        self._value = value
        self.why = ""
        self._filled.set()

    def clear(self) -> None:
        """The maker has ended."""
        self._value = None
        self._filled = trio.Event()

    def get(self) -> T:
        """What was published. Raises NotStarted."""
        if self._value is None:
            raise NotStarted(f"{self._name} is not started")
        return self._value

    def peek(self) -> T | None:
        """What was published, if anything."""
        return self._value

    async def wait(self) -> T:
        """Wait until there is something."""
        while self._value is None:
            await self._filled.wait()
        return self._value
