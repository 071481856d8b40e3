"""Judging a skill's folder as strictly as the specification, for its author.

The verdict does not depend on what this daemon can load: the specification knows no size limit and follows links
anywhere. What the loader would say besides is added as warnings, so one look tells both. Devices and FIFOs are never
opened, and reading and parsing are bounded (64 MiB of file, a million keys and values).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from skill_actors.skills.base import Diagnostic, Skill
from skill_actors.skills.front_matter import FrontMatter, FrontMatterError, read_strictly
from skill_actors.skills.inventory import SKILL_FILE, is_skill_file
from skill_actors.skills.loader import load_skill
from skill_actors.skills.validate_rules import api_errors, field_errors

__all__ = ["Verdict", "validate_skill"]

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
MAX_UPLOAD_BYTES: Final = 30_000_000
_NOWHERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
_LOWER_CASE: Final = "skill.md"
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found in one path. Errors break the specification; warnings do not, and tell what the loader says."""

    path: Path
    errors: tuple[Diagnostic, ...]
    warnings: tuple[Diagnostic, ...]

    @property
    def valid(self) -> bool:
        return not self.errors


class _Unusable(Exception):
    """There is nothing to judge; `diagnostic` says why."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.diagnostic = Diagnostic(code=code, message=message, severity="error", remedy=remedy)


def validate_skill(path: Path, *, for_api: bool = False) -> Verdict:
    """Judge the skill in the folder `path`, or whose SKILL.md that is. Blocks; never raises for what is on disk.

    Args:
        path: its last part is the name that the skill must have, also where it is a link.
        for_api: judge also by what the hosted Skills API refuses.

    """
    try:
        folder = _folder(path)
    except _Unusable as unusable:
        return Verdict(path=path, errors=(unusable.diagnostic,), warnings=())
    errors, warnings = _judged(folder)
    if for_api:
        errors += _api_errors(folder)
    codes = {error.code for error in errors}
    codes |= {warning.code for warning in warnings}
    warnings += [found for found in _loader_says(folder) if found.code not in codes]
    return Verdict(path=path, errors=tuple(errors), warnings=tuple(warnings))


def _folder(path: Path) -> str:
    try:
        if is_skill_file(path.name) and os.path.lexists(path) and not os.path.isdir(path):
            return os.path.abspath(path.parent)
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _NOWHERE:
            raise _Unusable("path_missing", "there is no such path", "Name the folder that holds SKILL.md.") from None
        raise _unreadable(error) from None
    if not stat.S_ISDIR(mode):
        raise _Unusable("not_a_folder", "is not a folder", "Name the folder that holds SKILL.md.")
    return os.path.abspath(path)


def _unreadable(error: OSError | ValueError) -> _Unusable:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    remedy = "Allow reading it." if isinstance(error, PermissionError) else "Put a file or folder in its place."
    return _Unusable("unreadable", f"cannot be read: {reason}", remedy)


def _judged(folder: str) -> tuple[list[Diagnostic], list[Diagnostic]]:
    """Errors, and warnings that only the strict level has."""
    errors: list[Diagnostic] = []
    try:
        front = _front_matter(folder, errors)
    except _Unusable as unusable:
        return [*errors, unusable.diagnostic], []
    except FrontMatterError as error:
        return [*errors, error.diagnostic], []
    errors += field_errors(front, os.path.basename(folder))
    return errors, list(_remarks(front))


def _front_matter(folder: str, errors: list[Diagnostic]) -> FrontMatter:
    """The front matter of the folder's SKILL.md, of a skill.md where there is no other; the latter is an error."""
    try:
        name = _skill_file(folder)
        if name == _LOWER_CASE:
            remedy = "Rename it to SKILL.md."
            message = "skill.md must be named SKILL.md"
            errors.append(Diagnostic(code="skill_file_case", message=message, severity="error", remedy=remedy))
        return read_strictly(_content(os.path.join(folder, name)))
    except OSError as error:
        raise _unreadable(error) from None


def _skill_file(folder: str) -> str:
    for name in (SKILL_FILE, _LOWER_CASE):
        with suppress(FileNotFoundError):
            os.lstat(os.path.join(folder, name))
            return name
    raise _Unusable("no_skill_file", "the folder holds no SKILL.md", "Add one, or name the skills below it.")


def _content(path: str) -> bytes:
    info = os.stat(path)
    _check_regular(info)  # before it is opened: opening a device can have an effect
    if not info.st_mode & 0o444:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # for root as for everybody else
    descriptor = os.open(path, _FLAGS)
    with open(descriptor, "rb") as file:
        _check_regular(os.fstat(descriptor))
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise _Unusable("file_too_large", f"SKILL.md is larger than {MAX_FILE_BYTES} bytes", "Make it smaller.")
    return content


def _check_regular(info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise _Unusable("not_regular", "SKILL.md is not a regular file", "Put a file in its place.")


def _remarks(front: FrontMatter) -> Iterator[Diagnostic]:
    yield from (found for found in front.diagnostics if found.code == "yaml_repaired")
    name = front.values.get("name")
    if isinstance(name, str) and not name.isascii():
        yield Diagnostic(
            code="name_not_ascii",
            message="the name holds other characters than a-z, 0-9 and hyphens, which some readers refuse",
            line=front.lines.get("name"),
            remedy="Use a-z, 0-9 and hyphens.",
        )


def _api_errors(folder: str) -> list[Diagnostic]:
    errors: list[Diagnostic] = []
    with suppress(_Unusable, FrontMatterError):  # which are reported already
        errors += api_errors(_front_matter(folder, []))
    if _is_larger(folder, MAX_UPLOAD_BYTES):
        message = f"the folder holds more than the {MAX_UPLOAD_BYTES // 1_000_000} MB that the Skills API takes"
        errors.append(Diagnostic(code="upload_too_large", message=message, severity="error", remedy="Make it smaller."))
    return errors


def _is_larger(folder: str, max_bytes: int) -> bool:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue  # gone since it was listed
            if total > max_bytes:
                return True
    return False


def _loader_says(folder: str) -> Iterator[Diagnostic]:
    loaded = load_skill(Path(os.path.realpath(folder)))
    if isinstance(loaded, Skill):
        yield from loaded.diagnostics
        return
    for found in loaded.diagnostics:
        yield replace(found, severity="warning", message=f"the daemon does not load this skill: {found.message}")
