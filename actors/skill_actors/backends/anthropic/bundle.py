"""A skill on disk as the Skills API takes it: every file below a folder with the skill's name. Blocks.

Read by the same code that loads skills, which follows no link out of the folder; here such a link is an error, as is
all else that would leave the uploaded skill different from the one on disk.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from skill_actors.backends.anthropic.errors import HostedError
from skill_actors.skills.base import Skill, SkillFailure
from skill_actors.skills.front_matter import read_front_matter
from skill_actors.skills.inventory import (
    SKILL_FILE,
    Inventory,
    InventoryError,
    InventoryLimits,
    read_entry,
    take_inventory,
)
from skill_actors.skills.loader import load_skill
from skill_actors.skills.package import PACKAGE_SUFFIX, PackageError, unpack
from skill_actors.skills.validate_rules import api_errors

__all__ = ["MAX_SKILL_BYTES", "SkillBundle", "bundle_skill", "manifest_of", "upload_failed"]

MAX_SKILL_BYTES: Final = 30_000_000  # unpacked, of one upload
_MAX_PACKAGE_BYTES: Final = 100_000_000
_HARMLESS: Final = frozenset({"left_out", "skill_file_case"})  # left out or renamed by rule, wherever skills are taken


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillBundle:
    """What is uploaded. `digest` is the one by which skills are known here; paths begin with the name."""

    name: str
    digest: str
    files: tuple[tuple[str, bytes], ...] = field(repr=False)

    @property
    def manifest(self) -> str:
        """As `manifest_of` its files."""
        return manifest_of(self.files)


def manifest_of(files: Iterable[tuple[str, bytes]]) -> str:
    """sha256 (hex) over paths below the top folder, and contents; in any order."""
    total = hashlib.sha256()
    below = sorted((path.partition("/")[2], hashlib.sha256(content).digest()) for path, content in files)
    for path, digest in below:
        raw = path.encode("utf-8", "surrogateescape")
        total.update(b"%d:%b" % (len(raw), raw) + digest)
    return total.hexdigest()


def bundle_skill(source: Path | Skill, *, max_bytes: int = MAX_SKILL_BYTES) -> SkillBundle:
    """Read a skill from its folder or its `.skill` file.

    Args:
        source: a folder, a package, or a loaded skill, of which exactly the version that was loaded is taken.
        max_bytes: of all files together, unpacked.

    Raises:
        HostedError: "skill_upload_failed", if it is no skill, is too large, or the API would not take it.

    """
    path = source.root if isinstance(source, Skill) else source
    try:
        if isinstance(source, Skill) or not _is_package(path):
            return _from_folder(path, max_bytes, source.digest if isinstance(source, Skill) else None)
        with tempfile.TemporaryDirectory(prefix="skill-upload-") as place:
            return _from_folder(unpack(_read(path), Path(place), stem=path.stem), max_bytes, None, shown=path)
    except InventoryError as error:
        limit = f"; all files together may have {max_bytes} bytes" if error.code.endswith("_too_large") else ""
        raise upload_failed(path, f"{error.message} [{error.code}]{limit}") from error
    except PackageError as error:
        raise upload_failed(path, f"{error.message} [{error.code}]") from error
    except OSError as error:
        raise upload_failed(path, f"it cannot be read: {error.strerror or error}") from error


def upload_failed(path: object, reason: str, below: HostedError | None = None) -> HostedError:
    """The error that a skill was not uploaded; `below` is that of the API."""
    kept = ("status", "api_type", "error_code", "request_id")
    passed_on = {name: below.details[name] for name in kept if name in below.details} if below else {}
    return HostedError(
        "skill_upload_failed",
        f"the skill {path} was not uploaded: {reason}",
        details={"path": str(path), "reason": reason, **passed_on},
        retryable=below.retryable if below else False,
        retry_after_s=below.retry_after_s if below else None,
    )


def _is_package(path: Path) -> bool:
    return path.suffix == PACKAGE_SUFFIX and path.is_file()


def _from_folder(root: Path, max_bytes: int, digest: str | None, *, shown: Path | None = None) -> SkillBundle:
    place = shown or root
    loaded = load_skill(root)
    if isinstance(loaded, SkillFailure):
        raise upload_failed(place, f"it is no skill: {loaded.diagnostics[0].message}")
    inventory = take_inventory(loaded.root, limits=InventoryLimits(max_total_bytes=max_bytes))
    _check(place, inventory)
    if inventory.digest != (digest or loaded.digest):
        raise upload_failed(place, "it was changed since it was loaded: load it again")
    contents = {path: read_entry(loaded.root, entry) for path, entry in inventory.files.items()}
    if refused := next(api_errors(read_front_matter(contents[SKILL_FILE])), None):
        raise upload_failed(place, f"{refused.message}. {refused.remedy}")
    files = tuple((f"{loaded.name}/{path}", content) for path, content in contents.items())
    return SkillBundle(name=loaded.name, digest=inventory.digest, files=files)


def _check(place: Path, inventory: Inventory) -> None:
    for found in inventory.left_out.values():
        if found.code not in _HARMLESS:
            raise upload_failed(place, f"{found.message}. {found.remedy}")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        raw = file.read(_MAX_PACKAGE_BYTES + 1)
    if len(raw) > _MAX_PACKAGE_BYTES:
        raise upload_failed(path, f"the package is larger than {_MAX_PACKAGE_BYTES} bytes")
    return raw
