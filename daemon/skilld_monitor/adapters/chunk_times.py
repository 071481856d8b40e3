"""How long the parts of a stream take, each from the end of the one before: counted as they come, told together."""

from __future__ import annotations

__all__ = ["ATTRIBUTE", "ChunkTimes"]

ATTRIBUTE = "skilld.time_per_output_chunk"
_STEP_NS = 10_000_000  # the buckets that OpenTelemetry asks for: up to 10 ms, 20 ms, 40 ms and so on, and above 81.92 s
_MOST_BUCKETS = 15


class ChunkTimes:
    """What every part costs is a subtraction and an addition; of one that takes long, also which power of two it is."""

    __slots__ = ("_began_ns", "_last_ns", "_long", "_short")

    def __init__(self, first_ns: int) -> None:
        self._began_ns = self._last_ns = first_ns
        self._short = 0
        self._long = [0] * 64

    def came(self, now_ns: int) -> None:
        """Another part has come."""
        took_ns = now_ns - self._last_ns
        self._last_ns = now_ns
        if took_ns <= _STEP_NS:
            self._short += 1
        else:
            self._long[((took_ns - 1) // _STEP_NS).bit_length()] += 1

    def said(self) -> dict[str, object] | None:
        """How many were in each bucket, as far as there are some, and how long all took; None of a single part."""
        counts = [self._short, *self._long[1 : _MOST_BUCKETS - 1], sum(self._long[_MOST_BUCKETS - 1 :])]
        last = max((place for place, count in enumerate(counts) if count), default=-1)
        if last < 0:
            return None
        return {"counts": counts[: last + 1], "sum_s": round((self._last_ns - self._began_ns) / 1e9, 6)}
