"""When to call a model again after a failure. Pure: the caller sleeps, counts and pays."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from skill_actors.models.base import ModelError

__all__ = ["RETRY", "RetryPolicy", "backoff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently.

    Args:
        max_attempts: calls in all, the first included.
        first_delay_s: wait after the first failure, doubled after each further one up to `max_delay_s`.
        max_retry_after_s: a server that asks for a longer wait than this is not waited for.

    """

    max_attempts: int = 4
    first_delay_s: float = 0.5
    max_delay_s: float = 8.0
    max_retry_after_s: float = 60.0


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
