"""Which rules are worth trying on a text, by what it has of what they begin with.

A text is taken apart into its words once, in C, and its different words are held against those that rules wait for;
what is only a part of a word is looked for in the different words, and what is no word in the text itself. Rules that
need what is not there are left out, and only the words that the others begin with are looked up in the text.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from skilld_monitor.scanning.folding import Folded
    from skilld_monitor.scanning.rules import Rule

__all__ = ["Plan"]

_WORD = re.compile(r"[a-z0-9]+")
_IN_WORDS = b"0123456789abcdefghijklmnopqrstuvwxyz"
_SEPARATED = bytes(code if code in _IN_WORDS else ord(" ") for code in range(256))
_NO_SIGNS = bytes(code for code in range(128) if chr(code).isalnum() or chr(code).isspace())
_BEGINNING = re.compile(r"([a-z0-9]+)\*\Z")


class Plan:
    """The rules for texts that go one way."""

    def __init__(self, rules: Iterable[Rule], direction: str) -> None:
        self._rules = [rule for rule in rules if direction in rule.directions and rule.kind != "key"]
        literals = {literal for rule in self._rules for literal in (*rule.starts, *rule.needs)}
        self._words = {literal: f" {literal} " for literal in literals if _WORD.fullmatch(literal)}
        self._beginnings = {
            literal: f" {found.group(1)}" for literal in literals if (found := _BEGINNING.match(literal))
        }
        others = literals - self._words.keys() - self._beginnings.keys()
        self._parts = {literal: _Sought(literal.lstrip("*") or literal) for literal in others}
        self._always = [rule for rule in self._rules if not rule.starts and not rule.needs]
        self._needed = {literal for rule in self._rules for literal in rule.needs}
        self._by_literal: dict[str, list[Rule]] = {}
        for rule in self._rules:
            for literal in rule.starts or rule.needs:
                self._by_literal.setdefault(literal, []).append(rule)

    def candidates(self, folded: Folded, start: int, end: int) -> list[tuple[Rule, list[int]]]:
        """Rules that may fit somewhere between two positions of a folded text, each with the places to begin at, in
        order; for a rule that has no `starts` there are none."""
        lower = folded.lower
        text = _Text(lower if start == 0 and end == len(lower) else lower[start:end], folded.letters)
        tried: dict[Rule, list[int]] = {rule: [] for rule in self._always}
        places: dict[str, list[list[int]]] = {}  # by literal, those of the rules that begin with it
        known = self._known(text)
        in_vain: set[Rule] = set()
        for literal in known.intersection(self._by_literal):
            for rule in self._by_literal[literal]:
                if rule in in_vain:
                    continue
                if rule not in tried:
                    if rule.needs and known.isdisjoint(rule.needs):
                        in_vain.add(rule)
                        continue
                    tried[rule] = []
                if rule.starts:
                    places.setdefault(literal, []).append(tried[rule])
        self._fill(places, text, start)
        for own in tried.values():
            own.sort()
        return list(tried.items())

    def _known(self, text: _Text) -> set[str]:
        """The literals that the text has; those with which no rule begins whose needs it has may be left out."""
        known = text.different.intersection(self._words)
        known.update(literal for literal, begin in self._beginnings.items() if begin in text.vocabulary)
        known.update(literal for literal in self._parts.keys() & self._needed if self._parts[literal].is_in(text))
        for literal in self._parts.keys() - self._needed:
            rules = self._by_literal[literal]
            is_asked = any(not rule.needs or not known.isdisjoint(rule.needs) for rule in rules)
            if is_asked and self._parts[literal].is_in(text):
                known.add(literal)
        return known

    def _fill(self, places: dict[str, list[list[int]]], text: _Text, start: int) -> None:
        """Write down where the text has each literal: words in one pass, the others one by one."""
        words = places.keys() & self._words.keys()
        find, at = text.spaced.index, 0
        for word in filter(words.__contains__, text.words):
            at = find(self._words[word], at)  # the next one there is: this one
            for own in places[word]:
                own.append(start + at)
            at += len(word) + 1
        for literal in places.keys() - words:
            if literal in self._beginnings:
                found = _all_places(text.spaced, self._beginnings[literal], start)
            else:
                found = _all_places(text.text, self._parts[literal].literal, start)
            for own in places[literal]:
                own += found


class _Text:
    """A text, in small letters, and what it is made of."""

    __slots__ = ("different", "letters", "signs", "spaced", "text", "vocabulary", "words")

    def __init__(self, text: str, letters: frozenset[str]) -> None:
        plain = text.encode("ascii", "replace")  # other letters than those of ASCII end a word
        self.text = text
        self.letters = letters
        self.spaced = f" {plain.translate(_SEPARATED).decode()} "
        self.words = self.spaced.split()
        self.different = set(self.words)
        self.vocabulary = f" {' '.join(self.different)} "
        self.signs = plain.translate(None, _NO_SIGNS).decode()


class _Sought:
    """What is not a whole word, and how a text is asked for it: first that of it which is short."""

    __slots__ = ("_letters", "_signs", "is_part", "literal")

    def __init__(self, literal: str) -> None:
        self.literal = literal
        self.is_part = _WORD.fullmatch(literal) is not None
        self._letters = frozenset(letter for letter in literal if not letter.isascii())
        self._signs = literal.encode("ascii", "replace").translate(None, _NO_SIGNS).decode()

    def is_in(self, text: _Text) -> bool:
        """Whether the text has it anywhere. What is a part of a word stands in one of the different ones."""
        if self.is_part:
            return self.literal in text.vocabulary
        return self._letters <= text.letters and self._signs in text.signs and self.literal in text.text


def _all_places(text: str, wanted: str, start: int) -> list[int]:
    places: list[int] = []
    at = text.find(wanted)
    while at >= 0:
        places.append(start + at)
        at = text.find(wanted, at + 1)
    return places
