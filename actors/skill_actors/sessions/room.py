"""Room for the messages that wait in all sessions together, and how much of it one user may take.

A bound for all alone would let one user fill it and have everybody else refused. So a user may have only as many
messages waiting as there are places left free: one alone takes half of them, two a third each, and whoever comes next
finds some. No number of users has to be known, and nothing is kept for those who never come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from skill_actors.errors import Refused
from skill_actors.sessions.session import LiveSession

__all__ = ["WaitingRoom"]

_RETRY_S = 5.0


class WaitingRoom:
    """Counts what waits, by owner. Belongs to the trio thread.

    Args:
        total: messages that may wait at once.

    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._waiting: dict[str, LiveSession] = {}  # sessions that had turns waiting when they were looked at last
        self._entering: Counter[int] = Counter()  # messages between the check of the bound and the line they join

    def note(self, live: LiveSession) -> None:
        """Turns wait in this session."""
        self._waiting[live.id] = live

    @contextmanager
    def place(self, owner: int) -> Iterator[None]:
        """Hold a place until the message waits in its session, or does not. Raises Refused("overloaded")."""
        self._check(owner)
        self._entering[owner] += 1
        try:
            yield
        finally:
            self._entering[owner] -= 1
            if not self._entering[owner]:
                del self._entering[owner]

    def _check(self, owner: int) -> None:
        counts = self._counts()
        free = self._total - counts.total()
        if free <= 0:
            raise Refused(
                "overloaded",
                f"{self._total} messages wait in all sessions together; send again when some have been answered",
                retry_after_s=_RETRY_S,
            )
        if counts[owner] >= free:
            raise Refused(
                "overloaded",
                f"{counts[owner]} messages of yours wait, and the {free} places left are for other users; "
                "send again when some of yours have been answered",
                retry_after_s=_RETRY_S,
            )

    def _counts(self) -> Counter[int]:
        self._waiting = {id: live for id, live in self._waiting.items() if live.pending}
        counts = Counter(self._entering)
        for live in self._waiting.values():
            counts[live.log.record.owner_uid] += len(live.pending)
        return counts
