"""Native skills of this daemon: whose code may run, and where."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, cast

import trio

from skill_actors.backends.native_processes import NativeProcesses
from skill_actors.backends.workers import Host, WorkersRef
from skill_actors.native import Description, NativeCode, import_folders
from skill_actors.runtime import TrioActor
from skill_actors.skills.approvals import Approvals
from skill_actors.skills.base import SkillSnapshot
from skill_actors.skills.native import NativeLoader
from skilld import paths

if TYPE_CHECKING:
    from skilld.config import SkillsConfig
    from skilld.parts import Parts

__all__ = ["NativeKeeper", "native_loader", "native_processes"]


def native_processes(parts: Parts) -> NativeProcesses:
    """Runs native code in the worker processes of the tree."""
    return NativeProcesses(Host(find_workers=lambda: parts.workers.get()()))


def native_loader(config: SkillsConfig, processes: NativeProcesses, approvals: Approvals | None = None) -> NativeLoader:
    """Takes native skills from the folders that the configuration trusts with code, in approved versions."""

    def describe(code: NativeCode, timeout_s: float) -> Description:
        return trio.from_thread.run(processes.describe, code, timeout_s)  # skills are loaded in a thread

    folder = paths.data_dir("skills")
    bundled = () if folder is None else (folder,)
    return NativeLoader(
        (*config.native, *(bundled if config.bundled_native else ())),
        describe,
        paths=import_folders(),
        approved=approvals.covers if approvals is not None else lambda skill: True,
        plain=bundled,  # what comes with the program is no fault of the configuration
    )


class NativeKeeper(TrioActor):
    """Says where worker processes are, and ends those that no native skill needs any more."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts
        self._seen = SkillSnapshot()
        self._versions: Collection[tuple[str, str]] = ()

    async def setup(self) -> None:
        names = self.directory
        self._parts.workers.put(lambda: cast("WorkersRef", names.ref("workers")))
        self.spawn(self._parts.natives.keep, self._current)

    def _current(self) -> Collection[tuple[str, str]]:
        """The versions in force. Turns that began before a change may go on with others."""
        snapshot = self._parts.served.snapshot
        if snapshot is not self._seen:
            skills = [skill for skill in snapshot.skills.values() if skill.native is not None]
            self._seen, self._versions = snapshot, {(skill.name, skill.digest) for skill in skills}
        return self._versions
