"""What one message may ask for its own turn: another model, effort, length of the answers, and fewer tools."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from skill_actors.backends.tool_source import SourceUser
from skill_actors.errors import Refused
from skill_actors.models.facts import facts_of
from skill_actors.sessions.backend_choice import choices_of
from skill_actors.sessions.hosted import CODE_EXECUTION_TOOL
from skill_actors.sessions.ledger import Limits
from skill_actors.sessions.offered import offered_skills
from skill_actors.sessions.place_check import check_places, is_agents
from skill_actors.sessions.places import HOSTED, Places
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.skills.activation import load_skill_tool
from skill_actors.store.base import SessionRecord

__all__ = ["EFFORTS", "NO_OPTIONS", "TurnOptions", "check_turn_options"]

EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
"""The API's words; which of them a model takes, the API says."""

_MAX_NAME: Final = 200
_MAX_TOOLS: Final = 1_000
_MIN_TIMEOUT_S: Final = 0.1
_MAX_TIMEOUT_S: Final = 7 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOptions:
    """What differs in one turn from the rest of its session; what is None does not.

    Args:
        model: the name of the model that the turn calls.
        effort: one of EFFORTS.
        max_tokens: of each of its answers.
        tools: names of the tools that the model is offered; an empty one is no tools.
        timeout_s: the turn's time, where its session has no shorter one.
        budget: what it may use besides all other caps, as a session's `budget` is written.

    """

    model: str | None = None
    effort: str | None = None
    max_tokens: int | None = None
    tools: tuple[str, ...] | None = None
    timeout_s: float | None = None
    budget: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> TurnOptions:
        """As they were stored with the message; None: it had none."""
        given = stored or {}
        tools = given.get("tools")
        return cls(
            model=given.get("model"),
            effort=given.get("effort"),
            max_tokens=given.get("max_tokens"),
            tools=None if tools is None else tuple(tools),
            timeout_s=given.get("timeout_s"),
            budget=given.get("budget"),
        )

    def to_json(self) -> dict[str, Any]:
        """What `of` reads, without what is None."""
        given = {
            "model": self.model,
            "effort": self.effort,
            "max_tokens": self.max_tokens,
            "timeout_s": self.timeout_s,
            "budget": self.budget,
        }
        tools = {} if self.tools is None else {"tools": list(self.tools)}
        return {name: value for name, value in given.items() if value is not None} | tools


NO_OPTIONS: Final = TurnOptions()


async def check_turn_options(
    env: Surroundings, record: SessionRecord, given: Mapping[str, Any] | None
) -> TurnOptions | None:
    """The options that a message asks for, if every one of them can be had now; None if there are none.

    Raises:
        Refused: bad_request naming field, value and what is expected; backend_unavailable where no configured model
            answers to the name, or the session's places do not go with it.

    """
    if not given:
        return None
    for name, value in given.items():
        if name not in _CHECKS:
            near = get_close_matches(name, _CHECKS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(_CHECKS))}"
            raise Refused("bad_request", f"options: unknown field {name[:60]!r}; {hint}")
        if value is not None:
            _CHECKS[name](value)
    options = TurnOptions.of({name: value for name, value in given.items() if value is not None})
    if env.ledger is None and options.budget:
        raise Refused("bad_request", "options.budget: nothing is counted here, so that nothing would hold it")
    settings = record.settings
    if is_agents(env, settings):
        if options.tools is not None:
            words = "options.tools: an agent's tools are its own; the options of its backend choose among them"
            raise Refused("bad_request", words)
        return options if options.to_json() else None
    model, name = env.resolve_model(options.model or settings.get("model"))
    if options.model is not None:
        check_places(env, settings, model)
    if options.max_tokens is not None:
        _check_max_tokens(options.max_tokens, name)
    if options.tools:
        servers = _sources_of(env, record)
        own = [tool for tool in options.tools if not _is_of_source(tool, servers)]
        _check_offered(own, await _tools_of(env, record))
    return options if options.to_json() else None


def _text(field: str) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME or "\0" in value:
            raise Refused("bad_request", f"options.{field}: expected a name of at most {_MAX_NAME} characters")

    return check


def _effort(value: Any) -> None:
    if value not in EFFORTS:
        raise Refused("bad_request", f"options.effort: expected one of {', '.join(EFFORTS)}, got {value!r:.60}")


def _whole(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Refused("bad_request", f"options.max_tokens: expected a whole number of at least 1, got {value!r:.60}")


def _names(value: Any) -> None:
    good = isinstance(value, list | tuple) and len(value) <= _MAX_TOOLS
    if not good or not all(isinstance(item, str) and 0 < len(item) <= _MAX_NAME for item in value):
        raise Refused("bad_request", "options.tools: expected a list of names of tools; an empty one is no tools")


def _timeout(value: Any) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not _MIN_TIMEOUT_S <= value <= _MAX_TIMEOUT_S:
        most = f"{_MIN_TIMEOUT_S:g} to {_MAX_TIMEOUT_S:g}"
        raise Refused("bad_request", f"options.timeout_s: expected a number of seconds from {most}, got {value!r:.60}")


def _budget(value: Any) -> None:
    try:
        Limits.from_json(value)
    except ValueError as error:
        raise Refused("bad_request", f"options.budget: {error}") from error


_CHECKS: Final[Mapping[str, Callable[[Any], None]]] = {
    "model": _text("model"),
    "effort": _effort,
    "max_tokens": _whole,
    "tools": _names,
    "timeout_s": _timeout,
    "budget": _budget,
}


def _check_max_tokens(max_tokens: int, model: str) -> None:
    facts = facts_of(model)
    if facts.known and max_tokens > facts.max_output_tokens:
        most = facts.max_output_tokens
        raise Refused("bad_request", f"options.max_tokens: {model} writes at most {most} tokens, not {max_tokens}")


def _check_offered(tools: Collection[str], offered: Collection[str]) -> None:
    for tool in tools:
        if tool not in offered:
            known = ", ".join(sorted(offered)) or "none"
            raise Refused("bad_request", f"options.tools: the session offers no tool {tool[:60]!r}; it offers {known}")


def _sources_of(env: Surroundings, record: SessionRecord) -> Collection[str]:
    """Names of the session's sources of further tools."""
    settings = record.settings
    folder = Places(record.id, settings.get("backends") or env.default_backends, env).folder
    user = SourceUser(session=record.id, owner_uid=record.owner_uid, settings=settings, workspace=folder)
    return [source.name for kind in env.tool_sources for source in kind.open(user)]


def _is_of_source(tool: str, sources: Collection[str]) -> bool:
    """Whether the name is one of a source's tools; which of them there are is only known when the turn begins."""
    return any(tool.startswith(f"mcp__{source}__") for source in sources)


async def _tools_of(env: Surroundings, record: SessionRecord) -> Collection[str]:
    """Names of the tools that a turn of the session would be offered if it began now.

    Those of a native skill whose names are taken by another tool are among them: the turn leaves them out.
    """
    setting = record.settings.get("backends") or env.default_backends
    skills = (await offered_skills(env, record.owner_uid, record.settings)).skills.values()
    tools = [*Places(record.id, setting, env).routing().tools]
    if (load := load_skill_tool(skills)) is not None:
        tools.append(load)
    for skill in skills:
        if skill.native is not None and env.natives is not None:
            tools.extend(skill.native.tools.values())
    hosted = {CODE_EXECUTION_TOOL} if any(choice.backend == HOSTED for choice in choices_of(setting)) else set()
    return {str(tool["name"]) for tool in tools} | hosted
