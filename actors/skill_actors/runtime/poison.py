"""Poison: whether a child that is made again on demand may be made again now. Pure; the clock is an argument.

Nobody counts the exits of TEMPORARY children, so whoever asks for them again asks here first:
- a first start is at once; after a death the next one waits, longer after each death in a row;
- `max_deaths` deaths within `period_s` and the id is poisoned: refused until the last of them is `period_s` old,
  and then forgiven everything;
- `survived` ends the row, so that the next start is at once; the deaths still count.
An id is remembered for `period_s` after its last death and no longer, with at most `max_deaths` times.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from skill_actors.runtime.spec import Backoff

__all__ = ["Admission", "Poison"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Whether an id may be started.

    Args:
        delay_s: seconds to wait before the start; 0 if it is poisoned.
        poisoned_until: when it is forgiven, on the clock that was passed in; None if it may be started.
        deaths: how often it died within the period.

    """

    delay_s: float = 0.0
    poisoned_until: float | None = None
    deaths: int = 0


_BACKOFF: Final = Backoff(initial_s=0.1, max_s=5.0)
_CLEAN: Final = Admission()


class _Row:
    """Deaths of one id, oldest first, and how many of them came without a success between."""

    __slots__ = ("in_a_row", "times")

    def __init__(self, max_deaths: int) -> None:
        self.times: deque[float] = deque(maxlen=max_deaths)
        self.in_a_row = 0


class Poison:
    """Counts deaths by id.

    Args:
        max_deaths: this many within the period poison an id.
        period_s: length of the sliding period, in seconds; also how long a poisoned id is refused.
        backoff: how long to wait after the first death, the second in a row, and so on; its `reset_s` is not used.

    Raises:
        ValueError: if `max_deaths` is below 1 or `period_s` not positive.

    """

    def __init__(self, *, max_deaths: int = 5, period_s: float = 60.0, backoff: Backoff = _BACKOFF) -> None:
        if max_deaths < 1 or not 0 < period_s < math.inf:
            raise ValueError(f"max_deaths must be >= 1 and period_s > 0 seconds, not {max_deaths} in {period_s}")
        self.max_deaths: Final = max_deaths
        self.period_s: Final = period_s
        self._backoff: Final = backoff
        self._rows: OrderedDict[str, _Row] = OrderedDict()  # by their last death, oldest first

    def __len__(self) -> int:
        """How many ids are remembered."""
        return len(self._rows)

    def admit(self, id: str, now: float) -> Admission:
        """Whether `id` may be started at `now` seconds. Asking changes nothing but what is too old to count."""
        self._forget_old(now)
        row = self._rows.get(id)
        if row is None:
            return _CLEAN
        last, deaths = row.times[-1], sum(time >= now - self.period_s for time in row.times)
        if self._is_poisoned(row):
            return Admission(poisoned_until=last + self.period_s, deaths=deaths)
        delay_s = self._backoff.delay_s(row.in_a_row - 1) if row.in_a_row else 0.0
        return Admission(delay_s=max(0.0, last + delay_s - now), deaths=deaths)

    def _is_poisoned(self, row: _Row) -> bool:
        """Whether its last deaths came within one period; older ones than the last `max_deaths` are not kept."""
        return len(row.times) == self.max_deaths and row.times[-1] - row.times[0] <= self.period_s

    def died(self, id: str, now: float) -> Admission:
        """Count a death at `now` seconds, not before any counted one; what `admit` now says."""
        self._forget_old(now)
        row = self._rows.get(id)
        if row is None:
            row = self._rows[id] = _Row(self.max_deaths)
        row.times.append(now)
        row.in_a_row += 1
        self._rows.move_to_end(id)
        return self.admit(id, now)

    def survived(self, id: str) -> None:
        """It has done what it was started for: the next start need not wait."""
        row = self._rows.get(id)
        if row is not None:
            row.in_a_row = 0

    def forget(self, id: str) -> bool:
        """Forgive everything; False if there was nothing."""
        return self._rows.pop(id, None) is not None

    def _forget_old(self, now: float) -> None:
        while self._rows:
            id, row = next(iter(self._rows.items()))
            if row.times[-1] + self.period_s > now:
                return
            del self._rows[id]
