"""Read-only copies of skills under `STATE/skills/<sha256>/`: what conversations and tools use.

A copy appears whole or not at all: it is built beside its place, checked against the digest that names it, and
renamed. Files are not flushed one by one; instead a copy that an earlier process left is checked again before its
first use, and built anew if a power cut or a person damaged it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

import trio

from skill_actors.skills.base import Diagnostic, Skill
from skill_actors.skills.inventory import (
    FileEntry,
    Inventory,
    InventoryError,
    changed_while_reading,
    open_beneath,
    open_folder,
    read_chunks,
    take_inventory,
)

__all__ = ["CopyError", "SkillCopies"]

_BUILDING: Final = ".building-"


class CopyError(Exception):
    """The live folder no longer holds the version that was asked for, and no copy of that version exists."""

    def __init__(self, skill: Skill, reason: str) -> None:
        message = f"skill {skill.name!r} changed on disk before its version {skill.digest[:12]} was copied: {reason}"
        super().__init__(message)
        self.diagnostic = Diagnostic(
            code="changed_while_reading", message=message, severity="error", remedy="Send the message again."
        )


class SkillCopies:
    """The copies in one folder, made if it is missing. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._limiter = trio.CapacityLimiter(4)
        self._lock = threading.Lock()
        self._checked: set[str] = set()
        self._used: dict[str, float] = {}
        self._building: set[str] = set()

    def path_of(self, digest: str) -> Path:
        """Where the copy of this version is, or would be."""
        return self._folder / digest

    async def ensure(self, skill: Skill) -> Path:
        """The path of the copy of `skill`, made now in a worker thread if it is missing.

        Raises:
            CopyError: if the live folder holds another version by now.
            OSError: if the copy cannot be written (no space, no permission).

        """
        self._used[skill.digest] = time.monotonic()
        if skill.digest in self._checked:
            return self.path_of(skill.digest)
        return await trio.to_thread.run_sync(self.materialise, skill, limiter=self._limiter)

    def materialise(self, skill: Skill, inventory: Inventory | None = None) -> Path:
        """As `ensure`, but blocks. `inventory` is that of the live folder, where the caller has it."""
        place = self.path_of(skill.digest)
        if skill.digest in self._checked:
            return place
        if not self._is_whole(place, skill.digest):
            self._build(skill, inventory, place)
        self._checked.add(skill.digest)
        return place

    def used_within(self, age_s: float) -> set[str]:
        """Digests of the copies that `ensure` was asked for in the last `age_s` seconds. Forgets the others."""
        limit_s = time.monotonic() - age_s
        self._used = {digest: used_s for digest, used_s in self._used.items() if used_s >= limit_s}
        return set(self._used)

    def collect(self, keep: Collection[str]) -> int:
        """Remove all copies but those with these digests, and what killed processes left; returns how many. Blocks."""
        removed = 0
        for name in sorted(os.listdir(self._folder)) if self._folder.is_dir() else ():
            with self._lock:
                if name in keep or name in self._building:
                    continue
                self._checked.discard(name)
            _remove(self._folder / name)
            removed += 1
        return removed

    def _is_whole(self, place: Path, digest: str) -> bool:
        try:
            inventory = take_inventory(place)
        except FileNotFoundError:
            return False
        except (InventoryError, OSError):
            inventory = Inventory(files={})
        if inventory.digest == digest:
            return True
        _remove(place)
        return False

    def _build(self, skill: Skill, inventory: Inventory | None, place: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            building = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self._folder))
            self._building.add(building.name)
        try:
            _copy(skill, inventory, building)
            _seal(building)
            self._settle(building, place)
        finally:
            _remove(building)
            with self._lock:
                self._building.discard(building.name)

    def _settle(self, building: Path, place: Path) -> None:
        try:
            building.rename(place)
        except OSError:
            if not place.is_dir():  # else another thread was faster, with the same content
                raise


def _copy(skill: Skill, inventory: Inventory | None, target: Path) -> None:
    """Copy the live folder's files into `target`. Raises CopyError if they are not those of `skill`."""
    try:
        inventory = inventory or take_inventory(skill.root)
        if inventory.digest != skill.digest:
            raise CopyError(skill, "its files differ")
        with open_folder(skill.root) as folder:
            for entry in inventory.files.values():
                _copy_file(folder, entry, target / entry.path)
    except InventoryError as error:
        raise CopyError(skill, error.message) from error
    except FileNotFoundError as error:
        raise CopyError(skill, "it is gone") from error


def _copy_file(folder: int, entry: FileEntry, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    hasher = hashlib.sha256()
    size = 0
    with open_beneath(folder, entry.source) as descriptor, target.open("xb") as out:
        for chunk in read_chunks(descriptor):
            size += len(chunk)
            if size > entry.size:
                break
            hasher.update(chunk)
            out.write(chunk)
    if size != entry.size or hasher.digest() != entry.sha256:
        raise changed_while_reading(entry.path)
    target.chmod(0o555 if entry.executable else 0o444)


def _seal(folder: Path) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        os.chmod(path, 0o555)


def _remove(folder: Path) -> None:
    """Remove a copy; its folders are made writable first. Nothing happens if it is not there."""
    if not stat.S_ISDIR(_mode(folder)):
        folder.unlink(missing_ok=True)
        return
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o755)
    shutil.rmtree(folder)


def _mode(path: Path) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0
