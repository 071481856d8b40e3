"""Whether a session may have the places it asks for, all together. Checked before anything is stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from skill_actors.backends.anthropic import HostedError
from skill_actors.backends.anthropic.specs import check_count
from skill_actors.backends.base import BackendUnavailable
from skill_actors.backends.native import NATIVE
from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.models.base import Model
from skill_actors.sessions.backend_choice import choices_of
from skill_actors.sessions.hosted import check_hosted_options, refusal_of, short_name, wanted_skills
from skill_actors.sessions.hosted_start import check_hosted
from skill_actors.sessions.places import HOSTED, Places
from skill_actors.sessions.surroundings import Surroundings

__all__ = ["check_bridge", "check_hosted_skills", "check_places", "is_agents", "known_backends"]


def known_backends(env: Surroundings) -> Collection[str]:
    """Names that a session's `backends` may have."""
    native = () if env.natives is None else (NATIVE,)
    return {*env.executors, *env.agents, *native, HOSTED}


def is_agents(env: Surroundings, settings: Mapping[str, Any]) -> bool:
    """Whether a whole agent performs the turns of a session with these settings."""
    choices = choices_of(settings.get("backends") or env.default_backends)
    return any(choice.backend in env.agents for choice in choices)


def check_places(env: Surroundings, settings: Mapping[str, Any], model: Model | None) -> None:
    """Raise Refused unless the places of these settings can be had, and have tools that can be told apart.

    Args:
        model: of the session; None for one of a whole agent.

    """
    choices = choices_of(settings.get("backends") or env.default_backends)
    agents = [choice.backend for choice in choices if choice.backend in env.agents]
    if agents and len(choices) > 1:
        words = f"backends: {agents[0]!r} is a whole agent with tools of its own; it has no other place beside it"
        raise Refused("bad_request", words)
    if agents:
        return
    if any(choice.fallback for choice in choices):
        raise Refused("bad_request", "backends: fallback is for whole agents, and there is none")
    for backend in (HOSTED, NATIVE):
        if sum(choice.backend == backend for choice in choices) > 1:
            raise Refused("bad_request", f"backends: a session has one place of the backend {backend!r}")
    for choice in choices:
        if choice.backend == NATIVE and choice.options:
            raise Refused("bad_request", f"backends: the place {NATIVE!r} has no options")
        if choice.backend == HOSTED and model is not None:
            check_hosted_options(choice.options)
            check_hosted(env.hosted, model)
    try:
        Places(new_id("ses"), settings.get("backends") or env.default_backends, env).routing()
    except BackendUnavailable as error:
        raise Refused("bad_request", f"backends: {error}") from error


def check_bridge(env: Surroundings, settings: Mapping[str, Any]) -> None:
    """Raise Refused unless each agent that may perform the turns takes servers of tools; other sessions do anyway."""
    for choice in choices_of(settings.get("backends") or env.default_backends):
        for name in (choice.backend, *(each.backend for each in choice.fallback)):
            if name in env.agents and not env.agents[name].capabilities.mcp:
                raise Refused("bad_request", f"workshop_tools: the backend {name!r} takes no servers of tools")


async def check_hosted_skills(
    env: Surroundings, owner_uid: int, settings: Mapping[str, Any], offered: Collection[str]
) -> bool:
    """Check the skills that the session wants in its container; whether it has one at all.

    Args:
        offered: names of the skills on disk that it may use.

    Raises:
        Refused: invalid_skill_spec, skills_limit_exceeded.

    """
    choices = choices_of(settings.get("backends") or env.default_backends)
    hosted = next((choice for choice in choices if choice.backend == HOSTED), None)
    if hosted is None or env.hosted is None:
        return False
    alone = all(choice.backend in (HOSTED, NATIVE) for choice in choices)
    try:
        wanted = wanted_skills(settings, hosted, alone=alone)
        check_count([*wanted.hosted, *wanted.uploads], max_skills=env.hosted.max_skills)
    except HostedError as error:
        raise refusal_of(error) from error
    permits = None if env.role_permits is None else await env.role_permits(owner_uid)
    for spec in wanted.hosted:
        if permits is not None and not permits(short_name(spec)):
            raise Refused("invalid_skill_spec", f"skill {str(spec)!r}: your role does not permit it")
    for name in wanted.uploads:
        if name not in offered:
            raise Refused("invalid_skill_spec", f"there is no skill {name!r} to upload; GET /v1/skills lists them")
    return True
