"""The rules that come along, by what they look for."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.scanning.masking import Mask
    from skilld_monitor.scanning.rule_set import RuleSet

__all__ = ["builtin"]

_made: list[RuleSet] = []


def builtin(mask: Mask | None = None) -> RuleSet:
    """All of them, made when first asked for; masking in a way of the program's own, if it has one."""
    if not _made:
        from skilld_monitor.scanning.builtin.commands import COMMANDS
        from skilld_monitor.scanning.builtin.personal import PERSONAL
        from skilld_monitor.scanning.builtin.persuasion import PERSUASION
        from skilld_monitor.scanning.builtin.prompts import PROMPTS
        from skilld_monitor.scanning.builtin.secrets import SECRETS
        from skilld_monitor.scanning.builtin.services import SERVICES
        from skilld_monitor.scanning.rules import read_rules

        _made.append(read_rules([*SECRETS, *PERSONAL, *COMMANDS, *SERVICES, *PROMPTS, *PERSUASION]))
    return _made[0] if mask is None else _made[0].with_custom(mask)
