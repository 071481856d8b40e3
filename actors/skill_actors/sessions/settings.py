"""What a client may choose for a session, checked whole before anything is stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.sessions.answer_schema import check_schema
from skill_actors.sessions.backend_choice import choices_of, choices_to_json
from skill_actors.sessions.ledger import Limits
from skill_actors.sessions.policy import parse_policy

__all__ = ["CHANGEABLE", "SETTINGS", "check_settings"]

SETTINGS: Final = frozenset(
    {
        "title",
        "system",
        "model",
        "backends",
        "skills",
        "limits",
        "labels",
        "cwd",
        "on_disconnect",
        "artifacts",
        "budget",
        "policy",
        "schema",
        "mcp",
    }
)
CHANGEABLE: Final = frozenset({"title", "labels", "budget", "policy"})

_MAX_TITLE: Final = 200
_MAX_SYSTEM: Final = 200_000
_MAX_LABELS: Final = 32
_MAX_SKILLS: Final = 1_000
_MAX_PATTERNS: Final = 100  # all of them together become one expression, and that takes its time
_MAX_WILD: Final = 8
_MAX_PATH: Final = 4_096
_LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "iterations": (1, 1000),
    "tool_timeout_s": (0.1, 86_400),
    "turn_timeout_s": (1, 7 * 86_400),
    "workspace_bytes": (1, 1 << 60),
}


def check_settings(
    settings: Mapping[str, Any], *, allowed: Collection[str] = SETTINGS, backends: Collection[str] = ()
) -> dict[str, Any]:
    """The same settings without absent values, if every one of them is good.

    Args:
        settings: JSON-ready, from a client.
        allowed: names that may occur.
        backends: names of the backends that exist.

    Raises:
        Refused: bad_request naming field, value and what is expected; backend_unavailable.

    """
    checked = {name: value for name, value in settings.items() if value is not None}
    for name, value in checked.items():
        _check_name(name, allowed)
        _CHECKS[name](name, value)
    if "backends" in checked:
        checked["backends"] = _known_backends(checked["backends"], backends)
    return checked


def _known_backends(setting: Sequence[Any], backends: Collection[str]) -> list[Any]:
    """The setting, written in one way, if there are such backends."""
    choices = choices_of(setting)
    for name in (name for choice in choices for name in (choice.backend, *(each.backend for each in choice.fallback))):
        if name not in backends:
            known = ", ".join(sorted(backends)) or "none"
            raise Refused("backend_unavailable", f"there is no backend {name!r}; configured here: {known}")
    return choices_to_json(choices)


def _check_name(name: str, allowed: Collection[str]) -> None:
    if name in allowed:
        return
    if name in SETTINGS:
        raise Refused("bad_request", f"{name}: fixed when the session is made; may be changed: {_listed(allowed)}")
    near = get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {_listed(allowed)}"
    raise Refused("bad_request", f"unknown field {name[:60]!r}{hint}")


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


def _text(limit: int) -> Any:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or len(value) > limit or "\0" in value:
            raise Refused("bad_request", f"{name}: expected text of at most {limit} characters without NUL")

    return check


def _names(name: str, value: Any) -> None:
    good = isinstance(value, Sequence) and not isinstance(value, str)
    if not good or not all(isinstance(item, str) and 0 < len(item) <= 200 for item in value):
        raise Refused("bad_request", f"{name}: expected a list of names")


def _backends(name: str, value: Any) -> None:
    try:
        choices_of(value)
    except ValueError as error:
        raise Refused("bad_request", f"{name}: {error}") from error


def _skills(name: str, value: Any) -> None:
    lists = {name: value}
    if isinstance(value, Mapping):
        lists = {f"{name}.{key}": listed for key, listed in value.items() if listed is not None}
        if not value or not set(value) <= {"allow", "deny"}:
            raise Refused("bad_request", f"{name}: expected a list of names, or an object with allow, deny or both")
    for field, listed in lists.items():
        _names(field, listed)
        if len(listed) > _MAX_SKILLS:
            raise Refused(
                "bad_request", f"{field}: expected at most {_MAX_SKILLS} names; a pattern such as pdf* does more"
            )
        wild = [sum(map(item.count, "*?[")) for item in listed]
        if sum(map(bool, wild)) > _MAX_PATTERNS or max(wild, default=0) > _MAX_WILD:
            limit = f"at most {_MAX_PATTERNS} patterns, each with at most {_MAX_WILD} of * ? ["
            raise Refused("bad_request", f"{field}: expected {limit}")


def _labels(name: str, value: Any) -> None:
    good = isinstance(value, Mapping) and len(value) <= _MAX_LABELS
    if not good or not all(isinstance(v, str) and len(k) <= 63 and len(v) <= 255 for k, v in value.items()):
        raise Refused("bad_request", f"{name}: expected at most {_MAX_LABELS} pairs of text (key 63, value 255 long)")


def _limits(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise Refused("bad_request", f"{name}: expected an object with {_listed(_LIMITS)}")
    for key, number in value.items():
        if key not in _LIMITS:
            near = get_close_matches(key, _LIMITS, n=1)
            raise Refused("bad_request", f"{name}.{key[:60]}: unknown; {near[0] if near else _listed(_LIMITS)}?")
        low, high = _LIMITS[key]
        if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
            raise Refused("bad_request", f"{name}.{key}: expected a number from {low:g} to {high:g}, got {number!r}")
        if key in ("iterations", "workspace_bytes") and not isinstance(number, int):
            raise Refused("bad_request", f"{name}.{key}: expected a whole number, got {number!r}")


def _budget(_name: str, value: Any) -> None:
    try:
        Limits.from_json(value)
    except ValueError as error:
        raise Refused("bad_request", str(error)) from error


def _policy(name: str, value: Any) -> None:
    try:
        parse_policy(value)
    except ValueError as error:
        raise Refused("bad_request", f"{name}: {error}") from error


def _on_disconnect(name: str, value: Any) -> None:
    if value not in ("continue", "cancel"):
        raise Refused("bad_request", f"{name}: expected continue or cancel, got {value!r}")


def _artifacts(name: str, value: Any) -> None:
    good = isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(i, Mapping) for i in value)
    if not good or not all(isinstance(text, str) or text is None for item in value for text in item.values()):
        raise Refused("bad_request", f"{name}: expected a list of objects with name and uri or content, all text")
    for item in value:
        if not set(item) <= {"name", "uri", "content", "given"}:
            raise Refused("bad_request", f"{name}: an artifact has name and either uri or content")


_CHECKS: Final[Mapping[str, Any]] = {
    "artifacts": _artifacts,
    "budget": _budget,
    "policy": _policy,
    "title": _text(_MAX_TITLE),
    "system": _text(_MAX_SYSTEM),
    "model": _text(200),
    "backends": _backends,
    "skills": _skills,
    "limits": _limits,
    "labels": _labels,
    "cwd": _text(_MAX_PATH),
    "on_disconnect": _on_disconnect,
    "mcp": _names,
    "schema": lambda _name, value: check_schema(value),
}
