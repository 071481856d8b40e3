"""Secrets of skills: values from files that the operator names, given to one skill's commands and to nobody else.

Rules:
- a secret belongs to a skill by name, and is given only where the skill's source is trusted: else whoever can put a
  folder of that name into a project would get it;
- it is read when it is needed, so a file that is replaced counts at once;
- a value appears in no message, repr or log; those that were read are remembered, so that they can be hidden.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skill_actors.skills.base import Skill

__all__ = ["SecretSource", "SecretUnavailable", "SkillSecrets"]

_MAX_BYTES: Final = 64 * 1024  # the kernel takes 128 KiB for one variable
_MIN_CHARS: Final = 8  # what is shorter cannot be hidden, since it occurs by chance
_REMEMBERED: Final = 4  # values of one secret: those of before it was replaced may still be printed

_log = logging.getLogger(__name__)


class SecretUnavailable(Exception):
    """A secret cannot be had. The message names skill, variable and file, never a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where one secret is: a file, or, where that is None, why there is none."""

    path: Path | None
    missing: str = ""


class SkillSecrets:
    """The secrets of all skills, by skill and by environment variable. Safe to use from several threads.

    Args:
        sources: where they are.
        is_served: whether a skill is the one that was meant, and not another of the same name.

    """

    def __init__(
        self,
        sources: Mapping[str, Mapping[str, SecretSource]] | None = None,
        is_served: Callable[[Skill], bool] = lambda skill: True,
    ) -> None:
        self._sources = sources or {}
        self._is_served = is_served
        self._known: dict[tuple[str, str], list[str]] = {}
        self._warned: set[Path] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"SkillSecrets({sorted(self._sources)!r})"

    def concern(self, skill: Skill) -> bool:
        """Whether there are secrets for a skill of this name, which it may get or not."""
        return skill.name in self._sources

    def has(self, skill: Skill) -> bool:
        """Whether commands of the skill get anything."""
        return skill.name in self._sources and skill.trusted and self._is_served(skill)

    def of(self, skill: Skill) -> dict[str, str]:
        """The variables of the skill's commands, with their values of now. Blocks.

        Raises:
            SecretUnavailable: if one cannot be read; then none is given.

        """
        if not self.has(skill):
            return {}
        return {name: self._read(skill.name, name, source) for name, source in self._sources[skill.name].items()}

    def of_name(self, name: str) -> dict[str, str]:
        """Likewise, for what has a name and secrets and is no skill, such as a tool server. Blocks.

        Raises:
            SecretUnavailable: if one cannot be read; then none is given.

        """
        return {
            variable: self._read(name, variable, source) for variable, source in self._sources.get(name, {}).items()
        }

    def known(self, name: str) -> set[str]:
        """Values that were read for this name, those of before among them."""
        with self._lock:
            return {value for (owner, _), values in self._known.items() if owner == name for value in values}

    def values(self, skills: Iterable[Skill]) -> set[str]:
        """What has to be hidden where these skills may be used: values of now, and of before. Blocks."""
        found: set[str] = set()
        for skill in skills:
            for name, source in self._sources.get(skill.name, {}).items():
                with contextlib.suppress(SecretUnavailable):  # whoever needs it is told; what it was is still hidden
                    self._read(skill.name, name, source)
                with self._lock:
                    found.update(self._known.get((skill.name, name), ()))
        return found

    def given(self, skill: Skill) -> tuple[frozenset[str], dict[str, str]]:
        """Names of the variables that the skill gets, and of those it should get, with what is wrong. Blocks."""
        given: set[str] = set()
        wrong: dict[str, str] = {}
        for name, source in self._sources.get(skill.name, {}).items():
            try:
                if not self.has(skill):
                    why = (
                        "is not the one it is meant for" if skill.trusted else "is not trusted, or not in this version"
                    )
                    raise SecretUnavailable(f"{skill.name} {why}, and gets no {name}")
                self._read(skill.name, name, source)
                given.add(name)
            except SecretUnavailable as error:
                wrong[name] = str(error)
        return frozenset(given), wrong

    def _read(self, skill: str, name: str, source: SecretSource) -> str:
        try:
            if source.path is None:
                raise SecretUnavailable(source.missing)
            value = self._checked(_content(source.path), source.path)
        except SecretUnavailable as error:
            raise SecretUnavailable(f"the secret {name} of {skill} is not there: {error}") from None
        except OSError as error:
            reason = f"{source.path}: {error.strerror or error}"
            raise SecretUnavailable(f"the secret {name} of {skill} cannot be read: {reason}") from None
        with self._lock:
            known = self._known.setdefault((skill, name), [])
            if value not in known:
                known.append(value)
                del known[:-_REMEMBERED]
        return value

    def _checked(self, content: tuple[bytes, int], path: Path) -> str:
        data, mode = content
        if mode & stat.S_IROTH and path not in self._warned:
            self._warned.add(path)
            _log.warning("the secret in %s can be read by every user: chmod o-r it and replace the secret", path)
        if len(data) > _MAX_BYTES:
            raise SecretUnavailable(f"{path} has more than {_MAX_BYTES} bytes")
        try:
            value = data.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise SecretUnavailable(f"{path} is not UTF-8") from None
        if "\0" in value:
            raise SecretUnavailable(f"{path} holds NUL")
        if len(value.strip()) < _MIN_CHARS:
            raise SecretUnavailable(f"{path} holds fewer than {_MIN_CHARS} characters, which could not be hidden")
        return value


def _content(path: Path) -> tuple[bytes, int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)  # a FIFO is not waited for
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise SecretUnavailable(f"{path} is not a regular file")
        return os.read(descriptor, _MAX_BYTES + 1), mode
    finally:
        os.close(descriptor)
