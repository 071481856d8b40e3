"""The one error that a policy raises into the program."""

from __future__ import annotations

__all__ = ["BlockedError"]


class BlockedError(ValueError):
    """A call was not made: a rule forbids it, or it could not be judged where that means no.

    `rule` and `category` say which rule; both are "" where none was found to fit. What was said is not in it.
    """

    def __init__(self, message: str, rule: str = "", category: str = "") -> None:
        super().__init__(message)
        self.rule = rule
        self.category = category

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.rule, self.category)
