"""What a session may run: rules, what they are judged by, and the verdict: allow, deny or ask.

Nothing here waits, reads a file or starts a program.
"""

from skill_actors.sessions.policy.policy import ActiveSkill, Decision, Policy
from skill_actors.sessions.policy.presets import PRESETS
from skill_actors.sessions.policy.reading import SessionPolicy, parse_policy, parse_rules, preset_set, tool_rules
from skill_actors.sessions.policy.rules import Rule, RuleSet
from skill_actors.sessions.policy.shown import shown

__all__ = [
    "PRESETS",
    "ActiveSkill",
    "Decision",
    "Policy",
    "Rule",
    "RuleSet",
    "SessionPolicy",
    "parse_policy",
    "parse_rules",
    "preset_set",
    "shown",
    "tool_rules",
]
