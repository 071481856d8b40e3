"""Which skills a conversation may use: everybody's and its project's, less what its owner or it may not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from skill_actors.backends.anthropic import is_hosted
from skill_actors.errors import Refused
from skill_actors.sessions.place_check import check_hosted_skills
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.skills.base import Diagnostic, SkillFailure, SkillSnapshot
from skill_actors.skills.choice import SkillRules, is_pattern
from skill_actors.skills.names import normal_name
from skill_actors.skills.projects import ProjectRefused, lay_over

__all__ = ["check_project", "check_skill_choice", "offered_skills"]


async def offered_skills(env: Surroundings, owner_uid: int, settings: Mapping[str, Any]) -> SkillSnapshot:
    """The skills of this moment for a session with these settings, and what kept others out.

    A project that is gone, or not trusted any more, brings no skills and is among the failures.
    """
    snapshot = env.skills()
    if "cwd" in settings:
        snapshot = await _with_project(env, owner_uid, settings["cwd"], snapshot)
    permits = None if env.role_permits is None else await env.role_permits(owner_uid)
    if permits is not None:
        snapshot = _without_denied(snapshot, permits)
    rules = SkillRules.of_setting(settings.get("skills"))
    return snapshot if rules.permits_all else _only(snapshot, rules.permits)


async def check_skill_choice(env: Surroundings, owner_uid: int, settings: Mapping[str, Any]) -> None:
    """Raise Refused if the session names a skill that it cannot have: invalid_skill_spec, skills_limit_exceeded."""
    wanted = SkillRules.of_setting(settings.get("skills"))
    offered = await offered_skills(env, owner_uid, {name: settings[name] for name in ("cwd",) if name in settings})
    has_container = await check_hosted_skills(env, owner_uid, settings, offered.skills)
    for name in wanted.allow or ():
        if normal_name(name) in offered.skills or is_pattern(name) or (has_container and is_hosted(name)):
            continue
        if ":" in name:
            raise Refused("invalid_skill_spec", f"skill {name!r}: hosted skills need the hosted backend; not here")
        raise Refused("invalid_skill_spec", f"there is no skill {name!r}; GET /v1/skills lists those there are")


async def check_project(env: Surroundings, owner_uid: int, cwd: str) -> str:
    """The real path of a project that this user's sessions may have. Raises Refused("cwd_not_allowed")."""
    try:
        if env.projects is None:
            raise ProjectRefused("cwd is for a daemon run by the user who owns the folder; this one takes none")
        return str(await env.projects.resolve(cwd, owner_uid))
    except ProjectRefused as refused:
        raise Refused("cwd_not_allowed", str(refused)) from refused


async def _with_project(env: Surroundings, owner_uid: int, cwd: str, everybody: SkillSnapshot) -> SkillSnapshot:
    try:
        if env.projects is None:
            raise ProjectRefused("cwd: this daemon takes no projects any more")
        return lay_over(await env.projects.load(cwd, owner_uid), everybody)
    except ProjectRefused as refused:
        problem = Diagnostic(
            code="project_refused",
            message=str(refused),
            severity="error",
            remedy="Make the folder again, or have it trusted again; until then its skills are left out.",
        )
        failure = SkillFailure(path=Path(cwd), diagnostics=(problem,))
        return replace(everybody, failures=(failure, *everybody.failures))


def _without_denied(snapshot: SkillSnapshot, permits: Callable[[str], bool]) -> SkillSnapshot:
    denied = [skill for skill in snapshot.skills.values() if not permits(skill.name)]
    failures = [SkillFailure(path=skill.package or skill.root, diagnostics=(_denied(skill.name),)) for skill in denied]
    return replace(_only(snapshot, permits), failures=(*snapshot.failures, *failures))


def _only(snapshot: SkillSnapshot, permits: Callable[[str], bool]) -> SkillSnapshot:
    kept = {name: skill for name, skill in snapshot.skills.items() if permits(name)}
    return replace(snapshot, skills=MappingProxyType(kept))


def _denied(name: str) -> Diagnostic:
    return Diagnostic(
        code="denied",
        message=f"skill {name!r} is not used here: the role of the session's owner does not permit it",
        remedy="An operator changes skills_allow or skills_deny of the role in the configuration.",
    )
