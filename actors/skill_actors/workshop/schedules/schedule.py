"""A schedule: a message to an agent, when it is due, and what became of it so far. Pure values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast, get_args

from skill_actors.workshop.schedules.rule import Rule, RuleFault

__all__ = ["CatchUp", "Missed", "Progress", "Schedule", "ScheduleSettings", "WhenBusy", "stamp", "time_of"]

CatchUp = Literal["skip", "once", "all"]
WhenBusy = Literal["skip", "queue"]

_RULE: Final = ("every_s", "cron", "timezone", "jitter_s")
_MAX_PROMPT_CHARS: Final = 200_000
_MAX_PROMPT_BYTES: Final = 900_000  # a document holds little more, and what became of the schedule goes into it too
_MAX_RUNS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSettings:
    """What somebody wants to happen, and when.

    Args:
        agent: its name; it need not exist yet, and a run without it fails.
        prompt: what it is told.
        catch_up: what becomes of times that passed while the daemon was away: none, one, or each of them.
        when_busy: a time at which the agent works or has messages waiting is left out ("skip"), or its message waits
            with them.
        max_runs: after so many it has ended.
        until: after this time, likewise.
        enabled: whether it runs at all.

    """

    agent: str
    prompt: str
    rule: Rule
    catch_up: CatchUp = "skip"
    when_busy: WhenBusy = "skip"
    max_runs: int | None = None
    until: datetime | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        if not self.prompt.strip() or len(self.prompt) > _MAX_PROMPT_CHARS:
            raise RuleFault(f"prompt has to be text of 1 to {_MAX_PROMPT_CHARS} characters")
        if (size := _size_bytes(self.prompt)) > _MAX_PROMPT_BYTES:
            raise RuleFault(f"prompt takes {size} bytes as JSON, and may take {_MAX_PROMPT_BYTES}")
        if self.catch_up not in get_args(CatchUp):
            raise RuleFault(f"catch_up is {self.catch_up!r:.40}, and may be {', '.join(get_args(CatchUp))}")
        if self.when_busy not in get_args(WhenBusy):
            raise RuleFault(f"when_busy is {self.when_busy!r:.40}, and may be {', '.join(get_args(WhenBusy))}")
        if self.max_runs is not None and not 0 < self.max_runs <= _MAX_RUNS:
            raise RuleFault(f"max_runs is {self.max_runs!r}, and may be 1 to {_MAX_RUNS}")

    def to_json(self) -> dict[str, Any]:
        """As it is stored and shown; what was not chosen is left out."""
        rule = {name: value for name in _RULE if (value := getattr(self.rule, name)) not in (None, 0.0)}
        if self.rule.cron is None:
            del rule["timezone"]
        return {
            "agent": self.agent,
            "prompt": self.prompt,
            **rule,
            "catch_up": self.catch_up,
            "when_busy": self.when_busy,
            "enabled": self.enabled,
            **({} if self.max_runs is None else {"max_runs": self.max_runs}),
            **({} if self.until is None else {"until": stamp(self.until)}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ScheduleSettings:
        """What `to_json` made, or a client's words of the same shape. Raises RuleFault."""
        until = data.get("until")
        return cls(
            agent=str(data["agent"]),
            prompt=str(data["prompt"]),
            rule=Rule(
                every_s=None if data.get("every_s") is None else float(data["every_s"]),
                cron=data.get("cron"),
                timezone=str(data.get("timezone") or "UTC"),
                jitter_s=float(data.get("jitter_s") or 0.0),
            ),
            catch_up=cast("CatchUp", data.get("catch_up", "skip")),
            when_busy=cast("WhenBusy", data.get("when_busy", "skip")),
            max_runs=data.get("max_runs"),
            until=None if until is None else time_of(until),
            enabled=bool(data.get("enabled", True)),
        )


Missed = Literal["busy", "late", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What became of a schedule so far.

    Args:
        next_due: None once it has ended.
        runs: messages that the agent was given.
        missed: times that were left out, by why: the agent was busy, the daemon was away, or it was refused.
        last_error: why the last time was refused; None if it was not.

    """

    next_due: datetime | None
    runs: int = 0
    missed: Mapping[Missed, int] = field(default_factory=dict)
    last_run: datetime | None = None
    last_turn: str | None = None
    last_error: str | None = None

    def miss(self, why: Missed, times: int = 1) -> Progress:
        """The same, with times that were left out."""
        if not times:
            return self
        return replace(self, missed={**self.missed, why: self.missed.get(why, 0) + times})

    def to_json(self) -> dict[str, Any]:
        return {
            "next_due": None if self.next_due is None else stamp(self.next_due),
            "runs": self.runs,
            "missed": dict(self.missed),
            "last_run": None if self.last_run is None else stamp(self.last_run),
            "last_turn": self.last_turn,
            "last_error": self.last_error,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Progress:
        """What `to_json` made."""
        due, last = data["next_due"], data["last_run"]
        return cls(
            next_due=None if due is None else time_of(due),
            runs=int(data["runs"]),
            missed={cast("Missed", why): int(times) for why, times in data["missed"].items()},
            last_run=None if last is None else time_of(last),
            last_turn=data["last_turn"],
            last_error=data["last_error"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule of one owner. `made`: what `every_s` counts from. `version`: of its document."""

    owner_uid: int
    name: str
    made: datetime
    settings: ScheduleSettings
    progress: Progress
    version: int = 0

    @property
    def key(self) -> str:
        """Of its document."""
        return f"{self.owner_uid}/{self.name}"

    def to_json(self) -> dict[str, Any]:
        """As it is stored, and shown."""
        return {"name": self.name, "made": stamp(self.made), **self.settings.to_json(), **self.progress.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, owner_uid: int, version: int) -> Schedule:
        """What `to_json` made."""
        return cls(
            owner_uid=owner_uid,
            name=str(data["name"]),
            made=time_of(data["made"]),
            settings=ScheduleSettings.from_json(data),
            progress=Progress.from_json(data),
            version=version,
        )


def _size_bytes(text: str) -> int:
    """As JSON. Raises RuleFault for what is no text."""
    try:
        return len(json.dumps(text, ensure_ascii=False).encode())
    except UnicodeEncodeError as error:
        raise RuleFault("prompt holds half a surrogate pair, which is no text") from error


def stamp(moment: datetime) -> str:
    """A time as it is stored: RFC 3339, in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def time_of(text: object) -> datetime:
    """A time of RFC 3339. Raises RuleFault."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise RuleFault(f"{text!r:.40} is no time such as 2026-11-22T18:00:00Z") from error
    if moment.tzinfo is None:
        raise RuleFault(f"{text!r:.40} says no time zone; end it with Z for UTC")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise RuleFault(f"{text!r:.40} is no time of UTC that there is") from error
