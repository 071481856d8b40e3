"""Rules and settings read from TOML or JSON: everything is checked, and what is wrong is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final, Literal, TypeVar

from skill_actors.backends.routing import HOSTED_NAMES
from skill_actors.sessions.agents.tools import AGENT_TOOLS
from skill_actors.sessions.policy.patterns import command_pattern, path_pattern
from skill_actors.sessions.policy.presets import PRESETS
from skill_actors.sessions.policy.programs import always_in_doubt
from skill_actors.sessions.policy.rules import Effect, Rule, RuleSet
from skill_actors.skills.allowed_tools import TOOL_NAMES, tool_ruled

__all__ = ["RULE_FIELDS", "SessionPolicy", "parse_policy", "parse_rules", "preset_set", "tool_rules"]

_EFFECTS: Final = ("allow", "ask", "deny")
RULE_FIELDS: Final = (
    *("effect", "tool", "skill", "backend", "place", "command", "path", "user", "secret", "confined"),
    *("opaque", "reason"),
)
_SETTING_FIELDS: Final = ("preset", "rules", "on_ask")
_MAX_RULES: Final = 200
_MAX_PATTERNS: Final = 200  # of one field
_MAX_TOTAL: Final = 500  # of all rules: each is compared with each command of a line, and everybody waits meanwhile
_MAX_OF_SESSION: Final = 50
_MAX_CHARS: Final = 1_000
_MAX_REASON: Final = 500

Pattern = TypeVar("Pattern")
Users = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """The session setting `policy`.

    Args:
        rule_set: what it permits; it holds besides the operator's.
        on_ask: "deny" where nobody waits for an answer: what would ask is denied at once.

    """

    rule_set: RuleSet = field(default_factory=lambda: RuleSet("conversation"))
    on_ask: Literal["wait", "deny"] = "wait"


def parse_policy(value: object) -> SessionPolicy:
    """The setting as a client gives it; None is the absence of one.

    Raises:
        ValueError: naming the field, the value and what is expected.

    """
    if value is None:
        return SessionPolicy()
    given = _object(value, "policy", _SETTING_FIELDS)
    on_ask = given.get("on_ask", "wait")
    if on_ask not in ("wait", "deny"):
        raise ValueError(f"policy.on_ask: expected wait or deny, got {on_ask!r:.60}")
    rules = parse_rules(given.get("rules", ()), "policy.rules")
    if _count(rules) > _MAX_OF_SESSION:
        raise ValueError(
            f"policy.rules: expected at most {_MAX_OF_SESSION} patterns of commands, paths and skills in all"
        )
    if any(rule.users for rule in rules):
        raise ValueError("policy.rules: a conversation belongs to one user; rules with user are for [policy]")
    preset = given.get("preset")
    last = () if preset is None else preset_set(preset, "policy.preset")
    # Whoever is asked looks a rule up where its label says, and the operator's [policy] is another place.
    named = (replace(rule, label=f"session.{rule.label}") for rule in rules)
    return SessionPolicy(RuleSet("conversation", (*named, *last)), "deny" if on_ask == "deny" else "wait")


def preset_set(name: object, where: str = "policy.preset") -> tuple[Rule, ...]:
    """The rules of a preset. Raises ValueError if there is no such one."""
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"{where}: expected one of {', '.join(PRESETS)}, got {name!r:.60}")
    return tuple(_rule(raw, f"{name}[{number}]", None) for number, raw in enumerate(PRESETS[name]))


def tool_rules(effect: Effect, tools: Sequence[str], label: str) -> tuple[Rule, ...]:
    """A rule for every call of these tools; none for no tools."""
    return (Rule(effect=effect, label=label, tools=tuple(tools)),) if tools else ()


def parse_rules(value: object, where: str = "policy.rules", users: Users | None = None) -> tuple[Rule, ...]:
    """A list of rules.

    Args:
        value: as TOML or JSON has it.
        where: what the list is called.
        users: a user's id by name, raising KeyError; None: only ids are taken.

    Raises:
        ValueError: naming the rule, the field, the value and what is expected.

    """
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise ValueError(f"{where}: expected a list of rules")
    if len(value) > _MAX_RULES:
        raise ValueError(f"{where}: expected at most {_MAX_RULES} rules, got {len(value)}")
    rules = tuple(_rule(raw, f"{where}[{number}]", users) for number, raw in enumerate(value))
    if _count(rules) > _MAX_TOTAL:
        raise ValueError(f"{where}: expected at most {_MAX_TOTAL} patterns of commands, paths and skills in all")
    return rules


def _count(rules: Sequence[Rule]) -> int:
    return sum(len(rule.commands) + len(rule.paths) + len(rule.skills) for rule in rules)


def _rule(raw: object, where: str, users: Users | None) -> Rule:
    given = _object(raw, where, RULE_FIELDS)
    effect = _effect(given.get("effect"), f"{where}.effect")
    opaque = given.get("opaque")
    reason = given.get("reason", "")
    if not isinstance(reason, str) or len(reason) > _MAX_REASON:
        raise ValueError(f"{where}.reason: expected text of at most {_MAX_REASON} characters")
    rule = Rule(
        effect=effect,
        label=where,
        tools=tuple(_tool(name, f"{where}.tool") for name in _texts(given, "tool", where)),
        skills=_texts(given, "skill", where),
        backends=_texts(given, "backend", where),
        places=_texts(given, "place", where),
        commands=_patterns(given, "command", where, command_pattern),
        paths=_patterns(given, "path", where, path_pattern),
        users=_users(given.get("user"), f"{where}.user", users),
        secret=_flag(given, "secret", where),
        confined=_flag(given, "confined", where),
        opaque=None if opaque is None else _effect(opaque, f"{where}.opaque"),
        reason=reason,
    )
    _check_opaque(rule, where)
    return rule


def _check_opaque(rule: Rule, where: str) -> None:
    """Raise ValueError if `opaque` does not fit the rule, or a rule would never hold without it."""
    if rule.opaque is None:
        for pattern in rule.commands if rule.effect == "allow" else ():
            if pattern.named and always_in_doubt(pattern.words[0]):
                raise ValueError(
                    f"{where}.command: {pattern.words[0]} can run other code, so that this would never hold; "
                    'add opaque = "allow" to permit it with whatever it runs'
                )
        return
    if not (rule.commands or rule.paths or rule.skills):
        raise ValueError(f"{where}.opaque: it is about command, path and skill, and the rule has none of them")
    if rule.effect == "allow" and rule.opaque != "allow":
        raise ValueError(f"{where}.opaque: a rule that allows has opaque = allow, or none")


def _object(value: object, where: str, fields: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected an object with {', '.join(fields)}")
    for name in value:
        if name not in fields:
            near = get_close_matches(str(name)[:60], fields, n=1)
            raise ValueError(f"{where}: unknown field {str(name)[:60]!r}; {near[0] if near else ', '.join(fields)}?")
    return {name: given for name, given in value.items() if given is not None}


def _effect(value: object, where: str) -> Effect:
    for effect in _EFFECTS:
        if value == effect:
            return effect
    raise ValueError(f"{where}: expected allow, ask or deny, got {value!r:.60}")


def _texts(given: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    """One text or a list of them. An empty list would mean the same as none, which nobody expects."""
    if name not in given:
        return ()
    value = given[name]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not texts or len(texts) > _MAX_PATTERNS:
        raise ValueError(f"{where}.{name}: expected text, or a list of 1 to {_MAX_PATTERNS} texts")
    for text in texts:
        if not isinstance(text, str) or not 0 < len(text) <= _MAX_CHARS:
            raise ValueError(f"{where}.{name}: expected text of 1 to {_MAX_CHARS} characters, got {text!r:.60}")
    return tuple(texts)


def _patterns(given: Mapping[str, Any], name: str, where: str, read: Callable[[str], Pattern]) -> tuple[Pattern, ...]:
    try:
        return tuple(read(text) for text in _texts(given, name, where))
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(where) else f"{where}.{name}: {text}") from error


def _tool(name: str, where: str) -> str:
    """Our name of a tool; a pattern is left as it is."""
    tool = name if "*" in name or name in HOSTED_NAMES or name in AGENT_TOOLS else tool_ruled(name)
    if tool is None:
        known = ", ".join(sorted({*TOOL_NAMES, *TOOL_NAMES.values(), "load_skill", "code_execution", "hand_over"}))
        others = "those of native skills and of agents"
        raise ValueError(f"{where}: {name!r:.60} is no tool; there are {known}, and {others}")
    return tool


def _flag(given: Mapping[str, Any], name: str, where: str) -> bool | None:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{where}.{name}: expected true or false, got {value!r:.60}")
    return value


def _users(value: object, where: str, users: Users | None) -> tuple[int, ...]:
    if value is None:
        return ()
    listed = list(value) if isinstance(value, list | tuple) else [value]
    if not listed:
        raise ValueError(f"{where}: expected a user, or a list of users")
    return tuple(_user(each, where, users) for each in listed)


def _user(value: object, where: str, users: Users | None) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32:
        return value
    if not isinstance(value, str) or users is None:
        raise ValueError(f"{where}: expected the id of a user, got {value!r:.60}")
    try:
        return users(value)
    except KeyError:
        raise ValueError(f"{where}: there is no user {value!r:.60} on this host") from None
