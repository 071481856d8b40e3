"""What an agent is to be: checked whole before anything is stored, laid over its profile and the owner's defaults.

Settings are kept as they were given, without what is absent, so that a reset keeps every one of them. What a session
can refuse by itself (a backend's options, a skill, a folder) the session refuses when it is made; here is what only an
agent has, and what a mistyped name of a field was meant to be.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Final, Literal, Self

from skill_actors.errors import Refused
from skill_actors.sessions.backend_choice import fallbacks_of
from skill_actors.sessions.policy import PRESETS
from skill_actors.sessions.turn_options import EFFORTS

__all__ = ["DEFAULTS", "DEFAULT_QUEUE", "AgentSettings", "checked_fields", "laid_over"]

DEFAULT_QUEUE: Final = 5

_MAX_TEXT: Final = 100_000
_MAX_NAME: Final = 200
_MAX_PATH: Final = 4_096
_MAX_QUEUE: Final = 1_000
_MAX_TURNS: Final = 1_000
_MAX_TIMEOUT_S: Final = 7 * 86_400
_MAX_USD: Final = 1_000_000.0
_MAX_LABELS: Final = 30  # of the 32 that a session may have, two are the workshop's own
_MAX_SKILLS: Final = 1_000
_MAX_TOOLS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """One agent's options; what is None is the daemon's or the backend's own choice.

    Args:
        role: what the agent is, in its system prompt.
        context: likewise, before the role; None for the owner's global one, "" for none.
        skill: whose text comes before both.
        backend: what performs its turns: a backend of sessions or an agent backend.
        options: of that backend.
        fallback: what performs a turn that the backend cannot begin, in this order: objects with backend, options and
            model, all of whole agents.
        model: by name.
        effort: of each turn, one of EFFORTS.
        max_turns: how many answers of the model a turn of the conversation may take.
        policy: what its tools may do: a preset's name, or a session's policy.
        skills: which skills it may use, as a session has them; None for all.
        system: whether an agent program keeps its own system prompt and is given this one besides.
        max_cost_usd: what all its conversations together may cost, those before a reset too.
        timeout_s: the time of each of its turns.
        queue: how many messages may wait while a turn runs.
        profile: the one it was made from.
        cwd: the folder of a project in which it works.
        worktree: it works in a worktree of its own of the repository that `cwd` is in.
        git_context: tell it with each message how the repository of `cwd` stands.
        labels: of its conversations.
        workshop_tools: it has the workshop's tools, or those that are listed, and is told how to use them.

    """

    role: str = ""
    context: str | None = None
    skill: str | None = None
    backend: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    fallback: Sequence[Mapping[str, Any]] = ()
    model: str | None = None
    effort: str | None = None
    max_turns: int | None = None
    policy: str | Mapping[str, Any] | None = None
    skills: Sequence[str] | Mapping[str, Any] | None = None
    system: Literal["append", "replace"] | None = None
    max_cost_usd: float | None = None
    timeout_s: float | None = None
    queue: int = DEFAULT_QUEUE
    profile: str | None = None
    cwd: str | None = None
    worktree: bool = False
    git_context: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    workshop_tools: bool | Sequence[str] = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From fields as `checked_fields` gives them, or as they were stored."""
        return cls(**given)

    def policy_setting(self) -> Mapping[str, Any] | None:
        """As a session takes it."""
        return {"preset": self.policy} if isinstance(self.policy, str) else self.policy


DEFAULTS: Final = frozenset(
    {
        "backend",
        "options",
        "fallback",
        "model",
        "effort",
        "max_turns",
        "policy",
        "system",
        "max_cost_usd",
        "timeout_s",
        "queue",
        "git_context",
        "worktree",
        "workshop_tools",
    }
)
"""Fields for which an owner may set defaults."""

_FIELDS: Final = frozenset(item.name for item in fields(AgentSettings))


def checked_fields(given: Mapping[str, Any], *, allowed: Collection[str] = _FIELDS) -> dict[str, Any]:
    """The same fields without those that are None, if every one of them is good.

    Raises:
        Refused: bad_request naming the field, the value and what is expected.

    """
    checked = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if name not in allowed:
            raise Refused("bad_request", _unknown(name, allowed))
        if value is not None:
            _CHECKS[name](name, value)
    return checked


def laid_over(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of several layers, the later ones win. Options of the same backend are laid over each other too.

    Options and fall-backs belong to a backend: a layer that names another backend begins with none.
    """
    whole: dict[str, Any] = {}
    for layer in layers:
        changes_backend = "backend" in layer and layer["backend"] != whole.get("backend")
        if changes_backend:
            whole.pop("fallback", None)
        options = {**({} if changes_backend else whole.get("options", {})), **layer.get("options", {})}
        whole |= layer
        whole.pop("options", None)
        if options:
            whole["options"] = options
    return whole


def _unknown(name: str, allowed: Collection[str]) -> str:
    near = get_close_matches(name, allowed, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(allowed))}"
    return f"unknown field {name[:60]!r}; {hint}"


def _text(limit: int, *, empty: bool = True) -> Any:
    def check(name: str, value: Any) -> None:
        good = isinstance(value, str) and len(value) <= limit and "\0" not in value
        if not good or not (empty or value):
            least = "" if empty else "1 to "
            raise Refused("bad_request", f"{name}: expected text of {least}at most {limit} characters without NUL")

    return check


def _choice(*words: str) -> Any:
    def check(name: str, value: Any) -> None:
        if value not in words:
            raise Refused("bad_request", f"{name}: expected one of {', '.join(words)}, got {value!r:.60}")

    return check


def _number(low: float, high: float, *, whole: bool = False) -> Any:
    def check(name: str, value: Any) -> None:
        kind = int if whole else int | float
        good = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
        if not good or not low <= value <= high:
            what = "a whole number" if whole else "a number"
            raise Refused("bad_request", f"{name}: expected {what} from {low:g} to {high:g}, got {value!r:.60}")

    return check


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise Refused("bad_request", f"{name}: expected true or false, got {value!r:.60}")


def _object(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise Refused("bad_request", f"{name}: expected an object")


def _policy(name: str, value: Any) -> None:
    if isinstance(value, str):
        _choice(*PRESETS)(name, value)
    else:
        _object(name, value)  # the session looks into it


def _fallback(name: str, value: Any) -> None:
    try:
        fallbacks_of(value)
    except ValueError as error:
        raise Refused("bad_request", str(error)) from error


def _skills(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        return  # the session looks into it
    good = isinstance(value, Sequence) and not isinstance(value, str) and len(value) <= _MAX_SKILLS
    if not good or not all(isinstance(item, str) for item in value):
        raise Refused("bad_request", f"{name}: expected a list of names, or an object with allow, deny or both")


def _tools(name: str, value: Any) -> None:
    if isinstance(value, bool):
        return
    good = isinstance(value, Sequence) and not isinstance(value, str) and 0 < len(value) <= _MAX_TOOLS
    if not good or not all(isinstance(item, str) for item in value):
        raise Refused("bad_request", f"{name}: expected true, false, or a list of tools")


def _labels(name: str, value: Any) -> None:
    good = isinstance(value, Mapping) and len(value) <= _MAX_LABELS
    if not good or not all(isinstance(v, str) and len(k) <= 63 and len(v) <= 255 for k, v in value.items()):
        raise Refused("bad_request", f"{name}: expected at most {_MAX_LABELS} pairs of text (key 63, value 255 long)")
    if any(key.startswith("workshop.") for key in value):
        raise Refused("bad_request", f"{name}: those that begin with workshop. are the workshop's own")


_CHECKS: Final[Mapping[str, Any]] = {
    "role": _text(_MAX_TEXT),
    "context": _text(_MAX_TEXT),
    "skill": _text(_MAX_NAME, empty=False),
    "backend": _text(_MAX_NAME, empty=False),
    "options": _object,
    "fallback": _fallback,
    "model": _text(_MAX_NAME, empty=False),
    "effort": _choice(*EFFORTS),
    "max_turns": _number(1, _MAX_TURNS, whole=True),
    "policy": _policy,
    "skills": _skills,
    "system": _choice("append", "replace"),
    "max_cost_usd": _number(0, _MAX_USD),
    "timeout_s": _number(1, _MAX_TIMEOUT_S),
    "queue": _number(0, _MAX_QUEUE, whole=True),
    "profile": _text(64, empty=False),
    "cwd": _text(_MAX_PATH, empty=False),
    "worktree": _flag,
    "git_context": _flag,
    "labels": _labels,
    "workshop_tools": _tools,
}
