"""Native skills of this daemon: whose code may run, and where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

import trio

from skill_actors.backends.exposed import Askable
from skill_actors.backends.native import NATIVE
from skill_actors.backends.native_executor import native_capabilities
from skill_actors.backends.native_inline import InlineNatives
from skill_actors.backends.native_processes import NativeProcesses
from skill_actors.backends.workers import Host, WorkersRef
from skill_actors.native import Description, NativeCode, import_folders
from skill_actors.runtime import TrioActor
from skill_actors.skills.approvals import Approvals
from skill_actors.skills.base import SkillSnapshot
from skill_actors.skills.native import NativeLoader
from skilld import paths

if TYPE_CHECKING:
    from skilld.config import NativeConfig, SkillsConfig
    from skilld.parts import Parts

__all__ = ["NativeKeeper", "Natives", "native_facts", "native_loader"]

Versions = Collection[tuple[str, str]]


class Natives:
    """Runs native code in the worker processes of the tree or, for the skills that the operator names, in this process.

    `exposed`: the actors that skills may ask, by name, as soon as there is a directory to find them in.
    """

    def __init__(self, parts: Parts, config: NativeConfig) -> None:
        self.exposed: dict[str, Askable] = {}
        host = Host(find_workers=lambda: parts.workers.get()(), expose=self.exposed)
        self._config = config
        self._processes = NativeProcesses(host)
        self._inline = InlineNatives(host)

    async def describe(self, code: NativeCode, timeout_s: float) -> Description:
        """As `NativeProcesses.describe`: a class is looked at in a process of its own, wherever it is to run."""
        return await self._processes.describe(code, timeout_s, inline=self._config.is_inline(code.skill))

    async def call(
        self, code: NativeCode, request: Mapping[str, Any], *, timeout_s: float, emit: Callable[[Any], Awaitable[None]]
    ) -> bytes:
        """Answer one call where its skill is to run."""
        if self._config.is_inline(code.skill):
            return await self._inline.call(code, request, timeout_s=timeout_s, emit=emit)
        return await self._processes.call(code, request, timeout_s=timeout_s, emit=emit)

    async def keep(self, current: Callable[[], Versions]) -> None:
        """End and forget what no skill needs any more, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._processes.keep, current)
            nursery.start_soon(self._inline.keep, current)


def native_loader(config: SkillsConfig, natives: Natives, approvals: Approvals | None = None) -> NativeLoader:
    """Takes native skills from the folders that the configuration trusts with code, in approved versions."""

    def describe(code: NativeCode, timeout_s: float) -> Description:
        return trio.from_thread.run(natives.describe, code, timeout_s)  # skills are loaded in a thread

    folder = paths.data_dir("skills")
    bundled = () if folder is None else (folder,)
    return NativeLoader(
        (*config.native, *(bundled if config.bundled_native else ())),
        describe,
        paths=import_folders(),
        approved=approvals.covers if approvals is not None else lambda skill: True,
        plain=bundled,  # what comes with the program is no fault of the configuration
    )


def native_facts(config: NativeConfig, *, is_default: bool) -> dict[str, Any]:
    """For GET /v1/backends: how native skills run, but for those that `inline` names."""
    return {
        "name": NATIVE,
        "available": True,
        "problem": None,
        "default": is_default,
        **native_capabilities(config.isolation).facts(),
    }


class NativeKeeper(TrioActor):
    """Says where worker processes and exposed actors are, and ends processes that no native skill needs any more."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts
        self._seen = SkillSnapshot()
        self._versions: Versions = ()

    async def setup(self) -> None:
        names = self.directory
        self._parts.workers.put(lambda: cast("WorkersRef", names.ref("workers")))
        exposed = self._parts.config.backends.native.expose
        self._parts.natives.exposed.update({name: names.named(name) for name in exposed})
        self.spawn(self._parts.natives.keep, self._current)

    def _current(self) -> Versions:
        """The versions in force. Turns that began before a change may go on with others."""
        snapshot = self._parts.served.snapshot
        if snapshot is not self._seen:
            skills = [skill for skill in snapshot.skills.values() if skill.native is not None]
            self._seen, self._versions = snapshot, {(skill.name, skill.digest) for skill in skills}
        return self._versions
