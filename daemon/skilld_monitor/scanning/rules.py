"""Rules as data: read and checked once, and written as the JSON that goes to clients."""

from __future__ import annotations

import re
import sys
import time
from importlib import import_module

from skilld_monitor.scanning.beginnings import Beginnings
from skilld_monitor.scanning.checks import CHECKS
from skilld_monitor.scanning.findings import CATEGORIES, DIRECTIONS, SEVERITIES, OutOfTime
from skilld_monitor.scanning.folding import fold
from skilld_monitor.scanning.masking import METHODS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from skilld_monitor.scanning.folding import Folded
    from skilld_monitor.scanning.rule_set import RuleSet

__all__ = ["KINDS", "Rule", "RuleError", "read_rules", "rules_as_json"]

KINDS = ("words", "pattern", "command", "key")
MAX_RULES = 2_000
_MAX_MATCH_CHARS = 20_000
_MAX_WORDS = 5_000
_MAX_DOUBLED = 100  # times that a repetition of a repetition may come to
_NEAR_CHARS = 60  # of the text before and behind a place, looked at for what excuses it
_LOOK_AT_CLOCK = 15  # places between two looks, less one
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}\Z")
_FIELDS = (
    *("id", "category", "severity", "confidence", "kind", "match", "starts", "needs", "check"),
    *("ignore_case", "directions", "mask", "unless", "description"),
)
_REQUIRED = ("id", "category", "severity", "kind", "match")


class RuleError(ValueError):
    """A rule that cannot be used; the message names it, the field and what is allowed."""

    def __init__(self, rule: object, field: str, message: str) -> None:
        super().__init__(f"rule {str(rule)[:100]!r}: {field}: {message}")
        self.rule = str(rule)[:100]
        self.field = field


class Rule:
    """One rule, checked.

    Args:
        fields: as in a rule file. `id`, `category`, `severity`, `kind` and `match` must be there.
            kind `words`: `match` is a list of words and phrases, found where they stand alone, in any case;
            `pattern`: a regular expression; `command`: one in small letters, found in any case;
            `key`: one for the name of a field, whose value is what is found.
            In expressions a group that has a name is the part that is found; with none, it is all of it.
            `starts`: with what a place begins; the expression is tried there alone, which is what makes it fast. A word
            of letters and digits stands for a whole one, `akia*` for the beginning of a longer one, `*word` for any
            part, and what has other characters for itself. `needs`: likewise; one of them the text must have anywhere.
            `check`: a further test of what was found, see `checks`. `unless`: expressions; what begins inside of what
            one of them fits, at most 60 characters before it, is no finding.
            `mask`: how it is masked; `none` to leave it.

    Raises:
        RuleError: naming the rule and the field.

    """

    __slots__ = (
        *(
            "beginnings",
            "category",
            "check",
            "confidence",
            "description",
            "directions",
            "fields",
            "id",
            "ignore_case",
            "kind",
        ),
        *("mask", "needs", "pattern", "severity", "starts", "unless"),
    )

    def __init__(self, fields: Mapping[str, object]) -> None:
        if not isinstance(fields, dict):
            raise RuleError("?", "rule", f"expected a table, not {type(fields).__name__}")
        name = fields.get("id", "?")
        for field in fields:
            if field not in _FIELDS:
                raise RuleError(name, str(field)[:40], f"there is no such field; there are {', '.join(_FIELDS)}")
        for field in _REQUIRED:
            if field not in fields:
                raise RuleError(name, field, "is missing")
        self.id = _text(name, "id", name)
        if not _ID.match(self.id):
            raise RuleError(name, "id", "expected small letters, digits, '.', '_' and '-', at most 100")
        self.fields = dict(fields)
        self.category = _one_of(name, "category", fields["category"], CATEGORIES)
        self.severity = _one_of(name, "severity", fields["severity"], SEVERITIES)
        self.kind = _one_of(name, "kind", fields["kind"], KINDS)
        self.confidence = _confidence(name, fields.get("confidence", 0.8))
        self.description = _text(name, "description", fields.get("description", ""))
        self.mask = _one_of(name, "mask", fields.get("mask", _usual_mask(self.category)), METHODS)
        self.check = CHECKS[_one_of(name, "check", fields.get("check", "none"), tuple(CHECKS))]
        self.directions: frozenset[str] = frozenset(
            _one_of(name, "directions", direction, DIRECTIONS)
            for direction in _texts(name, "directions", fields.get("directions", list(DIRECTIONS)))
        )
        self.ignore_case = fields.get("ignore_case", False) is True or self.kind in ("words", "command", "key")
        starts = _texts(name, "starts", fields.get("starts", []))
        if self.kind == "words":
            words = _texts(name, "match", fields["match"])
            self.pattern = _words_pattern(name, words)
            starts = [f"*{fold(word).lower.split()[0]}" for word in words]
        else:
            self.pattern = _compiled(name, "match", fields["match"])
        self.starts = _folded(starts)
        self.needs = _folded(_texts(name, "needs", fields.get("needs", [])))
        is_anywhere = not self.starts and not self.ignore_case
        self.beginnings = Beginnings(self.pattern) if is_anywhere else None
        self.unless = tuple(
            _compiled(name, "unless", text) for text in _texts(name, "unless", fields.get("unless", []))
        )

    def find(
        self, folded: Folded, start: int, end: int, places: Iterable[int], deadline: float | None = None
    ) -> Iterator[tuple[int, int]]:
        """The places of the folded text, between two positions, that the rule fits.

        Args:
            places: where the text has one of the rule's `starts`, in order; of no account where it has none.
            deadline: by `time.monotonic`; None for as long as it takes.

        Raises:
            OutOfTime: if the deadline comes first.

        """
        text = folded.lower if self.ignore_case else folded.plain
        known: Iterable[int] | None = places
        if not self.starts:
            known = None if self.beginnings is None else self.beginnings.places(folded, start, end)
        matches = self.pattern.finditer(text, start, end) if known is None else self._at(text, end, known, deadline)
        for match in matches:
            first, last = match.span(match.lastgroup) if match.lastgroup else match.span()
            length = self.check(folded.plain[first:last]) if last > first else 0
            if length and not (self.unless and self._is_excused(folded.lower, *match.span())):
                yield first, first + length

    def _at(self, text: str, end: int, places: Iterable[int], deadline: float | None) -> Iterator[re.Match[str]]:
        done = 0
        for number, at in enumerate(places):
            if at < done:
                continue
            if deadline is not None and not number & _LOOK_AT_CLOCK and time.monotonic() >= deadline:
                raise OutOfTime
            match = self.pattern.match(text, at, end)
            if match is not None:
                done = match.end()
                yield match

    def fits_key(self, key: str, value: str) -> bool:
        """Whether a field of that name and value is what a rule of the kind `key` looks for. A capital in the middle of
        the name begins a word."""
        name = _HUMP.sub("_", fold(key).plain).lower()
        return self.pattern.search(name) is not None and self.check(value) > 0

    def _is_excused(self, lower: str, start: int, end: int) -> bool:
        """Whether an expression of `unless` fits something that this is a part of: what merely stands near excuses
        nothing, or whoever writes the text could excuse anything."""
        before, behind = max(0, start - _NEAR_CHARS), end + _NEAR_CHARS
        return any(
            excuse.start() <= start and excuse.end() > start
            for unless in self.unless
            for excuse in unless.finditer(lower, before, behind)
        )


def read_rules(rules: Iterable[Mapping[str, object]]) -> RuleSet:
    """Rules as they stand in a file or come from the daemon.

    Raises:
        RuleError: naming the rule and the field that cannot be used, or the id that is there twice.

    """
    from skilld_monitor.scanning.rule_set import RuleSet

    found: dict[str, Rule] = {}
    for fields in rules:
        rule = Rule(fields)
        if rule.id in found:
            raise RuleError(rule.id, "id", "there are two rules of that name")
        found[rule.id] = rule
        if len(found) > MAX_RULES:
            raise RuleError(rule.id, "id", f"there are more than {MAX_RULES} rules")
    return RuleSet(found.values())


def rules_as_json(rules: RuleSet) -> list[dict[str, object]]:
    """As `read_rules` takes them."""
    return [dict(rule.fields) for rule in rules.rules]


def _usual_mask(category: str) -> str:
    return "full" if category == "sensitive_data" else "none"


def _text(rule: object, field: str, value: object) -> str:
    if not isinstance(value, str):
        raise RuleError(rule, field, f"expected text, not {type(value).__name__}")
    return value


def _texts(rule: object, field: str, value: object) -> list[str]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
        raise RuleError(rule, field, "expected a list of texts")
    if len(value) > _MAX_WORDS:
        raise RuleError(rule, field, f"more than {_MAX_WORDS} of them")
    return list(value)


def _one_of(rule: object, field: str, value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise RuleError(rule, field, f"{str(value)[:40]!r} is not allowed; there are {', '.join(allowed)}")
    return value


def _confidence(rule: object, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise RuleError(rule, "confidence", f"{str(value)[:40]!r} is not allowed; expected a number from 0 to 1")
    return float(value)


def _compiled(rule: object, field: str, value: object) -> re.Pattern[str]:
    text = _text(rule, field, value)
    if len(text) > _MAX_MATCH_CHARS:
        raise RuleError(rule, field, f"longer than {_MAX_MATCH_CHARS} characters")
    try:
        pattern = re.compile(fold(text).plain)
    except (re.error, RecursionError, OverflowError) as error:
        raise RuleError(rule, field, f"no regular expression: {error}") from error
    if _is_endless(text):
        raise RuleError(
            rule,
            field,
            "a repetition of a repetition: some texts would keep it busy for years; repeat once, with a bound",
        )
    if pattern.match("") is not None:
        raise RuleError(rule, field, "fits where there is nothing")
    return pattern


def _is_endless(text: str) -> bool:
    """Whether an unbounded repetition has another one in it, or one of many times is of nothing but another one: some
    texts would keep it busy for years."""
    parser: Any = import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")

    def has_unbounded(parts: object, inside: bool) -> bool:
        if isinstance(parts, (list, tuple, parser.SubPattern)):
            items = list(parts)
            if len(items) == 2 and str(items[0]) in ("MAX_REPEAT", "MIN_REPEAT"):
                _, most, inner = items[1]
                is_unbounded = most == parser.MAXREPEAT
                doubled = int(most) * _times(inner) > _MAX_DOUBLED
                return (inside and is_unbounded) or doubled or has_unbounded(inner, inside or is_unbounded)
            return any(has_unbounded(item, inside) for item in items)
        return False

    return has_unbounded(parser.parse(text), False)


def _times(parts: Any) -> int:
    """How often what is repeated repeats itself, where it is nothing but a repetition of varying length; else 0."""
    items = list(parts)
    if len(items) != 1:
        return 0
    name, said = str(items[0][0]), items[0][1]
    if name == "SUBPATTERN":
        return _times(said[-1])
    if name == "BRANCH":
        return max(_times(part) for part in said[1])
    return int(said[1]) if name in ("MAX_REPEAT", "MIN_REPEAT") and said[0] != said[1] else 0


def _words_pattern(rule: object, words: list[str]) -> re.Pattern[str]:
    if not words:
        raise RuleError(rule, "match", "no words")
    longest_first = sorted((fold(word).lower.split() for word in words), key=lambda parts: -len(" ".join(parts)))
    if not all(longest_first):
        raise RuleError(rule, "match", "a word has no letter that can be seen")
    phrases = "|".join(r"[\s_-]{1,4}".join(map(re.escape, parts)) for parts in longest_first)
    return re.compile(rf"(?<!\w)(?:{phrases})(?!\w)")


def _folded(literals: list[str]) -> tuple[str, ...]:
    return tuple(sorted({fold(literal).lower for literal in literals}))
