"""Packages that were pushed: one file per skill in a folder, which is a source like others and outlives restarts.

A package is judged whole before it is stored. It replaces the one of the same name in one step, or changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skill_actors.durable import replace_file, sync_directory
from skill_actors.skills.base import Diagnostic, Skill, SkillFailure
from skill_actors.skills.loader import load_skill
from skill_actors.skills.package import PACKAGE_SUFFIX, PackageError
from skill_actors.skills.packages import PackageCache

__all__ = ["PushRefused", "PushedPackages", "Stored"]

_PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class PushRefused(Exception):
    """The package holds no skill that can be loaded."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__("; ".join(f"{item.message} ({item.code})" for item in diagnostics))
        self.diagnostics = tuple(diagnostics)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Where a package lies now, and the skill in it. `replaced` tells whether another one lay there."""

    path: Path
    skill: Skill
    replaced: bool


class PushedPackages:
    """The packages in one folder, made if it is missing. Used by one thread at a time.

    Args:
        folder: theirs alone.
        cache: where packages are unpacked.

    """

    def __init__(self, folder: Path, cache: PackageCache) -> None:
        self.folder = folder
        self._cache = cache

    def put(self, raw: bytes) -> Stored:
        """Store a package durably. Blocks.

        Raises:
            PushRefused: if it cannot be taken, with all that is wrong.
            OSError: if it cannot be written.

        """
        skill = self._judge(raw)
        path = self.path_of(skill.name)
        self.folder.mkdir(parents=True, exist_ok=True)
        replaced = path.exists()
        replace_file(path, raw)
        return Stored(path=path, skill=skill, replaced=replaced)

    def remove(self, name: str) -> Path | None:
        """Remove the package of this skill; its path, None if there is none. Blocks. Raises OSError."""
        path = self.path_of(name)
        try:
            path.unlink()
        except FileNotFoundError:
            return None
        sync_directory(self.folder)
        return path

    def path_of(self, name: str) -> Path:
        """Where the package of the skill of this name lies. Only plain names become names of files."""
        stem = name if _PLAIN.fullmatch(name) else f"_{hashlib.sha256(name.encode()).hexdigest()}"
        return self.folder / f"{stem}{PACKAGE_SUFFIX}"

    def _judge(self, raw: bytes) -> Skill:
        try:
            loaded = load_skill(self._cache.unpack_bytes(raw, "skill"))
        except PackageError as error:
            fault = Diagnostic(code=error.code, message=error.message, severity="error", remedy=error.remedy)
            raise PushRefused([fault]) from error
        if isinstance(loaded, SkillFailure):
            raise PushRefused(loaded.diagnostics)
        return loaded
