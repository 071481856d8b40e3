"""When to call a model again after a failure. Pure: the caller sleeps, counts and pays."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from skill_actors.models.base import ModelError

__all__ = ["CIRCUIT_OPEN", "RETRY", "RetryPolicy", "backoff", "patience"]

CIRCUIT_OPEN: Final = "circuit_open"  # the code of a ModelError: nothing was sent, since the endpoint is left alone
_AT_LEAST_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently.

    Args:
        max_attempts: calls in all, the first included.
        first_delay_s: wait after the first failure, doubled after each further one up to `max_delay_s`.
        max_circuit_wait_s: for how long in all one call waits for an endpoint that is left alone.
        max_retry_after_s: a server that asks for a longer wait than this is not waited for.

    """

    max_attempts: int = 4
    first_delay_s: float = 0.5
    max_delay_s: float = 8.0
    max_retry_after_s: float = 60.0
    max_circuit_wait_s: float = 30.0


RETRY: Final = RetryPolicy()


def backoff(attempt: int, error: ModelError, rng: Random, policy: RetryPolicy = RETRY) -> float | None:
    """Seconds to wait before the next call, or None if there must not be one.

    A retry starts the message anew: nothing of the failed call counts, also not blocks that were complete. A
    caller that has already shown text of it closes that text as incomplete first, since the new message may
    say something else; its tool calls must not have been started before MessageDone.
    The wait is the server's `retry_after_s` plus up to a tenth (so that many callers do not come back at the same
    instant), else exponential, less up to a quarter.

    Args:
        attempt: how many calls have failed so far; 1 after the first.

    """
    if not error.retryable or attempt >= policy.max_attempts:
        return None
    if error.retry_after_s is not None:
        if error.retry_after_s > policy.max_retry_after_s:
            return None
        return error.retry_after_s * (1 + 0.1 * rng.random())
    delay_s = min(policy.first_delay_s * 2.0 ** (attempt - 1), policy.max_delay_s)
    return delay_s * (1 - 0.25 * rng.random())


def patience(waited_s: float, error: ModelError, rng: Random, policy: RetryPolicy = RETRY) -> float | None:
    """Seconds to wait until an endpoint that is left alone may be called again, or None if that is too long.

    It is no attempt: nothing was sent. Whoever waits holds its place, so that a queue of messages is not emptied into
    failures within a moment.

    Args:
        waited_s: for how long this call has waited so.

    """
    wait_s = max(_AT_LEAST_S, error.retry_after_s or 0.0)
    return None if waited_s + wait_s > policy.max_circuit_wait_s else wait_s * (1 + 0.1 * rng.random())
