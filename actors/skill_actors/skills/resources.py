"""The files of a skill, read by their relative path; nothing outside of the skill's folder is ever opened.

A path is one of `Skill.files`, or it is refused before the disk is asked. The file is then opened below the folder
without following links, so that a link put in its place meanwhile leads to a refusal. What is read is what the folder
holds now; whoever needs the version that was loaded reads a copy of it (`SkillCopies`) and passes that as `root`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from skill_actors.skills.base import Skill
from skill_actors.skills.inventory import SKILL_FILE, open_beneath, open_folder, read_chunks

__all__ = ["MAX_RESOURCE_BYTES", "ResourceError", "read_resource", "read_resource_bytes", "resources_of"]

MAX_RESOURCE_BYTES: Final = 16 * 1024 * 1024
_KINDS: Final = ("scripts", "references", "assets")


class ResourceError(Exception):
    """The file cannot be had. `code` is one of `no_resource`, `leaves_root`, `unreadable`, `too_large`, `not_text`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def resources_of(skill: Skill) -> Mapping[str, tuple[str, ...]]:
    """The skill's files, however deep, under `scripts`, `references`, `assets` and `other`; each list is sorted."""
    found: dict[str, list[str]] = {kind: [] for kind in (*_KINDS, "other")}
    for path in skill.files:
        folder, inside, _ = path.partition("/")
        found[folder if inside and folder in _KINDS else "other"].append(path)
    return {kind: tuple(paths) for kind, paths in found.items()}


def read_resource(skill: Skill, path: str, *, root: Path | None = None, max_bytes: int = MAX_RESOURCE_BYTES) -> str:
    """The text of one file of the skill. Blocks.

    Args:
        skill: whose file it is.
        path: as `skill.files` has it; SKILL.md is one.
        root: read this copy of the folder; by default `skill.root`.
        max_bytes: larger files are refused, and not read.

    Raises:
        ResourceError: as `read_resource_bytes`; `not_text` if the file is not UTF-8, or holds NUL.

    """
    content = read_resource_bytes(skill, path, root=root, max_bytes=max_bytes)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise _not_text(skill, path, f"byte {error.start} is not UTF-8") from None
    if "\0" in text:
        raise _not_text(skill, path, "it holds NUL characters")
    return text


def read_resource_bytes(
    skill: Skill, path: str, *, root: Path | None = None, max_bytes: int = MAX_RESOURCE_BYTES
) -> bytes:
    """As `read_resource`, whatever the file holds. Blocks.

    Raises:
        ResourceError: `no_resource` if the skill lists no such file; `leaves_root` if it is now a link that leads out
            of the folder; `unreadable` if it is gone, is no regular file or cannot be read; `too_large`.

    """
    if path not in skill.files:
        shown = ascii(path[:200])
        raise ResourceError("no_resource", f"skill {skill.name!r} has no file {shown}; its files are in skill.files")
    folder = os.path.realpath(root or skill.root)
    source = _source(skill, folder, path)
    try:
        with open_folder(Path(folder)) as opened, open_beneath(opened, source) as descriptor:
            return _read(skill, path, descriptor, max_bytes)
    except OSError as error:
        message = f"{path} of skill {skill.name!r} cannot be read: {error.strerror or error}"
        raise ResourceError("unreadable", message) from error


def _source(skill: Skill, folder: str, path: str) -> str:
    """Where the file really lies, relative to the folder: links inside of it are allowed."""
    place = os.path.join(folder, path)
    if path == SKILL_FILE and not os.path.lexists(place):
        place = os.path.join(folder, SKILL_FILE.lower())  # the loader took it as SKILL.md
    real = os.path.realpath(place)
    if not real.startswith(folder.rstrip(os.sep) + os.sep):
        raise ResourceError("leaves_root", f"{path} of skill {skill.name!r} is a link out of the skill's folder")
    return real[len(folder.rstrip(os.sep)) + 1 :]


def _read(skill: Skill, path: str, descriptor: int, max_bytes: int) -> bytes:
    content = bytearray()
    for chunk in read_chunks(descriptor):
        content += chunk
        if len(content) > max_bytes:
            raise ResourceError("too_large", f"{path} of skill {skill.name!r} is larger than {max_bytes} bytes")
    return bytes(content)


def _not_text(skill: Skill, path: str, why: str) -> ResourceError:
    message = f"{path} of skill {skill.name!r} is no text ({why}); read_resource_bytes takes any file"
    return ResourceError("not_text", message)
