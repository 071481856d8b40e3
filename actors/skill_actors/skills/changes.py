"""What changed from one snapshot to the next: told in order to whoever follows, some of it remembered."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

import trio

from skill_actors.skills.base import SkillFailure, SkillSnapshot

__all__ = ["SkillChange", "SkillChanges", "describe_change", "is_error"]

_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillChange:
    """The step to one generation. Skills are given with the digest of what holds now, those removed by name.

    Args:
        failed: paths that could not be loaded by now, whose last good versions stay.
        missed: changes before this one are not known here any more; whoever follows has to read all skills.

    """

    generation: int
    time: str
    added: Mapping[str, str]
    changed: Mapping[str, str]
    removed: Sequence[str]
    failed: Sequence[str]
    missed: bool = False


def describe_change(old: SkillSnapshot, new: SkillSnapshot) -> SkillChange:
    """The step from `old` to `new`."""
    before, now = old.skills, new.skills
    return SkillChange(
        generation=new.generation,
        time=new.loaded_at,
        added={name: skill.digest for name, skill in now.items() if name not in before},
        changed={name: skill.digest for name, skill in now.items() if before.get(name, skill) != skill},
        removed=[name for name in before if name not in now],
        failed=[str(failure.path) for failure in new.failures if is_error(failure)],
    )


def is_error(failure: SkillFailure) -> bool:
    """Whether it keeps a skill from being loaded; else it only tells why one is not used."""
    return any(found.severity == "error" for found in failure.diagnostics)


class SkillChanges:
    """The last 256 changes, and those to come. Belongs to the trio thread."""

    def __init__(self) -> None:
        self._recent: deque[SkillChange] = deque(maxlen=_REMEMBERED)
        self._news = trio.Event()

    def add(self, change: SkillChange) -> None:
        """Remember the change and wake who follows."""
        self._recent.append(change)
        news, self._news = self._news, trio.Event()
        news.set()

    async def follow(self, after: int, *, live: bool = True) -> AsyncGenerator[SkillChange, None]:
        """The changes after a generation, then, if `live`, those to come; to be closed (contextlib.aclosing).

        A slow reader may miss some, and is told. A generation that is not reached yet is one of an earlier life of the
        daemon: everything is given then.
        """
        newest = self._recent[-1].generation if self._recent else 0
        missed, after = (True, 0) if after > newest else (False, after)
        while True:
            news = self._news
            for change in self._since(after):
                missed = missed or change.generation > after + 1
                yield replace(change, missed=True) if missed else change
                after, missed = change.generation, False
            if news is self._news:
                if not live:
                    return
                await news.wait()

    async def next(self, after: int) -> SkillChange:
        """The first change after a generation, waited for if need be."""
        async with aclosing(self.follow(after)) as changes:
            return await anext(changes)

    def _since(self, after: int) -> list[SkillChange]:
        return [change for change in self._recent if change.generation > after]
