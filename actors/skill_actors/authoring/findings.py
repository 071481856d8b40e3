"""What lint, audit and the packer have to say about a skill."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

__all__ = ["SEVERITIES", "Finding", "Lines", "Severity", "at_least", "in_order"]

Severity = Literal["high", "medium", "low", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("high", "medium", "low", "info")  # the worst first

_MAX_OF_A_KIND: Final = 20  # per file: a minified script would else fill the screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding. `code` is stable, `path` is relative to the skill's folder, `line` counts from 1.

    A message never repeats a credential, and quotes what does not show as escapes.
    """

    code: str
    severity: Severity
    message: str
    path: str = "SKILL.md"
    line: int | None = None
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As printed by `--json`."""
        return asdict(self)


class Lines:
    """The lines of a text, for whoever has an offset; asked often, so the text is searched once."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def of(self, offset: int) -> int:
        """The line of this place; the first is 1."""
        return bisect_right(self._starts, offset)


def at_least(severity: Severity, threshold: Severity) -> bool:
    """Whether a finding of `severity` is as bad as `threshold`, or worse."""
    return SEVERITIES.index(severity) <= SEVERITIES.index(threshold)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, then by file and line; of one kind in one file the first 20, the last of which says so."""
    ordered = sorted(set(findings), key=lambda f: (SEVERITIES.index(f.severity), f.path, f.line or 0, f.code))
    total = Counter((finding.path, finding.code) for finding in ordered)
    kept: list[Finding] = []
    seen: Counter[tuple[str, str]] = Counter()
    for finding in ordered:
        kind = (finding.path, finding.code)
        seen[kind] += 1
        if seen[kind] < _MAX_OF_A_KIND or total[kind] == _MAX_OF_A_KIND:
            kept.append(finding)
        elif seen[kind] == _MAX_OF_A_KIND:
            kept.append(_rest(finding, total[kind] - _MAX_OF_A_KIND + 1))
    return tuple(kept)


def _rest(finding: Finding, count: int) -> Finding:
    return Finding(
        code=finding.code,
        severity=finding.severity,
        message=f"{count} more of this kind, from here on: {finding.message}",
        path=finding.path,
        line=finding.line,
        remedy=finding.remedy,
    )
