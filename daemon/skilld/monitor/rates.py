"""How much each user may report: a bucket of events and one of bytes, refilled steadily. Pure but for its own state."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Rate", "RateTable"]

_MOST_USERS = 4096  # remembered at once; the fullest buckets are forgotten first, which changes nothing for them


@dataclass(frozen=True, slots=True)
class Rate:
    """What one user may report in a second, on average, and ten times that at once."""

    events_per_s: float
    bytes_per_s: float


@dataclass(slots=True)
class _Bucket:
    events: float
    bytes: float
    at_s: float


class RateTable:
    """What each user has left."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: dict[int, _Bucket] = {}

    def take(self, uid: int, events: float, size: int, now_s: float) -> float:
        """Take from the user's buckets; for how many seconds the user has to wait before the next batch is read."""
        rate = self._rate
        bucket = self._buckets.get(uid)
        if bucket is None:
            self._forget()
            bucket = self._buckets[uid] = _Bucket(rate.events_per_s * 10, rate.bytes_per_s * 10, now_s)
        passed_s = max(0.0, now_s - bucket.at_s)
        bucket.events = min(rate.events_per_s * 10, bucket.events + passed_s * rate.events_per_s) - events
        bucket.bytes = min(rate.bytes_per_s * 10, bucket.bytes + passed_s * rate.bytes_per_s) - size
        bucket.at_s = now_s
        return max(0.0, -bucket.events / rate.events_per_s, -bucket.bytes / rate.bytes_per_s)

    def admit(self, uid: int, events: int, size: int, now_s: float) -> float:
        """Take from the user's buckets what is in them; else take nothing, and say for how many seconds to stay away.

        Who reports more at once than ever is in them has to wait until they are full, and may then.
        """
        lacks_s = self.lacks_s(uid, events, size, now_s)
        if not lacks_s:
            self.take(uid, events, size, now_s)
        return lacks_s

    def lacks_s(self, uid: int, events: int, size: int, now_s: float) -> float:
        """What `admit` would say; takes nothing."""
        self.take(uid, 0, 0, now_s)
        bucket, rate = self._buckets[uid], self._rate
        return max(
            0.0,
            (min(events, rate.events_per_s * 10) - bucket.events) / rate.events_per_s,
            (min(size, rate.bytes_per_s * 10) - bucket.bytes) / rate.bytes_per_s,
        )

    def _forget(self) -> None:
        if len(self._buckets) >= _MOST_USERS:
            del self._buckets[max(self._buckets, key=self._seconds_left)]

    def _seconds_left(self, uid: int) -> float:
        """Of reporting at the rate."""
        bucket = self._buckets[uid]
        return min(bucket.events / self._rate.events_per_s, bucket.bytes / self._rate.bytes_per_s)
