"""A hundred conversations beside five whose tools spin, block in C, leak, print a gigabyte and ignore SIGTERM.

A real daemon, a model API in a process of its own, and 100 conversations that each send a message every few seconds.
Phases alone and beside the offenders take turns, so that the noise of the machine hits both; the offences are committed
over and over while a phase lasts. Reach: added p99 of a turn < 50 ms, p99 of GET /v1/health/live < 20 ms.

    python benchmarks/neighbours.py [--rounds N] [--seconds S] [--each]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from e2e.neighbour_kit import NEIGHBOURS, OFFENCES, Neighbourhood, Seen, neighbourhood, p50_ms, p99_ms

PACE_S = 4.0
REACH_ADDED_MS = 50.0
REACH_LIVE_MS = 20.0


def ways(each: bool) -> dict[str, Sequence[str]]:
    """What is committed in each kind of phase."""
    single: dict[str, Sequence[str]] = {f"beside {offence}": [offence] for offence in OFFENCES} if each else {}
    return {"alone": (), **single, "beside all": OFFENCES}


async def measure(socket: Path, rounds: int, seconds: float, each: bool) -> dict[str, Seen]:
    """What was seen, by way."""
    found = {way: Seen() for way in ways(each)}
    async with Neighbourhood.settled(socket) as town:
        for _ in range(rounds):
            for way, offences in ways(each).items():
                seen = await town.phase(seconds, pace_s=PACE_S, offences=offences)
                found[way].turns_s += seen.turns_s
                found[way].live_s += seen.live_s
                for offence, results in seen.offences.items():
                    found[way].offences.setdefault(offence, []).extend(results)
    return found


def report(found: dict[str, Seen]) -> None:
    """Print the table."""
    alone = found["alone"]
    titles = ("turns", "p50 ms", "p99 ms", "added p99", "live p50", "live p99", "kills")
    print(f"{NEIGHBOURS} conversations    {' '.join(f'{title:>9}' for title in titles)}")
    for way, seen in found.items():
        added_ms = p99_ms(seen.turns_s) - p99_ms(alone.turns_s)
        kills = sum(len(results) for results in seen.offences.values())
        figures = (p50_ms(seen.turns_s), p99_ms(seen.turns_s), added_ms, p50_ms(seen.live_s), p99_ms(seen.live_s))
        print(f"{way:20} {len(seen.turns_s):9d} {' '.join(f'{figure:9.1f}' for figure in figures)} {kills:9d}")
    print(f"reach: added p99 of a turn < {REACH_ADDED_MS:g} ms, p99 of live < {REACH_LIVE_MS:g} ms")


def main() -> None:
    """Run it in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    parser.add_argument("--each", action="store_true", help="also a phase for each offence alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, neighbourhood(Path(folder)) as daemon:
        report(trio.run(measure, daemon.socket, options.rounds, options.seconds, options.each))


if __name__ == "__main__":
    main()
