"""When a schedule is due: every so many seconds, or by a cron expression. Pure functions of times in UTC."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

__all__ = ["MAX_EVERY_S", "MIN_EVERY_S", "Rule", "RuleFault", "offset_of"]

MIN_EVERY_S: Final = 1.0
MAX_EVERY_S: Final = 366 * 86_400.0
_MAX_CRON_CHARS: Final = 200
_FIELDS: Final = 5  # minute, hour, day of the month, month, day of the week


class RuleFault(ValueError):
    """No rule. The message names the value and what it has to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One of `every_s` and `cron`.

    Args:
        every_s: seconds between two times; the first is so long after the schedule was made.
        cron: five fields, as Debian's cron reads them.
        timezone: of the expression, by its IANA name. A time that a change of the clock leaves out comes right after
            the change, one that it repeats comes once.
        jitter_s: each run begins up to so many seconds late, by a share of that which is always the same for one time.

    Raises:
        RuleFault: naming the value.

    """

    every_s: float | None = None
    cron: str | None = None
    timezone: str = "UTC"
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        if (self.every_s is None) == (self.cron is None):
            raise RuleFault("a schedule needs one of every_s and cron")
        if self.every_s is not None and not MIN_EVERY_S <= self.every_s <= MAX_EVERY_S:
            raise RuleFault(f"every_s is {self.every_s!r}, and may be {MIN_EVERY_S:g} to {MAX_EVERY_S:g} seconds")
        if not 0 <= self.jitter_s <= MAX_EVERY_S:
            raise RuleFault(f"jitter_s is {self.jitter_s!r}, and may be 0 to {MAX_EVERY_S:g} seconds")
        if self.cron is not None:
            _check_cron(self.cron)
            if self.after(datetime.now(UTC), anchor=datetime.now(UTC)) is None:
                raise RuleFault(f"cron {self.cron!r} is never due within 50 years")
        elif self.timezone != "UTC":
            raise RuleFault("timezone is for cron; every_s counts seconds, wherever")

    def after(self, moment: datetime, *, anchor: datetime) -> datetime | None:
        """The first time after this one; None if there is none within 50 years.

        Args:
            anchor: when the schedule was made: what `every_s` counts from.

        """
        if self.every_s is None:
            assert self.cron is not None
            following = next(CronSim(self.cron, moment.astimezone(zone_of(self.timezone))), None)
            return None if following is None else following.astimezone(UTC)
        step = timedelta(seconds=self.every_s)
        passed = (moment - anchor) // step  # negative where the clock was set back behind the anchor
        return anchor + (passed + 1) * step


def offset_of(schedule: str, due: datetime, jitter_s: float) -> timedelta:
    """How late the run of this time begins: the same whoever asks, and after a restart too."""
    if not jitter_s:
        return timedelta()
    digest = hashlib.sha256(f"{schedule} {due.isoformat()}".encode()).digest()
    return timedelta(seconds=jitter_s * int.from_bytes(digest[:8], "big") / 2**64)


def zone_of(name: str) -> ZoneInfo:
    """The time zone of this IANA name. Raises RuleFault."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        words = f"timezone {name!r:.60} is not known here; use a name such as Europe/Berlin"
        raise RuleFault(words) from error


def _check_cron(expression: str) -> None:
    if len(expression) > _MAX_CRON_CHARS or len(expression.split()) != _FIELDS:
        raise RuleFault(f"cron {expression!r:.80} has to have {_FIELDS} fields: minute hour day month weekday")
    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as error:
        raise RuleFault(f"cron {expression!r}: {error}") from error
