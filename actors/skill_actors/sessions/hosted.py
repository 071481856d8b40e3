"""The hosted place of a conversation: what it adds to requests, and what comes back from it.

Nothing of it runs here. The API runs the code, in a container of its own, during the model's answer; so the place is a
tool and a `container` in the request, and blocks of the answer. What the daemon needs besides (skills uploaded, files
sent and fetched) is behind `Hosted`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from skill_actors.backends.anthropic import (
    HostedError,
    HostedSkill,
    code_execution_tool,
    container_config,
    hosted_skills,
    is_hosted,
    parse_hosted,
)
from skill_actors.errors import Refused
from skill_actors.models.base import Block
from skill_actors.sessions.backend_choice import BackendChoice
from skill_actors.skills.base import Skill
from skill_actors.skills.choice import SkillRules, is_pattern
from skill_actors.skills.names import normal_name

__all__ = [
    "CODE_EXECUTION_TOOL",
    "Hosted",
    "HostedFacts",
    "HostedTurn",
    "WantedSkills",
    "check_hosted_options",
    "code_executions",
    "refusal_of",
    "wanted_skills",
]

CODE_EXECUTION_TOOL: Final = "code_execution"
_OPTIONS: Final = frozenset({"skills"})
_SUB_TOOLS: Final = frozenset({"bash_code_execution", "text_editor_code_execution", CODE_EXECUTION_TOOL})


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedFacts:
    """What the API says of one of its files. `name` is as the server gives it: not to be used as a path."""

    name: str
    size_bytes: int | None
    content_type: str | None


class Hosted(Protocol):
    """The hosted side of the daemon. What fails raises HostedError."""

    @property
    def max_skills(self) -> int:
        """How many skills a request may name."""

    def check(self) -> None:
        """Raise Refused("backend_unavailable") if there is no key."""

    async def ensure_skills(self, skills: Sequence[tuple[Skill, Path]]) -> Sequence[HostedSkill]:
        """Have these skills, each with the copy of its folder, at the API: uploaded where they are new or changed."""

    async def upload(self, folder: Path, name: str, *, max_bytes: int) -> tuple[str, int, str]:
        """Send a file of that folder; the API's id of it, its size and its checksum. Raises also Refused."""

    async def facts(self, file_id: str) -> HostedFacts: ...

    async def download(self, file_id: str, folder: Path, name: str, *, max_bytes: int) -> tuple[int, str]:
        """Fetch a file into that folder, in one step under exactly this name; its size and checksum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSkills:
    """What a session wants in its container: skills that the API has, and names of skills on disk to be uploaded."""

    hosted: tuple[HostedSkill, ...] = ()
    uploads: tuple[str, ...] = ()


def wanted_skills(settings: Mapping[str, Any], choice: BackendChoice, *, alone: bool) -> WantedSkills:
    """Read them from a session's settings.

    Names such as `anthropic:xlsx@latest` among its `skills` are meant for the container; those of skills on disk only
    where it is the session's one place, or where they are named in the option `skills` of the hosted place.

    Raises:
        HostedError: "invalid_skill_spec".

    """
    rules = SkillRules.of_setting(settings.get("skills"))
    named = [*(rules.allow or ()), *choice.options.get("skills", ())]
    specs = [parse_hosted(name) for name in named if is_hosted(name)]
    local = [name for name in choice.options.get("skills", ()) if not is_hosted(name)]
    if alone:
        local += [name for name in rules.allow or () if not is_hosted(name) and not is_pattern(name)]
    by_name = {short_name(spec): spec for spec in specs}
    twice = next((spec for spec in specs if by_name[short_name(spec)] != spec), None)
    if twice is not None:
        other = by_name[short_name(twice)]
        raise HostedError(
            "invalid_skill_spec",
            f"{twice} and {other} are one skill in two versions, and a container has one of them: leave one out",
            details={"spec": str(twice), "reason": "in two versions"},
        )
    kept = [spec for spec in specs if SkillRules(deny=rules.deny).permits(short_name(spec))]
    return WantedSkills(hosted=tuple(dict.fromkeys(kept)), uploads=tuple(dict.fromkeys(map(normal_name, local))))


def short_name(spec: HostedSkill) -> str:
    """Without the version: what rules are about."""
    return f"{spec.type}:{spec.skill_id}"


def check_hosted_options(options: Mapping[str, Any]) -> None:
    """Raise Refused("bad_request") unless these are options of a hosted place."""
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise Refused("bad_request", f"backends: the hosted place has no option {unknown[0]!r:.60}; it has skills")
    skills = options.get("skills", [])
    if not isinstance(skills, Sequence) or isinstance(skills, str) or not all(isinstance(each, str) for each in skills):
        raise Refused("bad_request", "backends: the option skills of the hosted place is a list of names")


def refusal_of(error: HostedError) -> Refused:
    """The same, for a client."""
    code = error.code if error.code in ("invalid_skill_spec", "skills_limit_exceeded") else "backend_unavailable"
    return Refused(code, error.message, details=error.details, retry_after_s=error.retry_after_s)


class HostedTurn:
    """The hosted place in one turn: the same in every request of it, as the API asks of a turn that was paused.

    Args:
        place: its name in the session.
        skills: of its container.
        services: the daemon's.

    """

    def __init__(self, place: str, skills: Sequence[HostedSkill], services: Hosted) -> None:
        self.place = place
        self.skills = tuple(skills)
        self.services = services

    @property
    def tool(self) -> Mapping[str, Any]:
        """The definition that lets the model run code."""
        return code_execution_tool()

    def extra(self, container_id: str | None) -> Mapping[str, Any]:
        """Further fields of a request.

        Args:
            container_id: of the container to use again; None for a new one.

        """
        config = container_config(self.skills, container_id, max_skills=self.services.max_skills)
        return {"container": config} if config else {}


def checked_skills(
    wanted: WantedSkills, uploaded: Sequence[HostedSkill], *, max_skills: int, permits: Callable[[str], bool] | None
) -> tuple[HostedSkill, ...]:
    """All skills of a container. Raises HostedError: skills_limit_exceeded."""
    own = [spec for spec in wanted.hosted if permits is None or permits(short_name(spec))]
    return hosted_skills([*own, *uploaded], max_skills=max_skills)


def code_executions(content: Sequence[Block]) -> int:
    """How often the model had the API run something in this answer."""
    return sum(block.get("type") == "server_tool_use" and block.get("name") in _SUB_TOOLS for block in content)
