"""The parts of a stream are counted by how long each took, in the buckets that OpenTelemetry asks for."""

from __future__ import annotations

import bisect
import random

import pytest

from skilld_monitor.adapters.chunk_times import ChunkTimes

BOUNDS_NS = [10_000_000 * 2**power for power in range(14)]


def told(*took_ns: int) -> dict[str, object] | None:
    times, now_ns = ChunkTimes(5), 5
    for part_ns in took_ns:
        now_ns += part_ns
        times.came(now_ns)
    return times.said()


@pytest.mark.parametrize(
    ("took_ns", "bucket"),
    [
        (0, 0),
        (1, 0),
        (10_000_000, 0),
        (10_000_001, 1),
        (20_000_000, 1),
        (20_000_001, 2),
        (81_920_000_000, 13),
        (81_920_000_001, 14),
        (10**15, 14),
    ],
)
def test_a_part_is_in_the_first_bucket_whose_bound_it_does_not_pass(took_ns: int, bucket: int) -> None:
    assert told(took_ns) == {"counts": [0] * bucket + [1], "sum_s": round(took_ns / 1e9, 6)}


def test_many_parts_are_each_in_their_own() -> None:
    draw = random.Random(7)
    parts = [int(10 ** draw.uniform(0, 12)) for _ in range(1000)]
    wanted = [0] * 15
    for part_ns in parts:
        wanted[bisect.bisect_left(BOUNDS_NS, part_ns)] += 1
    found = told(*parts)
    assert found == {"counts": wanted, "sum_s": round(sum(parts) / 1e9, 6)}


def test_of_a_single_part_there_is_nothing_to_tell() -> None:
    assert told() is None
