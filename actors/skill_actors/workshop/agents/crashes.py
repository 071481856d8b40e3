"""Agents whose program crashes: how long the next turn waits, when one is given up, which message is to blame. Pure.

A crash is a turn that failed since the program that performed it ended, or could not be understood, without having said
why; what it refuses in words (no credential, a cap, a limit) is none. The next turn resumes the conversation by its id,
after a pause that grows with each crash in a row. Too many within a period and the agent is given up: it stays crashed,
its queue waits, until somebody revives or resets it. A message under which the program has crashed twice is poison: it
is refused from then on, unless it is forced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from skill_actors.runtime.spec import Backoff

__all__ = ["CrashRecord", "CrashRules", "is_crash"]

_CODES: Final = frozenset({"agent_failed", "closed", "command_failed", "io", "protocol", "session_lost", "terminated"})
_MAX_PROMPTS: Final = 100  # that are remembered
_MAX_WHY: Final = 500


def is_crash(code: str | None) -> bool:
    """Whether a turn that failed with this code failed since its program crashed."""
    return code is not None and (code in _CODES or code.removeprefix("agent_") in _CODES)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashRules:
    """When enough is enough.

    Args:
        max_crashes: so many within `period_s` seconds and the agent is given up.
        max_per_prompt: crashes under the same message, after which it is refused.
        backoff: how long the next turn waits.

    """

    max_crashes: int = 5
    period_s: float = 600.0
    max_per_prompt: int = 2
    backoff: Backoff = field(default_factory=lambda: Backoff(initial_s=1.0, max_s=60.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashRecord:
    """The crashes of one agent.

    Args:
        times: of the latest ones, in seconds since 1970, oldest first.
        in_a_row: without a turn between that did not crash.
        prompts: how often under each message, by its digest.
        why: what the last one said; "" without one.

    """

    times: tuple[float, ...] = ()
    in_a_row: int = 0
    prompts: Mapping[str, int] = field(default_factory=dict)
    why: str = ""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """As `to_json` gives it."""
        return cls(
            times=tuple(stored.get("times", ())),
            in_a_row=int(stored.get("in_a_row", 0)),
            prompts=dict(stored.get("prompts", {})),
            why=str(stored.get("why", "")),
        )

    def to_json(self) -> dict[str, Any]:
        return {"times": list(self.times), "in_a_row": self.in_a_row, "prompts": dict(self.prompts), "why": self.why}

    def crashed(self, rules: CrashRules, now: float, digest: str, why: str) -> CrashRecord:
        """After one more, at `now`, under the message of this digest."""
        recent = (*(time for time in self.times if time > now - rules.period_s), now)[-rules.max_crashes :]
        prompts = {key: count for key, count in self.prompts.items() if key != digest}
        prompts[digest] = self.prompts.get(digest, 0) + 1
        kept = dict(list(prompts.items())[-_MAX_PROMPTS:])
        return CrashRecord(times=recent, in_a_row=self.in_a_row + 1, prompts=kept, why=why[:_MAX_WHY])

    def survived(self, digest: str) -> CrashRecord:
        """After a turn that did not crash, under the message of this digest."""
        prompts = {key: count for key, count in self.prompts.items() if key != digest}
        return replace(self, in_a_row=0, prompts=prompts)

    def gives_up(self, rules: CrashRules) -> bool:
        """Whether the agent is to be given up."""
        return len(self.times) >= rules.max_crashes and self.times[-1] - self.times[0] <= rules.period_s

    def rest_s(self, rules: CrashRules) -> float:
        """How long the next turn waits, in seconds, from the last crash on."""
        return rules.backoff.delay_s(self.in_a_row - 1) if self.in_a_row else 0.0

    def is_poison(self, rules: CrashRules, digest: str) -> bool:
        """Whether the message of this digest is refused."""
        return self.prompts.get(digest, 0) >= rules.max_per_prompt
