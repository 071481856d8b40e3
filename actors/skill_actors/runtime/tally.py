"""Counts of what went wrong between callers and actors, by actor class: few numbers, however many actors there are."""

from __future__ import annotations

import threading
from typing import Final, Literal, get_args

__all__ = ["OTHER_CLASSES", "Tallied", "Tally"]

Tallied = Literal["mailbox_rejected", "mailbox_dropped", "ask_timeouts", "ask_abandoned", "threads_leaked"]

MAX_CLASSES: Final = 256
OTHER_CLASSES: Final = "other"


class Tally:
    """One per system. From any thread.

    mailbox_rejected: a `tell` that raised MailboxFull.
    mailbox_dropped: a message that an overflow policy let go.
    ask_timeouts: a `call` that raised Timeout.
    ask_abandoned: a `call` whose caller was cancelled before the answer.
    threads_leaked: a thread that went on running after its actor's end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # only on the way of what went wrong, so nobody waits for it
        self._counts: dict[Tallied, dict[str, int]] = {what: {} for what in get_args(Tallied)}

    def add(self, what: Tallied, actor_class: str) -> None:
        """Count one. Classes after the first 256 of a kind share the name `other`."""
        with self._lock:
            counts = self._counts[what]
            if actor_class not in counts and len(counts) >= MAX_CLASSES:
                actor_class = OTHER_CLASSES
            counts[actor_class] = counts.get(actor_class, 0) + 1

    def count(self, what: Tallied, actor_class: str) -> int:
        """How often it happened to actors of this class."""
        with self._lock:
            return self._counts[what].get(actor_class, 0)

    def snapshot(self) -> dict[Tallied, dict[str, int]]:
        """A copy: kind -> class name -> count. Every kind is in it."""
        with self._lock:
            return {what: dict(counts) for what, counts in self._counts.items()}
