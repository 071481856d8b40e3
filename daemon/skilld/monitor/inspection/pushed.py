"""What programs are to do themselves before their calls: the rules that redact or block, and how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from skilld.monitor.inspected import policy_line
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
        self._made: dict[str | None, tuple[Mapping[str, Any], bytes]] = {}

    def policy_for(self, config: MonitorPolicyConfig, rules: RuleSet | None, agent: str) -> Mapping[str, Any]:
        """As the function of that name."""
        return self._of_agent(config, rules, agent)[0]

    def line_for(self, config: MonitorPolicyConfig, rules: RuleSet | None, agent: str) -> bytes:
        """The same as it is sent to programs, of which many may ask at once."""
        return self._of_agent(config, rules, agent)[1]

    def _of_agent(
        self, config: MonitorPolicyConfig, rules: RuleSet | None, agent: str
    ) -> tuple[Mapping[str, Any], bytes]:
        if self._of[0] is not config or self._of[1] is not rules:
            self._of, self._made = (config, rules), {}
            self._named = frozenset(override.agent for override in config.overrides if override.agent is not None)
        key = agent if agent in self._named else None
        found = self._made.get(key)
        if found is None:
            policy = policy_for(config, rules, agent)
            found = self._made[key] = policy, policy_line(policy)
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
        of_all = not override.channels and override.category is None and override.rule is None
        if of_all and override.agent in (None, agent):
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


def mode_of(config: MonitorPolicyConfig, agent: str, rule: Rule | None, channel: str | None = None) -> str:
    """What holds for a rule in what this agent says: the last word that fits both.

    Args:
        rule: None for one that is not known here, of which only what is said of all rules holds.
        channel: that of an event; None in programs, where what is said of channels does not hold.

    """
    category, id = (None, None) if rule is None else (rule.category, rule.id)
    mode = config.mode
    for override in config.overrides:
        fits = override.agent in (None, agent) and (not override.channels or channel in override.channels)
        fits = fits and override.category in (None, category) and override.rule in (None, id)
        if fits and override.mode is not None:
            mode = override.mode
    return mode
