"""When to leave a model's endpoint alone for a while. Pure: the caller calls, and tells what came of it.

    CLOSED      calls go through. `failures` in a row     -> OPEN
    OPEN        calls are refused, until the time is over -> HALF_OPEN, with the next call
    HALF_OPEN   one call goes through, the others are refused
                it is answered                            -> CLOSED, and one more failure opens it again
                it fails                                  -> OPEN, for twice as long as before
                it is given up by its caller              -> HALF_OPEN, and the next call goes through

A call that began before the circuit was opened, and ends later, says nothing about the endpoint of now.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["BREAKER", "Breaker", "BreakerPolicy", "CircuitState", "Permit"]

_PROBE_POLL_S: Final = 1.0  # how soon to ask again while another call tries the endpoint


class CircuitState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """How soon a circuit is opened, and for how long.

    Args:
        failures: in a row, of all callers together; at least 1.
        open_s: the first time, in seconds; doubled up to `max_open_s` while nothing is answered in between.

    """

    failures: int = 5
    open_s: float = 5.0
    max_open_s: float = 60.0


BREAKER: Final = BreakerPolicy()


@dataclass(frozen=True, slots=True)
class Permit:
    """A call may begin. To be given back with what came of it, once."""

    generation: int


class Breaker:
    """The circuit of one endpoint. Times are seconds on the caller's clock."""

    def __init__(self, policy: BreakerPolicy = BREAKER) -> None:
        self._policy = policy
        self._generation = 0  # how often it was opened
        self._openings = 0  # since something was answered
        self._until_s = 0.0
        self.state = CircuitState.CLOSED
        self.failures = 0

    def begin(self, now_s: float) -> Permit | float:
        """Leave to call, or the seconds after which to ask again."""
        match self.state:
            case CircuitState.OPEN if now_s < self._until_s:
                return self._until_s - now_s
            case CircuitState.HALF_OPEN:
                return _PROBE_POLL_S
            case CircuitState.OPEN:
                self.state = CircuitState.HALF_OPEN
            case _:
                pass
        return Permit(self._generation)

    def retry_in_s(self, now_s: float) -> float:
        """Seconds for which calls are refused; 0 where they are not."""
        return max(0.0, self._until_s - now_s) if self.state is CircuitState.OPEN else 0.0

    def answered(self, permit: Permit) -> None:
        """The endpoint began to answer."""
        if permit.generation == self._generation and self.state is CircuitState.HALF_OPEN:
            self.state = CircuitState.CLOSED
            self.failures = self._policy.failures - 1

    def succeeded(self, permit: Permit) -> None:
        """It answered to the end, or refused in a way that shows it alive."""
        if permit.generation == self._generation:
            self.state = CircuitState.CLOSED
            self.failures = self._openings = 0

    def failed(self, permit: Permit, now_s: float, retry_after_s: float | None = None) -> None:
        """It did not answer as it should; `retry_after_s` is what it asked for, if it did."""
        if permit.generation != self._generation:
            return
        self.failures += 1
        if self.state is CircuitState.HALF_OPEN or self.failures >= self._policy.failures:
            self._open(now_s, retry_after_s or 0.0)

    def abandoned(self, permit: Permit) -> None:
        """Its caller gave up, by a cancel for instance: nothing was learnt."""
        if permit.generation == self._generation and self.state is CircuitState.HALF_OPEN:
            self.state = CircuitState.OPEN  # whose time is over
            self._until_s = 0.0

    def _open(self, now_s: float, asked_s: float) -> None:
        self.state = CircuitState.OPEN
        self._generation += 1
        open_s = min(self._policy.open_s * 2.0**self._openings, self._policy.max_open_s)
        self._until_s = now_s + max(open_s, min(asked_s, self._policy.max_open_s))
        self._openings = min(self._openings + 1, 32)
