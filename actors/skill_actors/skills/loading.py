"""Skills for a program that has no registry: loaded once, from folders and packages, when it asks.

What is found is a snapshot, as the Registry publishes it: skills by name, and beside them everything that could not
be loaded, with the reason. Nothing is dropped in silence, and one bad file never hurts another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from skill_actors.skills.base import Skill, SkillFailure, SkillSnapshot
from skill_actors.skills.discovery import Source
from skill_actors.skills.library import Library
from skill_actors.skills.packages import PackageCache, load_package

__all__ = ["load", "load_all", "load_skill_file"]


def load(path: Path, *, trusted: bool = False, packages: PackageCache | None = None) -> SkillSnapshot:
    """The skills in and below `path`, which may be one skill's folder, and what could not be loaded there. Blocks.

    Args:
        path: six levels below it are looked at.
        trusted: whether these skills may pre-approve tools.
        packages: where `.skill` files are unpacked; without it they are failures that say so.

    Raises:
        OSError: if there is no such folder, or it cannot be listed.

    """
    if not (path.name.endswith(".skill") and path.is_file()):
        os.scandir(path).close()
    return load_all([path], trusted=trusted, packages=packages)


def load_all(paths: Iterable[Path], *, trusted: bool = False, packages: PackageCache | None = None) -> SkillSnapshot:
    """As `load`, from several places; the first wins a name. Blocks.

    A place that cannot be read is a failure of the snapshot like others, and does not hide what the rest holds.
    """
    sources = [Source(path=path, trusted=trusted) for path in paths]
    return Library(sources, packages=packages).load(SkillSnapshot())


def load_skill_file(path: Path, packages: PackageCache, *, trusted: bool = False) -> Skill | SkillFailure:
    """The skill in the `.skill` package at `path`, or why it cannot be had. Blocks.

    What was unpacked before, from this package or another, stays as it is: the folder's name is its content's hash.

    Args:
        path: the package.
        packages: where it is unpacked; one for each folder and process.
        trusted: whether the skill may pre-approve tools.

    """
    loaded = load_package(path, packages, trusted=trusted, previous=None)
    outcome = loaded.skill or loaded.failure
    assert outcome is not None
    return outcome
