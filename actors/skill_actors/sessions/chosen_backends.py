"""The backends of a session against those that there are: checked when it is made, imported or forked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from skill_actors.backends.base import Executor, OptionRefused, options_for
from skill_actors.errors import Refused
from skill_actors.sessions.backend_choice import BackendChoice, Fallback, choices_of, choices_to_json
from skill_actors.sessions.places import is_executor
from skill_actors.sessions.surroundings import Surroundings

__all__ = ["check_backends", "check_options_again"]

C = TypeVar("C", BackendChoice, Fallback)


def check_backends(env: Surroundings, setting: Sequence[Any] | None) -> list[Any]:
    """The setting, its options as the backends write them.

    Args:
        env: what backends there are.
        setting: `backends` of a session; None for one that names none.

    Raises:
        Refused: backend_unavailable with the reason; bad_request for an option that is not permitted.

    """
    checked = []
    for choice in choices_of(setting or env.default_backends):
        if is_executor(choice.backend):
            try:
                choice = _checked_chain(env, choice) if choice.fallback else _checked(env, choice)
            except OptionRefused as error:
                raise Refused("bad_request", str(error), details={"option": error.option}) from error
        checked.append(choice)
    return choices_to_json(checked)


def check_options_again(env: Surroundings, setting: Sequence[Any] | None) -> None:
    """What the operator permits may have changed since the session was made. Raises Refused("backend_unavailable")."""
    for choice in choices_of(setting or env.default_backends):
        if is_executor(choice.backend) and (choice.options or choice.fallback):
            try:
                _ = _checked_chain(env, choice) if choice.fallback else _checked(env, choice)
            except OptionRefused as error:
                words = f"what the session was made with is not permitted any more: {error}"
                raise Refused("backend_unavailable", words) from error


def _checked(env: Surroundings, choice: BackendChoice) -> BackendChoice:
    """Raises OptionRefused, Refused."""
    return replace(choice, options=_options(env, choice))


def _checked_chain(env: Surroundings, choice: BackendChoice) -> BackendChoice:
    """The choice and its fall-backs. Who is away now is what the others are for; options are checked at each use too.

    Raises: OptionRefused; Refused where something is no whole agent, or all are away.
    """
    for name in (choice.backend, *(each.backend for each in choice.fallback)):
        if name not in env.agents:
            known = ", ".join(sorted(env.agents)) or "none"
            raise Refused(
                "bad_request", f"fallback: {name!r} is no whole agent, and only these stand in for each other: {known}"
            )
    away: list[Refused] = []
    first = _unless_away(env, choice, away)
    others = tuple(_unless_away(env, each, away) for each in choice.fallback)
    if len(away) == 1 + len(others):
        raise away[0]
    return replace(first, fallback=others)


def _unless_away(env: Surroundings, choice: C, away: list[Refused]) -> C:
    try:
        return replace(choice, options=_options(env, choice))
    except Refused as refused:
        if refused.code != "backend_unavailable":
            raise
        away.append(refused)
        return choice


def _options(env: Surroundings, choice: BackendChoice | Fallback) -> Mapping[str, Any]:
    """As the backend writes them. Raises OptionRefused, Refused."""
    if choice.backend in env.agents:
        return env.agents[choice.backend].check_options(choice.options)
    return options_for(_executor(env, choice.backend), choice.options)


def _executor(env: Surroundings, name: str) -> Executor:
    if name not in env.executors:
        raise Refused("backend_unavailable", f"the backend {name!r} is not configured")
    return env.executors[name]  # refuses what is not available now
