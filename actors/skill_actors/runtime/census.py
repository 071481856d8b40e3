"""How many actors of each class live, and how long their queues are: the figures of a whole tree, for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import trio

from skill_actors.runtime.branch import Branch
from skill_actors.runtime.ref import TrioActorRef

__all__ = ["ClassCensus", "take_census"]

_SLICE: Final = 500  # actors between two checkpoints: about 0.4 ms


@dataclass(slots=True)
class ClassCensus:
    """All living actors of one class together.

    Args:
        alive: how many there are.
        depth: messages that wait, in all their mailboxes.
        depth_max: messages that wait in the fullest.
        oldest_message_s: seconds for which the oldest message has waited or been handled; 0 if there is none.

    """

    alive: int = 0
    depth: int = 0
    depth_max: int = 0
    oldest_message_s: float = 0.0

    def add(self, depth: int, oldest_s: float) -> None:
        """Count one more actor."""
        self.alive += 1
        if depth:
            self.depth += depth
            self.depth_max = max(self.depth_max, depth)
        self.oldest_message_s = max(self.oldest_message_s, oldest_s)


async def take_census(root: TrioActorRef[Any]) -> Mapping[str, ClassCensus]:
    """The figures by class name of the tree under `root`, itself included.

    Every few hundred actors other tasks have their turn, so that ten thousand conversations hold nobody up; what
    starts or ends meanwhile may be counted or not.
    """
    found: dict[str, ClassCensus] = {}
    pending: list[TrioActorRef[Any]] = [root]
    seen = 0
    while pending:
        ref = pending.pop()
        seen += 1
        if seen % _SLICE == 0:
            await trio.lowlevel.checkpoint()
        if ref.exit_reason is not None:
            continue
        of_class = found.setdefault(ref.actor_class.__name__, ClassCensus())
        of_class.add(len(ref._cell.mailbox), ref._cell.oldest_message_s())
        if issubclass(ref.actor_class, Branch):
            actor = ref._actor_weakref()
            pending += () if actor is None else actor._refs()
            del actor  # a reference that outlives a checkpoint would keep a stopped supervisor alive
    return found
