"""Which skills we uploaded, kept in a small JSON file: what is in it is ours to reuse and to delete, nothing else is.

The file is replaced whole. Whoever uploads or deletes holds a lock beside it from the first look to the last change,
so that two programs with one file upload nothing twice and lose no entry. All functions block, but not for the lock.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from skill_actors.durable import replace_file

__all__ = ["Intent", "Upload", "UploadState", "UploadStateError", "change_uploads", "read_uploads", "try_lock"]

_FORMAT: Final = 1


class UploadStateError(Exception):
    """The file is there and cannot be understood; nothing is uploaded or deleted by guessing."""


@dataclass(slots=True, kw_only=True)
class Upload:
    """One skill of ours at the API: its versions by the digest of what was uploaded, oldest first."""

    skill_id: str
    name: str
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An upload that was begun: written before, so that one that a crash cut is found again, and not left behind.

    Args:
        digest: of what is uploaded; `manifest` is over the same paths and contents without their modes, which the
            API does not keep.
        began: RFC 3339.
        skill_id: whose version it will be, None for a new skill.

    """

    name: str
    digest: str
    manifest: str
    display_name: str
    began: str
    skill_id: str | None = None


@dataclass(slots=True)
class UploadState:
    """All of them, by the API's address and the skill's name."""

    uploads: dict[tuple[str, str], Upload] = field(default_factory=dict)
    intents: dict[tuple[str, str], Intent] = field(default_factory=dict)


def read_uploads(path: Path) -> UploadState:
    """What the file says; nothing if there is none. Raises UploadStateError, OSError."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return UploadState()
    try:
        return _parsed(json.loads(raw))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UploadStateError(
            f"{path} is no list of uploaded skills ({error}): restore it, or remove it and delete what it named by hand"
        ) from error


def change_uploads(path: Path, change: Callable[[UploadState], object]) -> None:
    """Change what the file says; only who has the lock may. Raises UploadStateError, OSError."""
    state = read_uploads(path)
    change(state)
    replace_file(path, _written(state))


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of this file until it is closed; None while somebody else has it.

    The folder is made if it is missing. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return lock


def _parsed(data: Any) -> UploadState:
    if data["format"] != _FORMAT:
        raise ValueError(f"its format is {data['format']!r}")
    state = UploadState()
    for each in data["skills"]:
        versions = {str(digest): str(version) for digest, version in each["versions"].items()}
        upload = Upload(skill_id=str(each["skill_id"]), name=str(each["name"]), versions=versions)
        state.uploads[str(each["api"]), upload.name] = upload
    for each in data["begun"]:
        intent = Intent(**{name: value for name, value in each.items() if name != "api"})
        if datetime.fromisoformat(intent.began).tzinfo is None:
            raise ValueError(f"an upload began at {intent.began!r}")
        state.intents[str(each["api"]), intent.name] = intent
    return state


def _written(state: UploadState) -> bytes:
    skills = [
        {"api": api, "name": name, "skill_id": upload.skill_id, "versions": upload.versions}
        for (api, name), upload in state.uploads.items()
    ]
    begun = [{"api": api, **asdict(intent)} for (api, _), intent in state.intents.items()]
    return json.dumps({"format": _FORMAT, "skills": skills, "begun": begun}, indent=1).encode()
