"""What was found in a text, and where."""

from __future__ import annotations

__all__ = ["ALERTS", "CATEGORIES", "DIRECTIONS", "SEVERITIES", "Direction", "Finding", "OutOfTime"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Direction = Literal["input", "system", "tool_arguments", "tool_result", "output", "error", "event"]
else:
    Direction = str

CATEGORIES = ("sensitive_data", "dangerous_commands", "prompt_manipulation")
SEVERITIES = ("low", "medium", "high")
ALERTS = {"low": "suspicious", "medium": "suspicious", "high": "dangerous"}
DIRECTIONS: tuple[Direction, ...] = (
    "input",
    "system",
    "tool_arguments",
    "tool_result",
    "output",
    "error",
    "event",
)


class OutOfTime(Exception):
    """The deadline came before the text was looked at to its end."""


class Finding:
    """One place in a text that a rule fits.

    Args:
        rule: its id.
        category: sensitive_data, dangerous_commands or prompt_manipulation.
        severity: low, medium or high.
        confidence: from 0 to 1.
        direction: which way the text went, one of `DIRECTIONS`.
        start: where it begins in the text as it was, in characters.
        end: behind its last character.
        sample: what it says with some text around, masked; "" where nobody asked for it.

    """

    __slots__ = ("category", "confidence", "direction", "end", "rule", "sample", "severity", "start")

    def __init__(
        self,
        rule: str,
        category: str,
        severity: str,
        confidence: float,
        direction: Direction,
        start: int,
        end: int,
        sample: str = "",
    ) -> None:
        self.rule = rule
        self.category = category
        self.severity = severity
        self.confidence = confidence
        self.direction = direction
        self.start = start
        self.end = end
        self.sample = sample

    @property
    def alert(self) -> str:
        """`dangerous` for what is of high severity, else `suspicious`."""
        return ALERTS[self.severity]

    def with_sample(self, sample: str) -> Finding:
        """The same, with a sample."""
        return Finding(
            self.rule, self.category, self.severity, self.confidence, self.direction, self.start, self.end, sample
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Finding) and self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash(self._facts())

    def __repr__(self) -> str:
        return f"Finding({self.rule}, {self.severity}, {self.direction}, {self.start}-{self.end})"

    def _facts(self) -> tuple[object, ...]:
        return (self.rule, self.category, self.severity, self.confidence, self.direction, self.start, self.end)
