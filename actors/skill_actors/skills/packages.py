"""Unpacked packages under `STATE/packages/<sha256>/`, each whole or not there at all.

The address is that of the bytes that were unpacked, so a package that is replaced gets another folder and the skill
that was unpacked before is still whole. Folders that an earlier process left are made again before their first use,
since a power cut may have emptied their files; so are those that hold something else than what was unpacked, which
costs a stat for each file. Loaded skills are copied from here like from any folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Final

from skill_actors.skills.base import Diagnostic, SkillFailure
from skill_actors.skills.inventory import Inventory, InventoryError, take_inventory
from skill_actors.skills.loader import LoadedFolder, load_folder
from skill_actors.skills.package import PackageError, PackageLimits, unpack

__all__ = ["PackageCache", "load_package"]

_BUILDING: Final = ".building-"
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SETTLED_NS: Final = 100_000_000  # as in inventory: a later change could show the same times

_log = logging.getLogger(__name__)


class PackageCache:
    """The unpacked packages in one folder, made if it is missing. Safe to use from several threads."""

    def __init__(self, folder: Path, limits: PackageLimits | None = None) -> None:
        self._folder = folder
        self._limits = limits or PackageLimits()
        self._lock = threading.Lock()
        self._built: dict[str, tuple[Path, Inventory]] = {}  # by address: unpacked by this process
        self._used_s: dict[str, float] = {}
        self._seen: dict[Path, tuple[tuple[int, ...], str | PackageError]] = {}  # stat and outcome, by package

    def unpack_file(self, path: Path) -> Path:
        """The skill's folder out of the package at `path`, read only if it changed. Blocks.

        Raises:
            PackageError: if the package cannot be taken.
            OSError: if it is no regular file, cannot be read, or the cache cannot be written.

        """
        # Not under the lock: the package may lie on a dead mount, which is no concern of the others.
        with open(os.open(path, _READ), "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise OSError(f"{path.name} is not a regular file")
            seen = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
            outcome = self._judged(path, seen)
            if outcome is None:
                settled = info.st_ctime_ns < time.time_ns() - _SETTLED_NS
                outcome = self._judge(file.read(self._limits.max_package_bytes + 1), path.stem)
                if settled:
                    self._remember(path, seen, outcome)
        if isinstance(outcome, PackageError):
            raise PackageError(outcome.code, outcome.message, outcome.remedy)
        return outcome

    def _judged(self, path: Path, seen: tuple[int, ...]) -> Path | PackageError | None:
        """What came of a package when it had this stat; None if it is to be read."""
        with self._lock:
            before, outcome = self._seen.get(path, ((), ""))
            if before != seen:
                return None
            if isinstance(outcome, PackageError):
                return outcome
            self._used_s[outcome] = time.monotonic()
            return self._whole(outcome)

    def _judge(self, raw: bytes, stem: str) -> Path | PackageError:
        """The skill's folder, or why there is none: a bad package may cost seconds, and is to be judged once."""
        try:
            return self.unpack_bytes(raw, stem)
        except PackageError as error:
            return PackageError(error.code, error.message, error.remedy)  # without the frames that hold the bytes

    def _remember(self, path: Path, seen: tuple[int, ...], outcome: Path | PackageError) -> None:
        with self._lock:
            self._seen[path] = (seen, outcome if isinstance(outcome, PackageError) else outcome.parent.name)

    def unpack_bytes(self, raw: bytes, stem: str) -> Path:
        """The skill's folder out of these bytes. Blocks.

        Args:
            raw: the package.
            stem: names the folder where the package names none.

        Raises:
            PackageError: if the package cannot be taken.
            OSError: if the cache cannot be written.

        """
        address = hashlib.sha256(os.fsencode(stem) + b"\0" + raw).hexdigest()
        with self._lock:
            root = self._whole(address)
            if root is None:
                root, inventory = self._build(raw, stem, self._folder / address)
                self._built[address] = (root, inventory)
            self._used_s[address] = time.monotonic()
            return root

    def collect(self, keep: Collection[Path], age_s: float) -> int:
        """Remove what is in none of the folders `keep` and was not asked for in `age_s` seconds; how many. Blocks.

        Refused packages are judged anew after this.
        """
        kept = {path.parent.name for path in keep}
        removed = 0
        with self._lock:
            self._seen = {path: known for path, known in self._seen.items() if isinstance(known[1], str)}
            young = {address for address, used_s in self._used_s.items() if used_s > time.monotonic() - age_s}
            for name in sorted(os.listdir(self._folder)) if self._folder.is_dir() else ():
                if name not in kept and name not in young:
                    self._forget(name)
                    removed += _remove(self._folder / name)
        return removed

    def _forget(self, address: str) -> None:
        self._built.pop(address, None)
        self._used_s.pop(address, None)
        self._seen = {path: known for path, known in self._seen.items() if known[1] != address}

    def _whole(self, address: str) -> Path | None:
        """The skill's folder, if this process unpacked it and it is as it was then."""
        root, built = self._built.get(address, (None, None))
        if root is None or built is None:
            return None
        try:
            now = take_inventory(root, known=built.files)
        except (InventoryError, OSError):
            return None
        if now.digest != built.digest:
            return None
        self._built[address] = (root, now)
        return root

    def _build(self, raw: bytes, stem: str, place: Path) -> tuple[Path, Inventory]:
        self._folder.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self._folder))
        try:
            root = unpack(raw, building, stem=stem, limits=self._limits)
            inventory = take_inventory(root)
            _remove(place)
            building.rename(place)
        except InventoryError as error:
            raise PackageError(error.code, error.message, error.remedy) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)  # gone, where all went well
        return place / root.name, inventory


def _remove(place: Path) -> bool:
    """Remove what lies there, whatever it is; whether it could be removed."""
    try:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        _log.warning("%s cannot be removed: %s", place, error.strerror or error)
        return False
    return True


def load_package(path: Path, cache: PackageCache, *, trusted: bool, previous: LoadedFolder | None) -> LoadedFolder:
    """As `load_folder`, for the package at `path`. Blocks; never raises for what is on disk."""
    try:
        root = cache.unpack_file(path)
    except PackageError as error:
        return _failed(path, error.code, error.message, error.remedy)
    except OSError as error:
        remedy = "Check the package's permissions, and the space on the disk."
        return _failed(path, "package_unreadable", f"cannot be unpacked: {error.strerror or error}", remedy)
    same = previous is not None and previous.skill is not None and previous.skill.root == root
    loaded = load_folder(root, trusted=trusted, previous=previous if same else None)
    if loaded.failure is not None:
        return LoadedFolder(failure=replace(loaded.failure, path=path))
    if loaded.skill is None or loaded.skill.package == path:
        return loaded
    return replace(loaded, skill=replace(loaded.skill, package=path))


def _failed(path: Path, code: str, message: str, remedy: str) -> LoadedFolder:
    problem = Diagnostic(code=code, message=message, severity="error", remedy=remedy)
    return LoadedFolder(failure=SkillFailure(path=path, diagnostics=(problem,)))
