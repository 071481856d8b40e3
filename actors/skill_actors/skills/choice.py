"""Which skills may be used: lists of names and patterns, of the configuration, of a role and of a session."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any

from skill_actors.skills.names import normal_name

__all__ = ["SkillRules", "is_pattern"]


def is_pattern(text: str) -> bool:
    """Whether this stands for more than the one name it spells."""
    return any(character in text for character in "*?[")


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillRules:
    """What is allowed and what is denied; denied wins.

    An entry is a name, or a pattern of whole names with `*`, `?` and `[...]`. Look-alike spellings of a name count as
    that name; capital letters count as others.

    Args:
        allow: only what matches one of these may be used; None: everything.
        deny: what matches one of these may not.

    """

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()

    @classmethod
    def of_setting(cls, setting: Sequence[str] | Mapping[str, Any] | None) -> SkillRules:
        """A session's setting `skills`: a list of names, or an object with `allow`, `deny` or both; None: all."""
        if setting is None:
            return cls()
        if isinstance(setting, Mapping):
            allow = setting.get("allow")
            return cls(allow=None if allow is None else tuple(allow), deny=tuple(setting.get("deny") or ()))
        return cls(allow=tuple(setting))

    @property
    def permits_all(self) -> bool:
        """Whether no name at all is kept out."""
        return not self.deny and (self.allow is None or "*" in self.allow)

    def permits(self, name: str) -> bool:
        """Whether the skill of this name may be used."""
        name = name if name.isascii() else normal_name(name)
        return (self.allow is None or _matcher(self.allow)(name)) and not _matcher(self.deny)(name)


@lru_cache(maxsize=256)
def _matcher(entries: tuple[str, ...]) -> Callable[[str], bool]:
    """What tells whether a name is among the entries: ten thousand names are judged when a turn begins."""
    names = frozenset(map(normal_name, entries))
    patterns = re.compile("|".join(translate(name) for name in sorted(names) if is_pattern(name)) or r"(?!)")
    return lambda name: name in names or patterns.match(name) is not None
