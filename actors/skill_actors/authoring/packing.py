"""Making a `.skill` package: the same bytes for the same files, whoever packs them, when and where, with one zlib.

Entries are sorted, below a folder with the skill's name, dated 1980 and either 0644 or 0755. Left out is what the
loader leaves out, and `evals/`, which is for the author. What was packed is unpacked and loaded before it is
returned, so no package is made that skilld would not take.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from skill_actors.authoring.folder import NoSkill, SkillFolder
from skill_actors.skills.base import SkillFailure
from skill_actors.skills.inventory import InventoryError, read_entry
from skill_actors.skills.loader import load_skill
from skill_actors.skills.package import PackageError, unpack
from skill_actors.skills.validate import validate_skill

__all__ = ["CannotPack", "pack", "write_package"]

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest a zip file can say
_FOR_AUTHORS: Final = "evals/"
_HARMLESS: Final = frozenset({"left_out"})  # left out by rule, and said so in the manual


class CannotPack(Exception):
    """No package can be made of the skill; each of `reasons` says why."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def pack(folder: SkillFolder) -> bytes:
    """The package. Blocks.

    Raises:
        CannotPack: if the skill is not valid, holds what no package may hold, or changed meanwhile.

    """
    verdict = validate_skill(folder.root)
    if not verdict.valid:
        raise CannotPack(*(f"{error.message} [{error.code}]" for error in verdict.errors))
    left_out = [found.message for found in folder.inventory.left_out.values() if found.code not in _HARMLESS]
    if left_out:
        raise CannotPack(*left_out)
    assert folder.skill is not None
    try:
        data = _zipped(folder, folder.skill.name)
        _check(data, folder)
    except (InventoryError, OSError, NoSkill) as error:
        raise CannotPack(f"a file of the skill cannot be read: {error}") from error
    return data


def _packed(folder: SkillFolder) -> list[str]:
    return [path for path in folder.inventory.files if not path.startswith(_FOR_AUTHORS)]


def _zipped(folder: SkillFolder, name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in _packed(folder):
            entry = folder.inventory.files[path]
            info = zipfile.ZipInfo(f"{name}/{path}", _EPOCH)
            info.create_system = 3  # Unix: modes count
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100755 if entry.executable else 0o100644) << 16
            archive.writestr(info, read_entry(folder.root, entry))
    return buffer.getvalue()


def _check(data: bytes, folder: SkillFolder) -> None:
    with tempfile.TemporaryDirectory(prefix="skill-") as place:
        try:
            loaded = load_skill(unpack(data, Path(place)))
        except PackageError as error:
            raise CannotPack(f"the package would not be taken: {error.message}") from error
    if isinstance(loaded, SkillFailure):
        raise CannotPack(f"the package would not be loaded: {loaded.diagnostics[0].message}")
    if list(loaded.files) != _packed(folder):
        raise CannotPack("the package would not hold the files of the folder")


def write_package(data: bytes, target: Path, folder: SkillFolder) -> None:
    """Put the package at `target`, in place of what is there, whole or not at all. Blocks.

    Raises:
        CannotPack: if `target` lies in the skill's folder, where the next package would contain it, or is there and
            is no file: a device would be gone.
        OSError: if it cannot be written.

    """
    place = Path(os.path.realpath(target.parent))
    if place == folder.root or folder.root in place.parents:
        raise CannotPack(f"{target} lies in the skill's own folder; name a place outside with -o")
    if target.exists() and not target.is_file():
        raise CannotPack(f"{target} is there, and is no file")
    descriptor, building = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=place)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
        os.replace(building, place / target.name)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(building)
        raise
