"""Which rules are worth trying on a text, by what it has of what they begin with.

A text is taken apart into its words once, in C; each word that a rule waits for is then one look into a set. Only what
is no word is looked for in the text itself.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from skilld_monitor.scanning.rules import Rule

__all__ = ["Plan"]

_WORD = re.compile(r"[a-z0-9]+")
_SEPARATORS = str.maketrans({chr(code): " " for code in range(128) if not (chr(code).isdigit() or chr(code).islower())})
_BEGINNING = re.compile(r"([a-z0-9]+)\*\Z")


class Plan:
    """The rules for texts that go one way."""

    def __init__(self, rules: Iterable[Rule], direction: str) -> None:
        self._rules = [rule for rule in rules if direction in rule.directions and rule.kind != "key"]
        literals = {literal for rule in self._rules for literal in (*rule.starts, *rule.needs)}
        self._words = frozenset(literal for literal in literals if _WORD.fullmatch(literal))
        beginnings = {literal: found.group(1) for literal in literals if (found := _BEGINNING.match(literal))}
        self._beginnings = {plain: literal for literal, plain in beginnings.items()}
        self._lengths = sorted(set(map(len, self._beginnings)))
        self._parts = {literal: literal.lstrip("*") or literal for literal in literals - self._words - set(beginnings)}
        self._ascii_parts = {literal: plain for literal, plain in self._parts.items() if plain.isascii()}
        self._plain = {**{word: word for word in self._words}, **beginnings, **self._parts}
        self._always = [rule for rule in self._rules if not rule.starts and not rule.needs]
        self._by_literal: dict[str, list[Rule]] = {}
        for rule in self._rules:
            for literal in rule.starts or rule.needs:
                self._by_literal.setdefault(literal, []).append(rule)

    def candidates(self, text: str, start: int, end: int) -> list[tuple[Rule, list[str]]]:
        """Rules that may fit somewhere between two positions of a folded text, each with what to begin at."""
        part = text if start == 0 and end == len(text) else text[start:end]
        there = self._there(part)
        found: dict[Rule, list[str]] = {rule: [] for rule in self._always}
        for literal in there:
            for rule in self._by_literal.get(literal, ()):
                found.setdefault(rule, []).append(self._plain[literal])
        return [(rule, starts) for rule, starts in found.items() if not rule.needs or not there.isdisjoint(rule.needs)]

    def _there(self, text: str) -> set[str]:
        """The literals that the text has."""
        is_ascii = text.isascii()
        plain = text if is_ascii else text.encode("ascii", "replace").decode("ascii")  # other letters end a word
        words = set(plain.translate(_SEPARATORS).split())
        there = set(self._words & words)
        for length in self._lengths:
            for beginning in self._beginnings.keys() & {word[:length] for word in words if len(word) > length}:
                there.add(self._beginnings[beginning])
        parts = self._ascii_parts if is_ascii else self._parts
        there.update(literal for literal, plain in parts.items() if plain in text)
        return there
