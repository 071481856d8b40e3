"""A skill's folder as its author has it: listed once, its texts read on demand, nothing of it run."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skill_actors.skills.base import Skill, SkillFailure
from skill_actors.skills.inventory import SKILL_FILE, FileEntry, Inventory, InventoryError, read_entry, take_inventory
from skill_actors.skills.loader import load_skill
from skill_actors.skills.package import PACKAGE_SUFFIX, PackageError, PackageLimits, unpack

__all__ = ["MAX_TEXT_BYTES", "NoSkill", "SkillFolder", "is_binary", "look_into", "open_skill"]

MAX_TEXT_BYTES: Final = 2 * 1024 * 1024
_SHEBANG: Final = re.compile(rb"#!.*")


class NoSkill(Exception):
    """The path leads to no skill that can be looked at; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillFolder:
    """One skill on disk. `skill` is None where the loader refuses it: `failure` says why."""

    root: Path
    inventory: Inventory
    skill: Skill | None
    failure: SkillFailure | None

    @property
    def name(self) -> str:
        """The skill's name, else its folder's."""
        return self.skill.name if self.skill is not None else self.root.name

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(entry.size for entry in self.inventory.files.values())

    def content(self, path: str) -> bytes | None:
        """The bytes of a file of the skill; None if it has more than 2 MiB. Blocks.

        Raises:
            NoSkill: if it changed or vanished meanwhile.

        """
        entry = self.inventory.files[path]
        if entry.size > MAX_TEXT_BYTES:
            return None
        return _read(self.root, entry)

    def text(self, path: str) -> str | None:
        """A text file of the skill, undecodable bytes as U+FFFD; None if it is binary or has more than 2 MiB. Blocks.

        Raises:
            NoSkill: if it changed or vanished meanwhile.

        """
        data = self.content(path)
        if data is None or is_binary(data):
            return None
        return data.decode("utf-8", "replace")

    def is_script(self, path: str) -> bool:
        """Whether the file is meant to be run: its run bit is set, it is the entry, or it begins with `#!`. Blocks."""
        entry = self.inventory.files[path]
        if entry.executable or (self.skill is not None and path in (self.skill.entry or ())):
            return True
        data = self.content(path) if path.startswith("scripts/") else None
        return data is not None and _SHEBANG.match(data) is not None


def is_binary(data: bytes) -> bool:
    """Whether a file's content is no text: it holds NUL."""
    return b"\0" in data


def open_skill(path: Path) -> SkillFolder:
    """Look at the skill in the folder `path`, or whose SKILL.md `path` is. Blocks.

    Raises:
        NoSkill: if there is none, or its folder cannot be read or is too large.

    """
    try:
        root = Path(os.path.realpath(path.parent if path.name == SKILL_FILE else path))
        if not root.is_dir():
            raise NoSkill(f"{path} is no folder")
        inventory = take_inventory(root)
    except InventoryError as error:
        raise NoSkill(f"{path}: {error.message}") from error
    except (OSError, ValueError) as error:
        raise NoSkill(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if SKILL_FILE not in inventory.files and SKILL_FILE not in inventory.left_out:
        raise NoSkill(f"{path} holds no SKILL.md")
    loaded = load_skill(root)
    if isinstance(loaded, SkillFailure):
        return SkillFolder(root=root, inventory=inventory, skill=None, failure=loaded)
    return SkillFolder(root=root, inventory=inventory, skill=loaded, failure=None)


@contextmanager
def look_into(path: Path) -> Iterator[SkillFolder]:
    """As `open_skill`; a `.skill` package is unpacked for as long as the context lasts. Blocks.

    Raises:
        NoSkill: also if the package cannot be taken.

    """
    if path.suffix != PACKAGE_SUFFIX or not path.is_file():
        yield open_skill(path)
        return
    with tempfile.TemporaryDirectory(prefix="skill-", ignore_cleanup_errors=True) as folder:
        try:
            with path.open("rb") as file:
                raw = file.read(PackageLimits().max_package_bytes + 1)  # what is larger is refused as such
            root = unpack(raw, Path(folder), stem=path.stem)
        except PackageError as error:
            raise NoSkill(f"{path}: {error.message}") from error
        except OSError as error:
            raise NoSkill(f"{path} cannot be unpacked: {error.strerror}") from error
        yield open_skill(root)


def _read(root: Path, entry: FileEntry) -> bytes:
    try:
        return read_entry(root, entry)
    except (InventoryError, OSError) as error:
        raise NoSkill(f"{root}: {entry.path} cannot be read: {error}") from error
