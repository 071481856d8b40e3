"""Which rules are worth trying on a text, by what it has of what they begin with.

A text is taken apart into its words once, in C; each word is then one look into the set of those that rules wait for.
Only what is no word is looked for in the text itself.
"""

from __future__ import annotations

import re
from itertools import accumulate, compress, count

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
        self._beginnings = {literal: found.group(1) for literal in literals if (found := _BEGINNING.match(literal))}
        others = literals - self._words - self._beginnings.keys()
        self._parts = {literal: literal.lstrip("*") or literal for literal in others}
        self._ascii_parts = {literal: plain for literal, plain in self._parts.items() if plain.isascii()}
        self._always = [rule for rule in self._rules if not rule.starts and not rule.needs]
        self._by_literal: dict[str, list[Rule]] = {}
        for rule in self._rules:
            for literal in rule.starts or rule.needs:
                self._by_literal.setdefault(literal, []).append(rule)

    def candidates(self, text: str, start: int, end: int) -> list[tuple[Rule, list[int]]]:
        """Rules that may fit somewhere between two positions of a folded text, each with the places to begin at, in
        order; for a rule that begins anywhere there are none."""
        part = text if start == 0 and end == len(text) else text[start:end]
        known = self._places(part)
        found: dict[Rule, list[int]] = {rule: [] for rule in self._always}
        for literal, places in known.items():
            for rule in self._by_literal.get(literal, ()):
                found.setdefault(rule, []).extend(places)
        return [
            (rule, sorted(start + place for place in places) if rule.starts else [])
            for rule, places in found.items()
            if not rule.needs or not known.keys().isdisjoint(rule.needs)
        ]

    def _places(self, text: str) -> dict[str, list[int]]:
        """The literals that the text has, and where."""
        is_ascii = text.isascii()
        plain = text if is_ascii else text.encode("ascii", "replace").decode("ascii")  # other letters end a word
        spaced = f" {plain.translate(_SEPARATORS)}"
        words = spaced.split(" ")
        # A word's place is what stands before it: the words, and a space for each, but for the one that was put first.
        behind = zip(words, accumulate(map(len, words)), count(-1))
        known: dict[str, list[int]] = {}
        for word, letters, spaces in compress(behind, map(self._words.__contains__, words)):
            known.setdefault(word, []).append(letters - len(word) + spaces)
        for literal, beginning in self._beginnings.items():
            places = _all_places(spaced, f" {beginning}")
            if places:
                known[literal] = places
        for literal, part in (self._ascii_parts if is_ascii else self._parts).items():
            places = _all_places(text, part)
            if places:
                known[literal] = places
        return known


def _all_places(text: str, wanted: str) -> list[int]:
    places: list[int] = []
    at = text.find(wanted)
    while at >= 0:
        places.append(at)
        at = text.find(wanted, at + 1)
    return places
