"""The Registry: the only writer of the published snapshot of skills.

Readers hold a `PublishedSkills` and read `.snapshot`: an attribute, no message, no waiting, whatever the Registry
does meanwhile. It outlives the Registry, so a Registry that was restarted goes on from the last good versions.
Loading runs in a worker thread; a snapshot is replaced whole, in one assignment.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from skill_actors.runtime import Ask, Reject, TrioActor
from skill_actors.skills.base import SkillSnapshot
from skill_actors.skills.copies import SkillCopies
from skill_actors.skills.discovery import Source
from skill_actors.skills.library import Library, ReloadSummary, compare
from skill_actors.telemetry import Bus

__all__ = ["FoldersChanged", "PublishedSkills", "Registry", "Reload", "UnknownSkill"]


class UnknownSkill(Reject):
    """No skill of this name is loaded, and no folder that failed to load once held it."""


@dataclass(frozen=True, slots=True)
class Reload(Ask[ReloadSummary]):
    """Look again at everything, or at the one skill named. Raises UnknownSkill to the asker."""

    name: str | None = None


@dataclass(frozen=True, slots=True)
class FoldersChanged(Ask[ReloadSummary]):
    """Look again at what these changed paths concern; at everything if None."""

    paths: frozenset[Path] | None = None


class PublishedSkills:
    """Where the skills of this moment are read. Only the Registry writes."""

    __slots__ = ("snapshot",)

    def __init__(self) -> None:
        self.snapshot = SkillSnapshot()


class Registry(TrioActor):
    """Loads the skills of its sources before it counts as started, and again when asked.

    Every load that was asked for by Reload, and every other load that changed something, is told to the bus as
    `skill.reloaded`: measurements `duration_s` and `skills`, metadata `outcome` (`ok`, `failed` if a folder could
    not be loaded, `unchanged`), `generation`, and the names `added`, `changed` and `removed`.

    Args:
        published: where the snapshot goes.
        sources: folders to look for skills in, in order of precedence.
        bus: told about loads.
        copies: if given, each version is copied as it is loaded (see Library).

    """

    def __init__(
        self,
        published: PublishedSkills,
        sources: Sequence[Source],
        bus: Bus,
        *,
        copies: SkillCopies | None = None,
    ) -> None:
        super().__init__()
        self._published = published
        self._bus = bus
        self._library = Library(sources, last=published.snapshot, copies=copies)
        self._limiter = trio.CapacityLimiter(1)

    @property
    def snapshot(self) -> SkillSnapshot:
        """The skills of this moment."""
        return self._published.snapshot

    async def setup(self) -> None:
        """The first load."""
        self._tell(await self._load(None), asked=True)

    async def on_receive(self, message: Any) -> Any:
        """Answers Reload and FoldersChanged."""
        match message:
            case Reload(name=None):
                summary = await self._load(None)
            case Reload(name=str(name)):
                summary = await self._load(self._folders_of(name))
            case FoldersChanged(paths=paths):
                summary = await self._load(paths)
            case _:
                raise Reject(f"the skill registry does not understand {type(message).__name__}")
        self._tell(summary, asked=isinstance(message, Reload))
        return summary

    def _folders_of(self, name: str) -> frozenset[Path]:
        skill = self.snapshot.skills.get(name)
        roots = {skill.root} if skill is not None else set()
        roots |= {failure.path for failure in self.snapshot.failures if name in (failure.path.name, failure.kept)}
        if not roots:
            raise UnknownSkill(f"no skill is named {name!r}; reload all skills to look for new ones")
        return frozenset(roots)

    async def _load(self, paths: frozenset[Path] | None) -> ReloadSummary:
        last = self._published.snapshot
        started = time.perf_counter()
        # Abandoned when the actor stops: a folder on a dead network mount must not hold up the shutdown.
        new = await trio.to_thread.run_sync(
            self._library.load, last, paths, limiter=self._limiter, abandon_on_cancel=True
        )
        self._published.snapshot = new
        return compare(last, new, time.perf_counter() - started)

    def _tell(self, summary: ReloadSummary, *, asked: bool) -> None:
        if not asked and summary.outcome == "unchanged":
            return
        self._bus.emit(
            "skill.reloaded",
            {"duration_s": summary.duration_s, "skills": summary.skills},
            {
                "outcome": summary.outcome,
                "generation": summary.generation,
                "added": summary.added,
                "changed": summary.changed,
                "removed": summary.removed,
            },
        )
