"""Approvals: the one version of each skill that the operator has seen and lets have what it asks for.

A skill that pre-approves calls by its `allowed-tools`, gets secrets, or brings native code asks for more than to be
read. Where approvals are in force it has that only in the version (digest) that was approved under its name. In every
other version its instructions and files are used as ever, it is not trusted, has no native part, and says so.

The approvals are one JSON file, replaced whole. One that cannot be understood approves nothing: it is reported, and
the next approval replaces it. What is approved is read without a lock, from any thread; writers take turns.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from skill_actors.durable import replace_file
from skill_actors.skills.base import Diagnostic, Skill, SkillFailure, SkillSnapshot
from skill_actors.skills.native import NATIVE_KEY

__all__ = ["Approvals"]

_log = logging.getLogger(__name__)
_FORMAT: Final = 1
_MAX_BYTES: Final = 16 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_APPROVE: Final = "Look at it, then: skillctl skills approve {name}"


class _Damaged(Exception):
    """The file is none of ours. The message says why, and repeats nothing of it."""


class Approvals:
    """What is approved. Nothing is until `read` was called.

    Args:
        file: where it is kept; its folder exists.
        has_secrets: whether there are secrets for a skill of this name.

    """

    def __init__(self, file: Path, has_secrets: Callable[[Skill], bool] = lambda skill: False) -> None:
        self._file = file
        self._has_secrets = has_secrets
        self._approved: Mapping[str, str] = MappingProxyType({})
        self._failure: SkillFailure | None = None
        self._lock = threading.Lock()

    @property
    def approved(self) -> Mapping[str, str]:
        """The approved digests by name: another object after each change."""
        return self._approved

    @property
    def failure(self) -> SkillFailure | None:
        """Why nothing is approved although there is a file."""
        return self._failure

    def read(self) -> None:
        """Take over what is in the file. Blocks, never raises for what is in it, or that it cannot be read."""
        try:
            self._approved = MappingProxyType(_parse(_content(self._file)))
        except FileNotFoundError:
            return
        except (OSError, _Damaged) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            _log.error("no version of any skill is approved: %s: %s", self._file, reason)
            self._failure = SkillFailure(path=self._file, diagnostics=(_damage(reason),))

    def approve(self, name: str, digest: str) -> str | None:
        """Approve this version, durably, in place of another of that name; the digest of that one. Blocks.

        Raises:
            OSError: if it cannot be written; nothing has changed.

        """
        with self._lock:
            before = self._approved.get(name)
            if before != digest:
                self._write({**self._approved, name: digest})
            return before

    def revoke(self, name: str) -> str | None:
        """Take back the approval; the digest it was for, None if there is none. Blocks. Raises OSError as `approve`."""
        with self._lock:
            before = self._approved.get(name)
            if before is not None:
                self._write({key: digest for key, digest in self._approved.items() if key != name})
            return before

    def covers(self, skill: Skill) -> bool:
        """Whether this version of the skill is the approved one."""
        return self._approved.get(skill.name) == skill.digest

    def judge(self, snapshot: SkillSnapshot, *, remedy: str = _APPROVE) -> SkillSnapshot:
        """The same skills, without trust and native parts in versions that ask for more and are not approved.

        Args:
            remedy: of the diagnostic that they get; `{name}` stands for the skill.

        """
        short = {skill.name: self._without(skill, remedy) for skill in snapshot.skills.values() if self._lacks(skill)}
        return replace(snapshot, skills=MappingProxyType({**snapshot.skills, **short})) if short else snapshot

    def _lacks(self, skill: Skill) -> bool:
        asks = NATIVE_KEY in skill.metadata or (
            skill.trusted and (bool(skill.allowed_tools) or self._has_secrets(skill))
        )
        return asks and not self.covers(skill)

    def _without(self, skill: Skill, remedy: str) -> Skill:
        without = "so it pre-approves no tools, gets no secrets and its native code is not used"
        if skill.name in self._approved:
            code, message = "changed_since_approved", f"another version of {skill.name!r} was approved, {without}"
        else:
            code, message = "not_approved", f"no version of {skill.name!r} was approved, {without}"
        remark = Diagnostic(code=code, message=message, remedy=remedy.format(name=skill.name))
        return replace(skill, trusted=False, native=None, diagnostics=(*skill.diagnostics, remark))

    def _write(self, approved: Mapping[str, str]) -> None:
        raw = json.dumps({"format": _FORMAT, "approved": approved}, indent=1).encode("ascii")
        if len(raw) > _MAX_BYTES:
            raise OSError(errno.EFBIG, "there are too many approvals; revoke some")
        replace_file(self._file, raw)
        self._failure = None
        self._approved = MappingProxyType(dict(approved))  # last: by this others see that something changed


def _content(path: Path) -> bytes:
    """Raises OSError, _Damaged."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO is not waited for
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _Damaged("it is no regular file")
        if mode & stat.S_IWOTH:
            raise _Damaged("everybody may write to it")
        with open(descriptor, "rb", closefd=False) as file:
            raw = file.read(_MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(raw) > _MAX_BYTES:
        raise _Damaged(f"it has more than {_MAX_BYTES} bytes")
    return raw


def _parse(raw: bytes) -> dict[str, str]:
    """Raises _Damaged."""
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise _Damaged("it is no JSON, or holds a name twice") from None
    if not isinstance(value, dict) or set(value) != {"format", "approved"} or value["format"] != _FORMAT:
        raise _Damaged(f"it is not of format {_FORMAT}")
    approved = value["approved"]
    if not isinstance(approved, dict) or not all(map(_is_digest, approved.values())):
        raise _Damaged("it holds something other than digests by name")
    return approved


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _damage(reason: str) -> Diagnostic:
    return Diagnostic(
        code="approvals_damaged",
        message=f"the file of approvals cannot be used: {reason}; so no version of any skill is approved",
        severity="error",
        remedy="Restore it from a backup and restart, or approve again: the first approval replaces it.",
    )
