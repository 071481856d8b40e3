"""What is done about a finding by the policy: what its program had to do, and whether anybody is told. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skilld.monitor.inspection.inspector import shown_agent
from skilld.monitor.inspection.pushed import mode_of, policy_for
from skilld_monitor.scanning import RuleSet

if TYPE_CHECKING:
    from skilld.config import MonitorPolicyConfig

__all__ = ["Acting"]

_ACTIONS: Final = {"redact": "modify", "block": "block"}


class Acting:
    """Looks up what holds for agents and rules; for one page of findings."""

    def __init__(self, config: MonitorPolicyConfig, rules: RuleSet) -> None:
        self._config = _as_shown(config, rules)
        self._by_id = {rule.id: rule for rule in rules.rules}
        self._dry: dict[str, bool] = {}

    def on(self, agent: str, rule: str, channel: str) -> tuple[str, bool]:
        """The action, in the words of OpenTelemetry (allow, modify, block), and whether sinks are told.

        Args:
            agent: as it is stored and shown; `channel` likewise.

        """
        known = self._by_id.get(rule)
        mode = self._config.mode if known is None else mode_of(self._config, agent, known)
        told = mode_of(self._config, agent, known, channel) != "observe"
        if known is None:  # such as what could not be looked at: that it is told of can be added, and not taken away
            told = told or mode != "observe"
        if agent not in self._dry:
            self._dry[agent] = bool(policy_for(self._config, None, agent)["dry_run"])
        action = "allow" if self._dry[agent] else _ACTIONS.get(mode, "allow")
        return action, told


def _as_shown(config: MonitorPolicyConfig, rules: RuleSet) -> MonitorPolicyConfig:
    """With its agents by the names that findings have of them: a program is known by its own, which a rule may mask."""
    overrides = tuple(
        one if one.agent is None else one.model_copy(update={"agent": shown_agent(rules, one.agent)})
        for one in config.overrides
    )
    return config.model_copy(update={"overrides": overrides})
