"""The skills of a program's own folders, kept up to date while the block is open.

    async with Registry("my-skills", ["skills"]) as registry:
        registry.list()

Reads are attributes of a snapshot: they never wait, whatever is being loaded. What fails to load keeps its last good
version; `failures` says what and why. A conversation that has been given skills keeps them as they were.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import trio

from skill_actors.library.errors import SkillError, load_error, wrap
from skill_actors.loop.context import unwrapped
from skill_actors.runtime import NamedRef, open_system
from skill_actors.skills import PackageCache, PublishedSkills, Register, Reload, Source, UnknownSkill, Unregister
from skill_actors.skills.base import Skill, SkillFailure, SkillSnapshot
from skill_actors.skills.changes import SkillChange
from skill_actors.skills.library import ReloadSummary
from skill_actors.skills.loading import load as load_snapshot
from skill_actors.skills.lookup import find, find_matching
from skill_actors.skills.registries import registry_spec
from skill_actors.telemetry import Bus

__all__ = ["Registry", "load_skills"]

_WAIT_S: Final = 5.0  # for the actor, which may be starting again

_log = logging.getLogger(__name__)


class Registry:
    """Skills by name. Belongs to the trio run in which it is opened.

    Args:
        name: of the registry, for messages; a program may have several.
        paths: folders, in order of precedence; those of a `Source` may be trusted.
        watch: follow edits on disk.
        reload_s: look again at everything every so many seconds; None: only when asked.
        packages: where `.skill` files are unpacked; without it they are failures that say so.
        bus: told about loads, as `skill.reloaded`.

    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path | str | Source],
        *,
        watch: bool = False,
        reload_s: float | None = None,
        packages: PackageCache | None = None,
        bus: Bus | None = None,
    ) -> None:
        self.name = name
        self._published = PublishedSkills()
        sources = [path if isinstance(path, Source) else Source(path=_absolute(path)) for path in paths]
        self._spec = registry_spec(
            name, sources, self._published, bus=bus, watch=watch, reload_s=reload_s, packages=packages
        )
        self._stack = AsyncExitStack()
        self._actor: NamedRef | None = None
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> Self:
        """The first load is done when this returns. Raises StartFailed."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(unwrapped())
            system = await stack.enter_async_context(open_system([self._spec]))
            self._nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(self._nursery.cancel_scope.cancel)
            self._actor = system.directory.named(self.name)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._actor = self._nursery = None
        return await self._stack.__aexit__(kind, error, traceback)

    # Reading

    @property
    def snapshot(self) -> SkillSnapshot:
        """All skills of this moment; immutable."""
        return self._published.snapshot

    @property
    def failures(self) -> Sequence[SkillFailure]:
        """What could not be loaded, and why."""
        return self.snapshot.failures

    def list(self) -> Sequence[Skill]:
        """All skills, by name."""
        return list(self.snapshot.skills.values())

    def get(self, name: str) -> Skill:
        """The skill of this name. Raises SkillError, "skill_not_found"."""
        found = find(self.snapshot.skills, name)
        if found is None:
            raise SkillError(
                "skill_not_found", f"the registry {self.name} has no skill {name!r:.100}", details={"name": name}
            )
        return found

    def find(self, pattern: str) -> Sequence[Skill]:
        """The skills whose whole name fits a pattern of `*`, `?` and `[...]`."""
        return find_matching(self.snapshot.skills, pattern)

    def count(self) -> int:
        """How many there are."""
        return len(self.snapshot.skills)

    # Changing

    async def reload(self, name: str | None = None) -> ReloadSummary:
        """Look again at everything, or at one skill. What was added, changed and removed.

        Raises:
            SkillError: "skill_not_found"; "session_closed" if the registry is not open.

        """
        try:
            return await self._open().call(Reload(name), timeout=None, wait_s=_WAIT_S)
        except UnknownSkill as error:
            raise _unknown(name, error) from error

    async def register(self, skills: Iterable[Skill]) -> ReloadSummary:
        """Have these skills as well, before those of the folders; they stay over every reload."""
        return await self._open().call(Register(tuple(skills)), timeout=None, wait_s=_WAIT_S)

    async def unregister(self, name: str) -> ReloadSummary:
        """Do without a skill that was registered. Raises SkillError, "skill_not_found"."""
        try:
            return await self._open().call(Unregister(name), timeout=None, wait_s=_WAIT_S)
        except UnknownSkill as error:
            raise _unknown(name, error) from error

    def subscribe(self, listener: Callable[[SkillChange], object]) -> Callable[[], None]:
        """Have a function, plain or async, told of each change from now on, in order; call what this gives to end it.

        One that raises is logged, and told of the next change.
        """
        self._open()
        assert self._nursery is not None
        scope = trio.CancelScope()
        self._nursery.start_soon(self._tell, listener, scope, self.snapshot.generation)
        return scope.cancel

    async def _tell(self, listener: Callable[[SkillChange], object], scope: trio.CancelScope, after: int) -> None:
        with scope:
            async with aclosing(self._published.changes.follow(after)) as changes:
                async for change in changes:
                    try:
                        answer = listener(change)
                        if inspect.isawaitable(answer):
                            await answer
                    except Exception:
                        _log.exception("a listener of the registry %s failed", self.name)

    def _open(self) -> NamedRef:
        if self._actor is None:
            raise SkillError("session_closed", f"the registry {self.name} is not open")
        return self._actor


def load_skills(path: Path | str, *, packages: PackageCache | None = None) -> Mapping[str, Skill]:
    """The skills in a folder or a `.skill` file, by name, once; one that cannot be loaded is an error. Blocks.

    Raises:
        SkillError: "file_not_found", "permission_denied", "invalid_frontmatter", "invalid_skill_structure",
            "zip_error".

    """
    try:
        snapshot = load_snapshot(_absolute(path), packages=packages)
    except OSError as error:
        raise wrap(error) from error
    for failure in snapshot.failures:
        if any(found.severity == "error" for found in failure.diagnostics):
            raise load_error(failure)
    return snapshot.skills


def _unknown(name: str | None, error: UnknownSkill) -> SkillError:
    return SkillError("skill_not_found", str(error), details={"name": name or ""})


def _absolute(path: Path | str) -> Path:
    return Path(path).absolute()
