"""What must hold whatever lies on disk or in a package: shared by the property tests and the fuzzer.

Each check takes bytes of anybody's choice and raises AssertionError, or lets an exception out, if a promise is broken.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from skill_actors.skills._clean import clean_text
from skill_actors.skills.base import Skill, SkillFailure
from skill_actors.skills.front_matter import FrontMatterError, read_front_matter, read_strictly
from skill_actors.skills.inventory import InventoryError, take_inventory
from skill_actors.skills.loader import load_skill
from skill_actors.skills.package import PackageError, PackageLimits, unpack
from skill_actors.skills.validate import validate_skill

__all__ = ["OUTSIDE", "SECRET", "check_front_matter", "check_package", "check_skill", "check_tree"]

SECRET = b"nobody's business"
OUTSIDE = ("secret.txt", "other/secret.txt")  # beside the skill's folder, or so a link may say

# What is valid and yet not loaded, on purpose: `description: null` is text for one reader and nothing for others.
_VALID_AND_REFUSED = {"description_missing"}


def check_front_matter(data: bytes) -> None:
    """Reading ends in a front matter that JSON can carry, or in a FrontMatterError with all that a user needs."""
    for read in (read_front_matter, read_strictly):
        try:
            front = read(data)
        except FrontMatterError as error:
            found = [error.diagnostic]
        else:
            json.dumps(dict(front.values)).encode("ascii")
            found = list(front.diagnostics)
            assert set(front.values) == set(front.lines)
        lines = data.count(b"\n") + data.count(b"\r") + 2
        for diagnostic in found:
            assert diagnostic.code
            assert diagnostic.message
            assert diagnostic.remedy
            assert diagnostic.line is None or 1 <= diagnostic.line <= lines


def check_skill(data: bytes, top: Path) -> None:
    """A folder with this SKILL.md is judged twice without an exception, and what is loaded can be shown anywhere."""
    folder = top / "tides"
    folder.mkdir(exist_ok=True)
    (folder / "SKILL.md").write_bytes(data)
    outcome = load_skill(folder)
    verdict = validate_skill(folder, for_api=True)
    assert all(found.message and found.code for found in (*verdict.errors, *verdict.warnings))
    if isinstance(outcome, SkillFailure):
        codes = {found.code for found in outcome.diagnostics}
        assert "internal" not in codes, outcome
        assert not verdict.valid or codes <= _VALID_AND_REFUSED, outcome
        return
    _check_shown(outcome)


def _check_shown(skill: Skill) -> None:
    assert skill.name == unicodedata.normalize("NFKC", skill.name) != ""
    assert not set(skill.name) & set("/\\<>\0\n\u202e")
    for text in (skill.name, skill.description, *skill.metadata, *skill.metadata.values()):
        assert clean_text(text) == text
    fields = [skill.name, skill.description, skill.license, skill.compatibility, skill.allowed_tools]
    found = [(item.code, item.message, item.remedy, item.line) for item in skill.diagnostics]
    json.dumps([fields, dict(skill.metadata), dict(skill.extra), skill.body, found], ensure_ascii=False).encode()


def check_package(data: bytes, top: Path) -> None:
    """Unpacking ends in a folder of plain files below the target, or in a PackageError; nothing lands beside it."""
    target = top / "target"
    target.mkdir()
    limits = PackageLimits(max_package_bytes=1 << 20, max_total_bytes=1 << 22, max_files=100)
    try:
        root = unpack(data, target, limits=limits)
    except PackageError as error:
        refusal: PackageError | None = error
    else:
        refusal = None
        assert root.parent == target
        assert not root.name.startswith(".")
        assert isinstance(load_skill(root), Skill | SkillFailure)
    assert refusal is None or (refusal.code.startswith("package_") and refusal.message and refusal.remedy)
    assert os.listdir(top) == ["target"]
    total = 0
    for folder, names, files in os.walk(target):
        assert not any(os.path.islink(os.path.join(folder, name)) for name in (*names, *files))
        total += sum(os.path.getsize(os.path.join(folder, file)) for file in files)
    assert total <= limits.max_total_bytes


def check_tree(links: Sequence[tuple[str, str]], top: Path) -> None:
    """A skill's folder full of links, given as (path, target): nothing that lies outside is taken, nor hangs."""
    for path in OUTSIDE:
        (top / path).parent.mkdir(exist_ok=True)
        (top / path).write_bytes(SECRET)
    folder = top / "tides"
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: tides\ndescription: d\n---\n")
    (folder / "a").mkdir()
    (folder / "a/real.md").write_text("x")
    os.mkfifo(folder / "a/pipe")
    real = os.path.realpath(folder) + os.sep
    for path, target in links:
        _link(real, path, target)
    try:
        taken = take_inventory(folder).files
    except InventoryError:
        return
    secret = hashlib.sha256(SECRET).digest()
    assert not [path for path, entry in taken.items() if entry.sha256 == secret]
    assert all(os.path.realpath(folder / entry.path).startswith(real) for entry in taken.values())
    assert all(stat.S_ISREG(os.lstat(folder / entry.source).st_mode) for entry in taken.values()), "and no pipe"
    outcome = load_skill(folder)
    assert "internal" not in {found.code for found in outcome.diagnostics}, outcome


def _link(real: str, path: str, target: str) -> None:
    """Make the link where it can be made below the folder, and nowhere else: links made before lead anywhere."""
    parent, name = os.path.split(os.path.join(real, path))
    with suppress(OSError, ValueError):
        place = Path(os.path.realpath(parent), name)
        if name in ("", ".", "..") or not f"{place.parent}{os.sep}".startswith(real):
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)
