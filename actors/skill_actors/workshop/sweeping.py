"""Removes what has outlived its time, values of the store and ended runs, as a child of a supervisor."""

from __future__ import annotations

import logging
from typing import Final, Protocol

import trio

from skill_actors.runtime import TrioActor
from skill_actors.store.base import StoreError

__all__ = ["Sweepable", "Sweeper"]

_EVERY_S: Final = 10.0  # nobody sees them any more; this is for the room they take, and for who waits to be told

_log = logging.getLogger(__name__)


class Sweepable(Protocol):
    """What keeps something for a time."""

    async def sweep(self) -> int:
        """Remove what has outlived its time; how much. Raises StoreError."""


class Sweeper(TrioActor):
    """Looks every so often, and goes on after an error of the store."""

    def __init__(self, *kept: Sweepable, every_s: float = _EVERY_S) -> None:
        super().__init__()
        self._kept = kept
        self._every_s = every_s

    async def setup(self) -> None:
        self.spawn(self._run)

    async def _run(self) -> None:
        while True:
            await trio.sleep(self._every_s)
            for kept in self._kept:
                await self._sweep(kept)

    async def _sweep(self, kept: Sweepable) -> None:
        what = type(kept).__name__.lower()
        try:
            removed = await kept.sweep()
        except StoreError as error:
            _log.warning("%s that have expired stay for now: %s", what, error)
            return
        if removed:
            _log.info("removed %d %s that had expired", removed, what)
