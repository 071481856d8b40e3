"""The actor of inspection that is there before anything is reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skill_actors.errors import Refused
from skill_actors.runtime import ChildSpec
from skilld.monitor.inspection.book import RuleKeeper

if TYPE_CHECKING:
    from skilld.parts import Parts

__all__ = ["inspection_children", "rules_of"]


def inspection_children(parts: Parts) -> list[ChildSpec]:
    """Whoever reads the rules, where monitoring is switched on."""
    if not parts.config.monitor.enabled:
        return []
    return [ChildSpec(id="monitor-rules", factory=lambda: RuleKeeper(parts), isolated=True)]


async def rules_of(parts: Parts) -> Mapping[str, Any]:
    """The rules in force, JSON-ready. Raises Refused where nothing is looked for."""
    config = parts.config.monitor
    if not config.enabled or not config.scan.enabled:
        raise Refused("not_found", "nothing is looked for: monitor.enabled, monitor.scan.enabled")
    await parts.rule_book.wait()
    rules, fault = parts.rule_book.rules, parts.rule_book.fault
    return {"version": rules.version, "fault": fault or None, "rules": [dict(rule.fields) for rule in rules.rules]}
