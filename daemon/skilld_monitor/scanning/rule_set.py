"""Rules together: they look at a text once, and at most at what they can fit.

A text is folded, its words are gathered, and only the rules whose words it has are tried. Texts that were seen are
remembered by a digest, so that a conversation that is sent again with each turn costs its newest part alone.
"""

from __future__ import annotations

import json
import time

from skilld_monitor.scanning.disguises import disguises
from skilld_monitor.scanning.findings import DIRECTIONS, SEVERITIES, Finding, OutOfTime
from skilld_monitor.scanning.folding import fold
from skilld_monitor.scanning.masking import MASK, InTime, masked
from skilld_monitor.scanning.plans import Plan
from skilld_monitor.scanning.values import masked_value

try:
    from _blake2 import blake2b  # Python's own: `hashlib` brings OpenSSL, 4 MB that each watched program would pay
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from skilld_monitor.scanning.findings import Direction
    from skilld_monitor.scanning.masking import Mask
    from skilld_monitor.scanning.rules import Rule

__all__ = ["RuleSet"]

WINDOW_CHARS = 64 << 10
OVERLAP_CHARS = 20 << 10  # longer than what any rule of ours fits
_MAX_SEEN = 8_192
_SHORT_CHARS = 64  # names of fields and the like, remembered as they are
_MAX_FINDINGS = 1_000  # in one text; what is beyond is masked all the same
_MAX_PASSES = 4
_SAMPLE_CHARS = 40  # before and behind what was found
_MAX_SAMPLE_CHARS = 200
_LEAST_CHARS = 4  # in less there is nothing to find


class RuleSet:
    """Rules that look at texts and plain JSON values. Safe to use from several threads.

    Args:
        rules: in the order in which they win over each other where they are otherwise alike.

    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._key = b""
        self._custom: InTime | None = None
        self._methods = {rule.id: rule.mask for rule in self.rules}
        self.version = _version(self.rules)
        self.keyed = tuple(rule for rule in self.rules if rule.kind == "key")
        self._plans = {direction: Plan(self.rules, direction) for direction in DIRECTIONS}
        self._seen: dict[bytes, tuple[Finding, ...]] = {}
        self._clean: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self.rules)

    def with_custom(self, custom: Mask, timeout_s: float = 0.1) -> RuleSet:
        """The same rules, masking as `custom` says.

        It gets the text that was found and the rule's id, and gives what stands there instead, or None to leave it to
        the rule. Where it fails the text is masked in full; where it takes longer than the time it may, too, and it is
        not asked again. What it gives is looked into: a secret in it is masked in full.
        """
        return self._changed(_custom=InTime(custom, timeout_s))

    def with_key(self, key: bytes) -> RuleSet:
        """The same rules, with a key for those that mask by `hash`."""
        return self._changed(_key=key)

    def _changed(self, **parts: object) -> RuleSet:
        """How it is masked changes nothing of what is found: plans and what was seen are shared."""
        made = object.__new__(RuleSet)
        made.__dict__.update(self.__dict__, **parts)
        return made

    def scan(self, text: str, direction: Direction = "event", *, deadline: float | None = None) -> list[Finding]:
        """What was found, in the order of the text. Where findings of one category overlap, the surest stands for them.

        Args:
            text: of any length; a long one is looked at in parts that overlap.
            direction: which way it goes; rules may be for some alone.
            deadline: by `time.monotonic`; None for as long as it takes.

        Raises:
            OutOfTime: if the deadline comes first.

        """
        if len(text) < _LEAST_CHARS:
            return []
        if len(text) <= _SHORT_CHARS:
            if (text, direction) in self._clean:
                return []
            found = self._look(text, direction, deadline)
            if not found:
                _remember(self._clean)
                self._clean.add((text, direction))
            return found
        raw = text.encode("utf-8", "surrogatepass")
        key = blake2b(raw, digest_size=16, person=direction.encode()).digest()
        known = self._seen.get(key)
        if known is None:
            known = tuple(self._look(text, direction, deadline))
            _remember(self._seen)
            self._seen[key] = known
        return list(known)

    def mask_text(self, text: str, direction: Direction = "event") -> tuple[str, list[Finding]]:
        """The text, masked, and what was found in it; each finding has a sample, masked too."""
        return self._masked(text, direction, everything=False)

    def redact_text(self, text: str, direction: Direction = "event") -> tuple[str, list[Finding]]:
        """As `mask_text`; what rules that do not mask have found is masked in full as well."""
        return self._masked(text, direction, everything=True)

    def mask(self, value: object, direction: Direction = "event") -> tuple[object, list[Finding]]:
        """A plain JSON value with every text in it masked, names of fields too, and what was found.

        What has nothing to mask is the same object; what has is a copy of the same structure. Where a name that is
        masked would fall together with another one it gets a number.
        """
        return masked_value(self, value, direction)

    def mask_found(self, text: str, rule: Rule) -> str:
        """A whole text that a rule found, masked by its method; what the program's own way gives is looked into."""
        shown = self._shown(text, rule.id, rule.mask)
        if self._custom is None:
            return shown
        return MASK if text in shown else self.redact_text(shown)[0]

    def _look(self, text: str, direction: Direction, deadline: float | None) -> list[Finding]:
        """What the text says, and what it says where something breaks its words up."""
        spans = self._spans(text, direction, deadline)
        hidden: list[tuple[int, int, Rule]] = []
        for disguise in disguises(text):
            for first, last, rule in self._spans(disguise.text, direction, deadline):
                place = disguise.original(first, last) if rule.category in disguise.categories else None
                if place is not None:
                    hidden.append((*place, rule))
        if hidden:
            spans = _distinct([*spans, *hidden])
        return [
            Finding(rule.id, rule.category, rule.severity, rule.confidence, direction, first, last)
            for first, last, rule in spans
        ]

    def _spans(self, text: str, direction: Direction, deadline: float | None) -> list[tuple[int, int, Rule]]:
        """Where which rule fits, in the order of the text, of those that overlap one."""
        folded = fold(text)
        spans: list[tuple[int, int, Rule]] = []
        plan = self._plans[direction]
        length = len(folded.lower)
        start = 0
        while True:
            end = min(length, start + WINDOW_CHARS)
            for rule, places in plan.candidates(folded, start, end):
                if deadline is not None and time.monotonic() >= deadline:
                    raise OutOfTime
                spans.extend((first, last, rule) for first, last in rule.find(folded, start, end, places, deadline))
            if end == length:
                break
            start = end - OVERLAP_CHARS
        return [(*folded.original(first, last), rule) for first, last, rule in _distinct(spans)]

    def _masked(self, text: str, direction: Direction, *, everything: bool) -> tuple[str, list[Finding]]:
        """What is masked is looked at again: a rule that lost to another one may find what the other one left."""
        found = self.scan(text, direction)
        if not found:
            return text, found
        masks = self._masks(found, everything=everything)
        samples = [self._with_sample(finding, text, found) for finding in found[:_MAX_FINDINGS]]
        shown = text
        for number in range(_MAX_PASSES):
            if not masks:
                break
            shown = self._replaced(shown, masks, in_full=number == _MAX_PASSES - 1)
            masks = self._masks(self._look(shown, direction, None), everything=everything)
        return shown, samples

    def _masks(self, found: list[Finding], *, everything: bool) -> list[tuple[int, int, str]]:
        """Where to mask, and the rule by which; what overlaps is one place, by none."""
        merged: list[tuple[int, int, str]] = []
        for finding in sorted(found, key=lambda finding: (finding.start, finding.end)):
            if self._methods[finding.rule] == "none" and not everything:
                continue
            if merged and finding.start < merged[-1][1]:
                start, end, _ = merged[-1]
                merged[-1] = (start, max(end, finding.end), "")
            else:
                merged.append((finding.start, finding.end, finding.rule))
        return merged

    def _replaced(self, text: str, masks: list[tuple[int, int, str]], *, in_full: bool) -> str:
        parts: list[str] = []
        done = 0
        for start, end, rule in masks:
            shown = MASK if in_full else self._shown(text[start:end], rule, self._methods.get(rule, "full"))
            parts += text[done:start], shown
            done = end
        return "".join([*parts, text[done:]])

    def _shown(self, text: str, rule: str, method: str) -> str:
        if self._custom is not None and rule:
            try:
                own = self._custom(text, rule)
            except Exception:  # the secret is not to pass because of a mistake in what should hide it
                return MASK
            if own is not None:
                return own
        return masked(text, method, self._key)

    def _with_sample(self, finding: Finding, text: str, found: list[Finding]) -> Finding:
        """With what stands around it, in which all that is secret is masked in full, whatever the rules say."""
        first, last = max(0, finding.start - _SAMPLE_CHARS), min(len(text), finding.end + _SAMPLE_CHARS)
        parts: list[str] = []
        done = first
        for start, end, _ in self._masks(found, everything=False):
            if end > first and start < last:
                parts += text[done : max(done, start)], MASK
                done = end
        parts.append(text[done : max(done, last)])
        return finding.with_sample("".join(parts)[:_MAX_SAMPLE_CHARS])


def _remember(seen: dict[bytes, tuple[Finding, ...]] | set[tuple[str, str]]) -> None:
    """Make room: what is still said will soon be there again."""
    if len(seen) >= _MAX_SEEN:
        seen.clear()


def _version(rules: tuple[Rule, ...]) -> str:
    text = json.dumps([rule.fields for rule in rules], sort_keys=True, ensure_ascii=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _rank(rule: Rule) -> tuple[int, float]:
    return SEVERITIES.index(rule.severity), rule.confidence


def _distinct(spans: list[tuple[int, int, Rule]]) -> list[tuple[int, int, Rule]]:
    """In the order of the text. Of those of one category that overlap, the gravest and surest stays, for all of it."""
    last: dict[str, tuple[int, int, Rule]] = {}
    merged: list[tuple[int, int, Rule]] = []
    for start, end, rule in sorted(spans, key=lambda span: (span[0], -span[1])):
        before = last.get(rule.category)
        if before is not None and start < before[1]:
            winner = rule if _rank(rule) > _rank(before[2]) else before[2]
            last[rule.category] = (before[0], max(before[1], end), winner)
            continue
        if before is not None:
            merged.append(before)
        last[rule.category] = (start, end, rule)
    return sorted([*merged, *last.values()], key=lambda span: span[:2])
