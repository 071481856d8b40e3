"""Names of hosted skills: `anthropic:xlsx@latest`, `custom:skill_01Ab@skver_01Cd`. Pure.

A name without a version means the latest one. Skills on disk have no colon in their names, so that one word tells
which of the two is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from skill_actors.backends.anthropic.errors import HostedError

__all__ = ["LATEST", "MAX_SKILLS", "HostedSkill", "check_count", "hosted_skills", "is_hosted", "parse_hosted"]

LATEST: Final = "latest"
MAX_SKILLS: Final = 20  # in one request of the Messages API

SkillType = Literal["anthropic", "custom"]

_TYPES: Final = ("anthropic", "custom")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_SHOWN_CHARS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedSkill:
    """A skill that the API has. `version` is one of its versions, or "latest".

    Raises:
        HostedError: "invalid_skill_spec" if a part cannot be one of the API's.

    """

    type: SkillType
    skill_id: str
    version: str = LATEST

    def __post_init__(self) -> None:
        if self.type not in _TYPES:
            raise _invalid(self.type, f"its type is {self.type!r:.{_SHOWN_CHARS}}, not anthropic or custom")
        if not _ID.fullmatch(self.skill_id):
            raise _invalid(self.skill_id, "its id is not made of letters, digits, hyphens and underscores")
        if not _VERSION.fullmatch(self.version):
            raise _invalid(self.version, "its version is not made of letters, digits, dots, hyphens and underscores")

    def __str__(self) -> str:
        return f"{self.type}:{self.skill_id}@{self.version}"

    def to_json(self) -> dict[str, str]:
        """As `container.skills` of a request has it."""
        return {"type": self.type, "skill_id": self.skill_id, "version": self.version}


def is_hosted(name: str) -> bool:
    """Whether this is the name of a hosted skill, well formed or not, and not of a skill on disk."""
    return name.partition(":")[0] in _TYPES and ":" in name


def parse_hosted(name: str) -> HostedSkill:
    """Read `anthropic:ID[@VERSION]` or `custom:ID[@VERSION]`.

    Raises:
        HostedError: "invalid_skill_spec" for anything else.

    """
    if not is_hosted(name):
        raise _invalid(name, "write anthropic:ID@VERSION or custom:ID@VERSION, for example anthropic:xlsx@latest")
    type, _, rest = name.partition(":")
    skill_id, at, version = rest.partition("@")
    try:
        return HostedSkill(type=cast(SkillType, type), skill_id=skill_id, version=version if at else LATEST)
    except HostedError as error:
        raise _invalid(name, error.details["reason"]) from None


def hosted_skills(specs: Iterable[object], *, max_skills: int = MAX_SKILLS) -> tuple[HostedSkill, ...]:
    """Each spec a HostedSkill, a name, or a triple of type, id and version. Repeated ones count once.

    Raises:
        HostedError: "invalid_skill_spec", or "skills_limit_exceeded" if there are more than `max_skills`.

    """
    chosen = tuple(dict.fromkeys(_one(spec) for spec in specs))
    check_count(chosen, max_skills=max_skills)
    return chosen


def check_count(skills: Sequence[object], *, max_skills: int = MAX_SKILLS) -> None:
    """Raise HostedError, "skills_limit_exceeded", if there are more skills than one request may name."""
    if len(skills) > max_skills:
        raise HostedError(
            "skills_limit_exceeded",
            f"{len(skills)} hosted skills are asked for and one request takes {max_skills}: leave some out",
            details={"count": len(skills), "max": max_skills},
        )


def _one(spec: object) -> HostedSkill:
    if isinstance(spec, HostedSkill):
        return spec
    if isinstance(spec, str):
        return parse_hosted(spec)
    if isinstance(spec, tuple | list) and len(spec) == 3 and all(isinstance(part, str) for part in spec):
        type, skill_id, version = spec
        return HostedSkill(type=type, skill_id=skill_id, version=version)
    raise _invalid(spec, "it is neither a name nor a triple of type, id and version")


def _invalid(spec: object, reason: str) -> HostedError:
    shown = spec if isinstance(spec, str) else repr(spec)
    return HostedError(
        "invalid_skill_spec",
        f"{shown[:_SHOWN_CHARS]!r} names no hosted skill: {reason}",
        details={"spec": shown[:_SHOWN_CHARS], "reason": reason},
    )
