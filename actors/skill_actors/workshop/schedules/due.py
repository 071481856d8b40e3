"""What is to be done about a schedule now: which of its times are run, and which are left out. Pure.

The next time is stored, and counted from what the clock said then. A clock that was wrong far ahead has left times
there that nobody should wait for: so the next time is never much later than the first that lies ahead by now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from skill_actors.workshop.schedules.rule import offset_of
from skill_actors.workshop.schedules.schedule import Progress, Schedule

__all__ = ["GRACE", "Dues", "begin_at", "dues", "first_due", "gone_on", "set_back"]

GRACE: Final = timedelta(seconds=60)
"""Who comes so late to a time still comes in time."""

_MAX_CAUGHT_UP: Final = 100  # a schedule of every second, and a daemon that was away for a week
_MAX_STEPS: Final = 1_000
_CLOCK_SET_BACK: Final = timedelta(hours=1)  # by less than that it was put right, and times come again


@dataclass(frozen=True, slots=True, kw_only=True)
class Dues:
    """Times to run, oldest first; how many were left out; and the first that lies ahead, None if there is none."""

    run: Sequence[datetime]
    late: int
    following: datetime | None


def begin_at(schedule: Schedule) -> datetime | None:
    """When somebody has to look at it next; None if never."""
    due = schedule.progress.next_due
    if due is None or not schedule.settings.enabled:
        return None
    return due + offset_of(schedule.key, due, schedule.settings.rule.jitter_s)


def dues(schedule: Schedule, now: datetime) -> Dues:
    """Its times up to now."""
    passed: list[datetime] = []
    late = 0
    due = schedule.progress.next_due
    for _ in range(_MAX_STEPS):
        if due is None or due + offset_of(schedule.key, due, schedule.settings.rule.jitter_s) > now:
            break
        passed.append(due)
        if len(passed) > _MAX_CAUGHT_UP:
            passed.pop(0)
            late += 1
        due = _following(schedule, due)
    else:  # so many that they are not even counted: go on from now
        assert due is not None
        due = _following(schedule, now)
    run, missed = _chosen(schedule, passed, now)
    room = _room(schedule)
    if room is not None and len(run) > room:
        run, missed = run[:room], missed + len(run) - room
    return Dues(run=run, late=late + missed, following=due)


def first_due(schedule: Schedule, now: datetime) -> Progress:
    """The progress of one that was just made, changed or enabled again: its next time lies ahead."""
    due = _following(schedule, now)
    return gone_on(schedule, replace(schedule.progress, last_error=None), due)


def gone_on(schedule: Schedule, progress: Progress, following: datetime | None) -> Progress:
    """The progress with its next time, or as that of one that has ended where no run is left."""
    room = _room(replace(schedule, progress=progress))
    return replace(progress, next_due=None if room == 0 else following)


def set_back(schedule: Schedule, now: datetime) -> Progress | None:
    """The progress with a nearer next time, where the clock was set back since it was stored; None if it was not."""
    due = schedule.progress.next_due
    if due is None or not schedule.settings.enabled:
        return None
    following = _following(schedule, now)
    if following is None or due - following <= _CLOCK_SET_BACK:
        return None
    return replace(schedule.progress, next_due=following)


def _chosen(schedule: Schedule, passed: Sequence[datetime], now: datetime) -> tuple[Sequence[datetime], int]:
    """Which of the times that have passed are run; how many are not."""
    jitter = timedelta(seconds=schedule.settings.rule.jitter_s)
    match schedule.settings.catch_up:
        case "all":
            return passed, 0
        case "once":
            return passed[-1:], max(len(passed) - 1, 0)
        case "skip":
            # Only the last: a machine that was busy for a minute does not make up for every second of it.
            in_time = [due for due in passed[-1:] if now - due <= GRACE + jitter]
            return in_time, len(passed) - len(in_time)


def _room(schedule: Schedule) -> int | None:
    """How many runs are left; None if there is no end to them."""
    most = schedule.settings.max_runs
    return None if most is None else max(most - schedule.progress.runs, 0)


def _following(schedule: Schedule, moment: datetime) -> datetime | None:
    due = schedule.settings.rule.after(moment, anchor=schedule.made)
    until = schedule.settings.until
    return None if due is None or (until is not None and due > until) else due
