"""Runs the schedules: waits for what is due next, and gives the agents their messages.

Each message carries an idempotency key made of the schedule and the time it is for. So a daemon that dies between
the message and the note about it sends it once more after its restart, and the agent is given it once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import trio

from skill_actors.errors import Refused
from skill_actors.workshop.schedules.due import begin_at, dues, gone_on, set_back
from skill_actors.workshop.schedules.schedule import Missed, Progress, Schedule, stamp
from skill_actors.workshop.schedules.schedules import Schedules

__all__ = ["CastsToAgents", "Scheduler"]

_LOOK_S: Final = 30.0  # at the time of the day, which somebody may set, and which goes on while the machine sleeps
_AGAIN_S: Final = 5.0
_PASSING: Final = frozenset(
    {"draining", "storage_full", "internal"}
)  # refusals: what they keep from being done is done later

_log = logging.getLogger(__name__)


class CastsToAgents(Protocol):
    """Who gives agents their messages."""

    async def cast_due(self, owner_uid: int, agent: str, text: str, *, key: str, only_idle: bool) -> str | None:
        """The id of the turn; None if the agent is busy and gets messages only when it is idle.

        A second time with the same key gives the same turn. Raises Refused.
        """


class Scheduler:
    """The one that looks at the clock.

    Args:
        now: the time of the day, in UTC.

    """

    def __init__(
        self, schedules: Schedules, casts: CastsToAgents, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._schedules = schedules
        self._casts = casts
        self._now = now

    async def run(self) -> None:
        """Run what is due, for ever."""
        while True:
            pause_s = await self.run_due()
            with trio.move_on_after(pause_s):
                await self._schedules.wait_changed()

    async def run_due(self) -> float:
        """Run what is due now; for how many seconds there is nothing to do then."""
        again = False
        for schedule in self._schedules:
            try:
                await self._run_dues(schedule)
            except Refused as error:
                _log.warning("the schedule %s of user %d waits: %s", schedule.name, schedule.owner_uid, error)
                again = True
        now = self._now()
        times = [moment for schedule in self._schedules if (moment := begin_at(schedule)) is not None]
        # What waits for something to pass is due already, and holds up nobody else.
        left_s = min([(moment - now).total_seconds() for moment in times if not again or moment > now], default=_LOOK_S)
        return min(max(left_s, 0.0), _AGAIN_S if again else _LOOK_S)

    async def run_now(self, owner_uid: int, name: str, *, key: str) -> str:
        """Give the agent its message beside all times, which stay as they are; the id of the turn.

        Args:
            key: tells a repeated request from a second one.

        Raises:
            Refused: not_found, and what the agent raises.

        """
        schedule = self._schedules.get(owner_uid, name)
        turn = await self._cast(schedule, f"now/{key}", only_idle=False)
        assert turn is not None  # it may wait
        schedule = (
            self._schedules.find(owner_uid, name) or schedule
        )  # as it is by now: a time of its own may have come meanwhile
        if schedule.progress.last_turn == turn:
            return turn  # a repeated request
        progress = replace(
            schedule.progress, runs=schedule.progress.runs + 1, last_run=self._now(), last_turn=turn, last_error=None
        )
        await self._schedules.note(schedule, progress, "tick", {"turn": turn, "by": "hand"})
        return turn

    async def _run_dues(self, schedule: Schedule) -> None:
        """Do what is due of a schedule. Raises Refused if it is to be tried again."""
        nearer = set_back(schedule, self._now())
        if nearer is not None:
            _log.warning("the schedule %s of user %d: the clock was set back", schedule.name, schedule.owner_uid)
            await self._schedules.note(schedule, nearer, "enabled", {"why": "the clock was set back"})
            return
        moment = begin_at(schedule)
        if moment is None or moment > self._now():
            return
        found = dues(schedule, self._now())
        ran = _Ran(schedule.progress.miss("late", found.late), "missed", {"why": "late", "times": found.late})
        for due in found.run:
            ran = await self._run_one(schedule, ran.progress, due)
        await self._schedules.note(schedule, gone_on(schedule, ran.progress, found.following), ran.event, ran.data)

    async def _run_one(self, schedule: Schedule, progress: Progress, due: datetime) -> _Ran:
        """What became of one of its times. Raises Refused if it is to be tried again."""
        try:
            turn = await self._cast(schedule, stamp(due), only_idle=schedule.settings.when_busy == "skip")
        except Refused as error:
            if error.code in _PASSING:
                raise
            why: Missed = "busy" if error.code == "overloaded" else "failed"
            _log.warning("the schedule %s of user %d: %s", schedule.name, schedule.owner_uid, error)
            return _missed(progress, why, due, f"{error.code}: {error.message}")
        if turn is None:
            return _missed(progress, "busy", due, None)
        done = replace(progress, runs=progress.runs + 1, last_run=self._now(), last_turn=turn, last_error=None)
        return _Ran(done, "tick", {"turn": turn, "due": stamp(due), "runs": done.runs})

    async def _cast(self, schedule: Schedule, time: str, *, only_idle: bool) -> str | None:
        settings = schedule.settings
        return await self._casts.cast_due(
            schedule.owner_uid,
            settings.agent,
            settings.prompt,
            key=f"schedule/{schedule.name}/{stamp(schedule.made)}/{time}",
            only_idle=only_idle,
        )


@dataclass(frozen=True, slots=True)
class _Ran:
    """What became of a time, and the event that tells of it."""

    progress: Progress
    event: str
    data: dict[str, Any]


def _missed(progress: Progress, why: Missed, due: datetime, error: str | None) -> _Ran:
    left_out = replace(progress.miss(why), last_error=error)
    return _Ran(left_out, "missed", {"why": why, "due": stamp(due), "times": 1})
