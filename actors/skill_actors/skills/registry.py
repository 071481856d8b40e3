"""The Registry: the only writer of the published snapshot of skills.

Readers hold a `PublishedSkills` and read `.snapshot`: an attribute, no message, no waiting, whatever the Registry
does meanwhile. It outlives the Registry, so a Registry that was restarted goes on from the last good versions.
Loading runs in a worker thread; a snapshot is replaced whole, in one assignment.

Two kinds of skills come by message instead of from the sources, win over these, and survive every reload. Skills that
are *registered* are kept where the snapshot is, and live as long. Packages that are *pushed* are stored in a folder
of their own, and live until they are removed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.runtime import Ask, Reject, TrioActor
from skill_actors.skills.base import Skill, SkillSnapshot
from skill_actors.skills.changes import SkillChanges, describe_change
from skill_actors.skills.choice import SkillRules
from skill_actors.skills.copies import SkillCopies
from skill_actors.skills.discovery import Source
from skill_actors.skills.library import Library, ReloadSummary, compare, is_unsettled
from skill_actors.skills.native import NativeLoader
from skill_actors.skills.packages import PackageCache
from skill_actors.skills.pushed import PushedPackages, PushRefused, Stored
from skill_actors.telemetry import Bus

__all__ = [
    "FoldersChanged",
    "NotPushed",
    "PublishedSkills",
    "Push",
    "PushFailed",
    "PushRejected",
    "PushResult",
    "Register",
    "Registry",
    "Reload",
    "RemovePushed",
    "UnknownSkill",
    "Unregister",
]

_LOOK_AGAIN_S: Final = 0.2  # at what somebody was writing


class UnknownSkill(Reject):
    """No skill of this name is loaded, and no folder that failed to load once held it."""


class NotPushed(Reject):
    """No skill of this name was pushed: what lies in a source is changed there."""


class PushFailed(Reject):
    """The package cannot be written to disk, or removed from it. Nothing has changed."""


class PushRejected(Reject):
    """The package holds no skill that can be used; `cause` has the diagnostics. Nothing has changed."""

    def __init__(self, cause: PushRefused) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Reload(Ask[ReloadSummary]):
    """Look again at everything, or at the one skill named. Raises UnknownSkill to the asker."""

    name: str | None = None


@dataclass(frozen=True, slots=True)
class FoldersChanged(Ask[ReloadSummary]):
    """Look again at what these changed paths concern; at everything if None."""

    paths: frozenset[Path] | None = None


@dataclass(frozen=True, slots=True)
class Register(Ask[ReloadSummary]):
    """Use these skills, before all others, in the place of those registered under the same names."""

    skills: tuple[Skill, ...]


@dataclass(frozen=True, slots=True)
class Unregister(Ask[ReloadSummary]):
    """Do not use the registered skill of this name any more. Raises UnknownSkill to the asker."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """What became of a package. `replaced`: another one of that name was pushed before."""

    name: str
    digest: str
    replaced: bool
    summary: ReloadSummary


@dataclass(frozen=True, slots=True)
class Push(Ask[PushResult]):
    """Store this package (the bytes of a `.skill` file) and use it. Raises PushRejected or PushFailed to the asker."""

    package: bytes


@dataclass(frozen=True, slots=True)
class RemovePushed(Ask[ReloadSummary]):
    """Remove the pushed skill of this name; what it hid holds again. Raises NotPushed or PushFailed to the asker."""

    name: str


class PublishedSkills:
    """Where the skills of this moment are read, and how they changed. Only the Registry writes."""

    __slots__ = ("changes", "linked", "packaged", "registered", "snapshot")

    def __init__(self) -> None:
        self.snapshot = SkillSnapshot()
        self.changes = SkillChanges()
        self.registered: Mapping[str, Skill] = {}
        self.linked: Mapping[Path, Path] = {}
        self.packaged: frozenset[Path] = frozenset()  # folders that were unpacked, and are in use


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
        packages: if given, `.skill` files are taken, and unpacked there.
        rules: which skills may be used at all.
        pushed: if given, packages may be pushed; they win over the sources.
        natives: if given, native skills are taken with their tools (see Library).
        reload_s: look again at everything every so many seconds, whatever a watcher says; None: only when asked.

    Raises:
        ValueError: if `reload_s` is not more than 0.

    """

    def __init__(
        self,
        published: PublishedSkills,
        sources: Sequence[Source],
        bus: Bus,
        *,
        copies: SkillCopies | None = None,
        packages: PackageCache | None = None,
        rules: SkillRules | None = None,
        natives: NativeLoader | None = None,
        pushed: PushedPackages | None = None,
        reload_s: float | None = None,
    ) -> None:
        super().__init__()
        if reload_s is not None and not reload_s > 0:
            raise ValueError(f"reload_s must be more than 0, got {reload_s!r}")
        self._published = published
        self._bus = bus
        self._pushed = pushed
        if pushed is not None:
            sources = [Source(path=pushed.folder, optional=True), *sources]
        self._looks_again = False
        self._library = Library(
            sources, last=published.snapshot, copies=copies, packages=packages, rules=rules, natives=natives
        )
        self._reload_s = reload_s
        self._limiter = trio.CapacityLimiter(1)

    @property
    def snapshot(self) -> SkillSnapshot:
        """The skills of this moment."""
        return self._published.snapshot

    async def setup(self) -> None:
        """The first load."""
        self._tell(await self._load(None), asked=True)
        if self._reload_s is not None:
            self.spawn(self._look_again, self._reload_s)

    async def _look_again(self, every_s: float) -> None:
        while True:
            await trio.sleep(every_s)
            # Asked like anybody else, so that one load runs at a time, and the next only after it.
            await self.actor_ref.call(FoldersChanged(), timeout=None)

    async def _look_again_soon(self) -> None:
        """At what failed. That nobody writes a file any more is no event, if it was not changed."""
        await trio.sleep(_LOOK_AGAIN_S)
        self._looks_again = False
        await self.actor_ref.call(FoldersChanged(frozenset()), timeout=None)

    async def on_receive(self, message: Any) -> Any:
        """Answers Reload, FoldersChanged, Register, Unregister, Push and RemovePushed."""
        match message:
            case Push(package):
                return await self._push(package)
            case RemovePushed(name):
                summary = await self._load(await self._remove_pushed(name))
            case Register(skills):
                added = {skill.name: skill for skill in skills}
                self._published.registered = {**self._published.registered, **added}
                summary = await self._load(frozenset())
            case Unregister(name):
                summary = await self._unregister(name)
            case Reload(name=None):
                summary = await self._load(None)
            case Reload(name=str(name)):
                summary = await self._load(self._folders_of(name))
            case FoldersChanged(paths=paths):
                summary = await self._load(paths)
            case _:
                raise Reject(f"the skill registry does not understand {type(message).__name__}")
        self._tell(summary, asked=not isinstance(message, FoldersChanged))
        return summary

    async def _unregister(self, name: str) -> ReloadSummary:
        if name not in self._published.registered:
            raise UnknownSkill(f"no skill is registered as {name!r}")
        others = {key: skill for key, skill in self._published.registered.items() if key != name}
        self._published.registered = others
        return await self._load(frozenset())

    async def _push(self, package: bytes) -> PushResult:
        pushed = self._must_take_pushed()
        try:
            stored: Stored = await trio.to_thread.run_sync(pushed.put, package, limiter=self._limiter)
        except PushRefused as error:
            raise PushRejected(error) from error
        except OSError as error:
            raise PushFailed(f"the package cannot be stored: {error.strerror or error}") from error
        summary = await self._load(frozenset({stored.path}))
        self._tell(summary, asked=True)
        name, digest = stored.skill.name, stored.skill.digest
        return PushResult(name=name, digest=digest, replaced=stored.replaced, summary=summary)

    async def _remove_pushed(self, name: str) -> frozenset[Path]:
        pushed = self._must_take_pushed()
        try:
            path = await trio.to_thread.run_sync(pushed.remove, name, limiter=self._limiter)
        except OSError as error:
            raise PushFailed(f"the package cannot be removed: {error.strerror or error}") from error
        if path is None:
            raise NotPushed(f"no skill {name!r} was pushed; what lies in a folder is changed there")
        return frozenset({path})

    def _must_take_pushed(self) -> PushedPackages:
        if self._pushed is None:
            raise Reject("this registry takes no packages: it was given no folder for them")
        return self._pushed

    def _folders_of(self, name: str) -> frozenset[Path]:
        skill = self.snapshot.skills.get(name)
        roots = {skill.package or skill.root} if skill is not None else set()
        roots |= {failure.path for failure in self.snapshot.failures if name in (failure.path.name, failure.kept)}
        if not roots:
            raise UnknownSkill(f"no skill is named {name!r}; reload all skills to look for new ones")
        return frozenset(roots)

    async def _load(self, paths: frozenset[Path] | None) -> ReloadSummary:
        last = self._published.snapshot
        started = time.perf_counter()
        # Abandoned when the actor stops: a folder on a dead network mount must not hold up the shutdown.
        new = await trio.to_thread.run_sync(
            self._library.load,
            last,
            paths,
            tuple(self._published.registered.values()),
            limiter=self._limiter,
            abandon_on_cancel=True,
        )
        self._published.linked = self._library.linked
        self._published.packaged = self._library.packaged
        self._published.snapshot = new
        if new is not last:
            self._published.changes.add(describe_change(last, new))
        if not self._looks_again and is_unsettled(new):
            self._looks_again = True
            self.spawn(self._look_again_soon)
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
