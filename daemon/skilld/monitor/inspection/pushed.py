"""What programs are to do themselves before their calls: the rules that redact or block, and how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from skilld_monitor.scanning import Rule, RuleSet

if TYPE_CHECKING:
    from skilld.config import MonitorPolicyConfig

__all__ = ["Pushed", "mode_of", "policy_for"]

_ACTS: Final = ("redact", "block")


class Pushed:
    """Remembers what it made, for as long as configuration and rules are the same.

    One for each agent that an override names, and one for all others: who invents names has nothing made by it.
    """

    def __init__(self) -> None:
        self._of: tuple[object, object] = (None, None)
        self._named: frozenset[str] = frozenset()
        self._made: dict[str | None, Mapping[str, Any]] = {}

    def policy_for(self, config: MonitorPolicyConfig, rules: RuleSet | None, agent: str) -> Mapping[str, Any]:
        """As the function of that name."""
        if self._of[0] is not config or self._of[1] is not rules:
            self._of, self._made = (config, rules), {}
            self._named = frozenset(override.agent for override in config.overrides if override.agent is not None)
        key = agent if agent in self._named else None
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = policy_for(config, rules, agent)
        return found


def policy_for(config: MonitorPolicyConfig, rules: RuleSet | None, agent: str) -> Mapping[str, Any]:
    """The policy of an agent, JSON-ready.

    Args:
        rules: None: nothing is looked for.

    Returns:
        `version`, which is another for another policy; `mode`, `fail` and `dry_run`; `rules`, those that redact or
        block; `modes`, which of both each of them does, by its id.

    """
    mode, fail, dry_run = config.mode, config.fail, config.dry_run
    for override in config.overrides:
        if override.agent in (None, agent) and override.category is None and override.rule is None:
            mode = override.mode or mode
            fail = override.fail or fail
            dry_run = dry_run if override.dry_run is None else override.dry_run
    modes = {rule.id: mode_of(config, agent, rule) for rule in (() if rules is None else rules.rules)}
    modes = {id: mode for id, mode in modes.items() if mode in _ACTS}
    said: dict[str, Any] = {
        "mode": mode,
        "fail": fail,
        "dry_run": dry_run,
        "rules": [] if rules is None else [dict(rule.fields) for rule in rules.rules if rule.id in modes],
        "modes": modes,
    }
    version = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    return {"version": version, **said}


def mode_of(config: MonitorPolicyConfig, agent: str, rule: Rule) -> str:
    """What holds for a rule in what this agent says: the last word that fits both."""
    mode = config.mode
    for override in config.overrides:
        fits = override.agent in (None, agent) and override.category in (None, rule.category)
        if fits and override.rule in (None, rule.id) and override.mode is not None:
            mode = override.mode
    return mode
