"""Garbage collection of the daemon: full collections when they hurt least, and how long each collection took.

Python's own full collection looks at every object while nobody is served: half a second with 50,000 conversations.
So what the start made is frozen, the threshold of full collections is out of reach, and they are done here: when no
turn runs and the loop is not behind, and if that never happens, at last in any case.
All of it is process-wide, so it belongs to the daemon: a system opened in another program changes nothing.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final

import trio

from skill_actors.runtime import TrioActor

if TYPE_CHECKING:
    from skilld.parts import Parts

__all__ = ["FULL_MAX_S", "FULL_MIN_S", "GarbageKeeper", "Load", "is_full_due", "settle_heap"]

_THRESHOLDS: Final = (700, 10, 1000)  # with a frozen heap: no long pause under churn
FULL_MIN_S: Final = 60.0
FULL_MAX_S: Final = 900.0
QUIET_LAG_S: Final = 0.01
_LOOK_S: Final = 1.0
_MAX_KEPT: Final = 100_000


def settle_heap() -> None:
    """Keep what there is for ever, and collect what comes by the daemon's thresholds."""
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    gc.enable()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What decides about a full collection.

    Args:
        since_s: seconds since the last one, or since the start.
        turns: turns that run.
        lag_s: how late the loop woke the last sleeper, in seconds.
        younger: collections of the middle generation since the last full one; 0: there is nothing to find.

    """

    since_s: float
    turns: int
    lag_s: float
    younger: int


def is_full_due(load: Load) -> bool:
    """Whether to do a full collection now."""
    if load.younger == 0 or load.since_s < FULL_MIN_S:
        return False
    return load.since_s >= FULL_MAX_S or (load.turns == 0 and load.lag_s <= QUIET_LAG_S)


class _Pauses:
    """Times collections. Called by the interpreter in the middle of anything, so it takes no lock and calls nobody."""

    def __init__(self) -> None:
        self._taken: deque[tuple[int, float]] = deque(maxlen=_MAX_KEPT)
        self._began = 0.0

    def __call__(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
        elif self._began:
            self._taken.append((info["generation"], perf_counter() - self._began))

    def drain(self) -> list[tuple[int, float]]:
        """Generation and seconds of every collection since the last call."""
        return [self._taken.popleft() for _ in range(len(self._taken))]


class GarbageKeeper(TrioActor):
    """Does the full collections, and emits `gc.pause` for every collection."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts

    async def setup(self) -> None:
        """Begin."""
        self.spawn(self._keep)

    async def _keep(self) -> None:
        pauses = _Pauses()
        gc.callbacks.append(pauses)
        try:
            await self._look_again_and_again(pauses)
        finally:
            gc.callbacks.remove(pauses)

    async def _look_again_and_again(self, pauses: _Pauses) -> None:
        last = trio.current_time()
        while True:
            due = trio.current_time() + _LOOK_S
            await trio.sleep_until(due)
            now = trio.current_time()
            if now - last >= FULL_MIN_S and gc.isenabled() and is_full_due(self._load(now - last, now - due)):
                gc.collect()
                last = trio.current_time()
            for generation, pause_s in pauses.drain():
                self._parts.bus.emit("gc.pause", {"duration": pause_s}, {"generation": generation})

    def _load(self, since_s: float, lag_s: float) -> Load:
        sessions = self._parts.sessions.peek()
        turns = 0 if sessions is None else sessions.status()["turns_running"]
        return Load(since_s=since_s, turns=turns, lag_s=lag_s, younger=gc.get_count()[2])
