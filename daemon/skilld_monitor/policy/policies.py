"""A policy as the daemon says it or a file has it: which rules redact, which block, and what holds when in doubt."""

from __future__ import annotations

from skilld_monitor.scanning import RuleError, RuleSet, read_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from skilld_monitor.scanning.masking import Mask

__all__ = ["MODES", "Policy", "PolicyError"]

MODES = ("observe", "alert", "redact", "block")
_ACTIVE = ("redact", "block")


class PolicyError(ValueError):
    """A policy that cannot be used; the message names what is wrong."""


class Policy:
    """What applies to this program's calls.

    Args:
        said: `{"version", "mode", "fail", "dry_run", "rules", "modes"}`. Rules are those of `skilld_monitor.scanning`;
            `modes` has, by id of a rule, what it does, for those that do something else than the mode says.
        mask: the program's own way to mask, see `skilld_monitor.settings.Settings`.

    Raises:
        PolicyError: naming the field, or the rule and its field.

    """

    __slots__ = ("actions", "dry_run", "rules")

    def __init__(self, said: Mapping[str, object], mask: Mask | None = None) -> None:
        if not isinstance(said, dict):
            raise PolicyError(f"policy: expected an object, not {type(said).__name__}")
        if not isinstance(said.get("version", ""), str):
            raise PolicyError("policy: version: expected text")
        mode = _one_of(said, "mode", MODES, "observe")
        _one_of(said, "fail", ("open", "closed"), "open")  # the holder goes by it, whatever else is wrong
        dry_run = said.get("dry_run", False)
        if not isinstance(dry_run, bool):
            raise PolicyError("policy: dry_run: expected true or false")
        self.dry_run = dry_run
        rules = said.get("rules", [])
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            raise PolicyError("policy: rules: expected a list of objects")
        modes = said.get("modes", {})
        if not isinstance(modes, dict) or not all(mode in MODES for mode in modes.values()):
            raise PolicyError(f"policy: modes: expected one of {', '.join(MODES)} by id of a rule")
        wanted = {str(fields.get("id")): modes.get(str(fields.get("id")), mode) for fields in rules}
        self.actions = {rule: action for rule, action in wanted.items() if action in _ACTIVE}
        try:
            found = read_rules(fields for fields in rules if str(fields.get("id")) in self.actions)
        except RuleError as error:
            raise PolicyError(f"policy: {error}") from error
        self.rules: RuleSet = found if mask is None else found.with_custom(mask)


def _one_of(said: Mapping[str, object], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = said.get(name, default)
    if not isinstance(value, str) or value not in allowed:
        raise PolicyError(f"policy: {name}: {str(value)[:40]!r} is not allowed; there are {', '.join(allowed)}")
    return value
