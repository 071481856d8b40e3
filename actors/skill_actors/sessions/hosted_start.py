"""The hosted place, made ready when a turn begins: skills uploaded, files of the message sent, or why it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skill_actors.backends.anthropic import HostedError, HostedSkill
from skill_actors.backends.base import ToolCall
from skill_actors.backends.routing import HOSTED_NAMES
from skill_actors.errors import Refused
from skill_actors.models.base import Model
from skill_actors.sessions.backend_choice import BackendChoice
from skill_actors.sessions.hand_over import HandOvers
from skill_actors.sessions.hosted import (
    Hosted,
    HostedTurn,
    WantedSkills,
    checked_skills,
    wanted_skills,
)
from skill_actors.sessions.places import Places
from skill_actors.sessions.policy import Policy, parse_policy
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.skills.base import Skill
from skill_actors.store.base import SessionRecord

__all__ = ["NotHosted", "prepare_hosted", "send_message_files"]

_OFFLINE = "offline"


class NotHosted(Exception):
    """The hosted place cannot be used in this turn. The message says why, and the way out where there is one."""


async def prepare_hosted(
    env: Surroundings, record: SessionRecord, places: Places, allowed: Mapping[str, Skill], model: Model
) -> HostedTurn:
    """The hosted place for one turn.

    Args:
        allowed: the skills that the session may use, by name.
        model: that the turn calls.

    Raises:
        NotHosted: no key, an offline model, a skill that is gone or cannot be uploaded.

    """
    choice = places.hosted
    if choice is None or env.hosted is None:
        raise NotHosted("this daemon has no hosted execution")
    try:
        check_hosted(env.hosted, model)
        if (kept := _kept_away(env, record, choice)) is not None:
            raise NotHosted(f"the policy does not let the model use {kept} unasked")
        wanted = wanted_skills(record.settings, choice, alone=not places.executors)
        uploaded = await _uploaded(env, env.hosted, wanted, allowed)
        permits = None if env.role_permits is None else await env.role_permits(record.owner_uid)
        skills = checked_skills(wanted, uploaded, max_skills=env.hosted.max_skills, permits=permits)
    except Refused as error:
        raise NotHosted(error.message) from error
    except HostedError as error:
        raise NotHosted(error.message) from error
    return HostedTurn(choice.name, skills, env.hosted)


def _kept_away(env: Surroundings, record: SessionRecord, choice: BackendChoice) -> str | None:
    """The first of the provider's tools that rules deny, or want to be asked about: nobody is asked before they run."""
    policy = Policy(
        tools=HOSTED_NAMES,
        rules=(env.defaults.policy, parse_policy(record.settings.get("policy")).rule_set),
        backends={choice.name: choice.backend},
        owner_uid=record.owner_uid,
    )
    calls = (ToolCall(id="", name=name, input={}) for name in sorted(HOSTED_NAMES))
    return next((call.name for call in calls if policy.decide(call).verdict != "allow"), None)


def check_hosted(hosted: Hosted | None, model: Model) -> None:
    """Raise Refused("backend_unavailable") if code cannot be executed by the API with this model."""
    if hosted is None:
        why = "this daemon has no hosted execution: set an API key in [model], or ANTHROPIC_API_KEY, and restart it"
        raise Refused("backend_unavailable", why)
    hosted.check()
    if model.provider == _OFFLINE:
        raise Refused(
            "backend_unavailable",
            "hosted execution is a part of the model's API, and the offline model has none: choose another model",
        )


async def _uploaded(
    env: Surroundings, hosted: Hosted, wanted: WantedSkills, allowed: Mapping[str, Skill]
) -> Sequence[HostedSkill]:
    missing = [name for name in wanted.uploads if name not in allowed]
    if missing:
        raise NotHosted(f"the skill {missing[0]!r}, which is to be uploaded, is not there any more")
    skills = [allowed[name] for name in wanted.uploads if allowed[name].native is None]
    if not skills:
        return ()
    copies = await env.pin(skills)
    return await hosted.ensure_skills(list(zip(skills, copies, strict=True)))


async def send_message_files(hand_overs: HandOvers, names: Sequence[str], places: Places, turn: str) -> None:
    """Upload the files that came with the turn's message. Raises NotHosted."""
    for name in names:
        try:
            await hand_overs.send(name, places.folder, turn)
        except Refused as error:
            raise NotHosted(f"the file {name!r} was not sent there: {error.message}") from error
        except HostedError as error:
            raise NotHosted(f"the file {name!r} was not sent there: {error.message}") from error
