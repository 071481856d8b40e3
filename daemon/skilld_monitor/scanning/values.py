"""Plain JSON values, masked text by text: copied only where something changes, and of the same structure."""

from __future__ import annotations

from skilld_monitor.scanning.findings import Finding
from skilld_monitor.scanning.masking import MASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skilld_monitor.scanning.findings import Direction
    from skilld_monitor.scanning.rule_set import RuleSet

__all__ = ["masked_value"]

_CARDS = (10**14, 10**16)
_MAX_DEPTH = 100  # what is deeper is masked as a whole: nothing leaves unseen


def masked_value(rules: RuleSet, value: object, direction: Direction) -> tuple[object, list[Finding]]:
    """The value with every text masked, and every number that is a payment card, and what was found."""
    walk = _Walk(rules, direction)
    return walk.value(value, _MAX_DEPTH), walk.found


class _Walk:
    """Through one value."""

    def __init__(self, rules: RuleSet, direction: Direction) -> None:
        self._rules = rules
        self._direction = direction
        self.found: list[Finding] = []

    def value(self, value: object, depth: int) -> object:
        if isinstance(value, str):
            return self._text(value)
        if type(value) is int:
            return self._number(value)
        if depth <= 0:
            return MASK if isinstance(value, (dict, list, tuple)) else value
        if isinstance(value, dict):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple)):
            items = [self.value(item, depth - 1) for item in value]
            if all(item is before for item, before in zip(items, value)):
                return value
            return items if isinstance(value, list) else tuple(items)
        return value

    def _text(self, text: str) -> str:
        shown, found = self._rules.mask_text(text, self._direction)
        self.found += found
        return shown

    def _number(self, number: int) -> object:
        """One that may be a payment card; what is longer is rather somebody's identifier."""
        if not _CARDS[0] <= number < _CARDS[1]:
            return number
        digits = str(number)
        shown = self._text(digits)
        return number if shown is digits else shown

    def _mapping(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        shown: dict[Any, Any] = {}
        is_changed = False
        for key, item in value.items():
            name = self._text(key) if isinstance(key, str) else key
            if name is not key:
                name = _apart(name, value, shown)
            masked = self._field(key, item)
            shown[name] = self.value(item, depth - 1) if masked is None else masked
            is_changed = is_changed or name is not key or shown[name] is not item
        return shown if is_changed else value

    def _field(self, key: object, item: object) -> object:
        """The value of a field whose name says that it is a secret, masked; None if it does not. A number is one too,
        and so is each of several values, as forms and headers have them."""
        if not isinstance(key, str):
            return None
        if isinstance(item, (list, tuple)) and item and all(isinstance(one, str) for one in item):
            several = [self._field(key, one) for one in item]
            shown = [self._text(one) if masked is None else masked for one, masked in zip(item, several)]
            if all(masked is None for masked in several):
                return None
            return shown if isinstance(item, list) else tuple(shown)
        if isinstance(item, bool) or not isinstance(item, (str, int, float)):
            return None
        text = str(item)
        for rule in self._rules.keyed:
            if self._direction in rule.directions and rule.fits_key(key, text):
                finding = Finding(
                    rule.id, rule.category, rule.severity, rule.confidence, self._direction, 0, len(text), MASK
                )
                self.found.append(finding)
                return self._rules.mask_found(text, rule)
        return None


def _apart(name: str, before: dict[Any, Any], shown: dict[Any, Any]) -> str:
    """A name that no other field has."""
    number, tried = 2, name
    while tried in before or tried in shown:
        tried = f"{name} ({number})"
        number += 1
    return tried
