"""What in a text is secret, dangerous or meant to mislead a model, found by rules that are data, and masked.

Standard library only, and nothing of it is imported before it is used. `builtin()` are the rules that come along;
`read_rules` takes others, as they stand in a rule file or come from the daemon.
"""

from __future__ import annotations

from skilld_monitor.scanning.builtin import builtin
from skilld_monitor.scanning.findings import DIRECTIONS, Direction, Finding, OutOfTime
from skilld_monitor.scanning.rule_set import RuleSet
from skilld_monitor.scanning.rules import Rule, RuleError, read_rules, rules_as_json

__all__ = [
    "DIRECTIONS",
    "Direction",
    "Finding",
    "OutOfTime",
    "Rule",
    "RuleError",
    "RuleSet",
    "builtin",
    "read_rules",
    "rules_as_json",
]
