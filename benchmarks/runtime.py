"""The actor runtime beside a bare trio channel, pykka's ThreadingActor and the BEAM, in one run, interleaved.

    python benchmarks/runtime.py [--rounds N] [--actors N | --full] [--check]

Every sample runs in a process of its own (_runtime_samples.py, _runtime_beam.escript); medians are printed, with the
ratio to bare trio. pykka's actors are threads, so there are at most 500 of them: its spawn, stop and memory are scaled
from those. The BEAM is measured where `escript` is installed (Debian: erlang-base), its crash reports switched off.

What must hold is printed below the table; with --check the exit status is 1 if something of it does not.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
FULL: Final = 50_000

TITLES: Final = {
    "ours": "ours",
    "timeout": "ours, 5 s limit",
    "inline": "ours, inline",
    "bare": "bare trio",
    "threads": "pykka threads",
    "beam": "BEAM",
}
ROWS: Final = {
    "ask_p50_us": "ask p50, us",
    "ask_p99_us": "ask p99, us",
    "tell_per_s": "tells per second",
    "restart_p50_us": "crash to answer p50, us",
    "restart_p99_us": "crash to answer p99, us",
    "spawn_us": "spawn, us each",
    "stop_ms": "stop all, ms per 10,000",
    "idle_kb": "idle actor, KB",
}

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Claim:
    """That one figure is at most `limit` times another: (variant, row) of both."""

    text: str
    ours: tuple[str, str]
    other: tuple[str, str]
    limit: float = 1.0

    def ratio(self, medians: Mapping[str, Figures]) -> float | None:
        """None where one of the two was not measured."""
        mine, others = (medians.get(variant, {}).get(row) for variant, row in (self.ours, self.other))
        return None if mine is None or others is None else mine / others


CLAIMS: Final = (
    Claim("ask p50, without a limit: bare trio's", ("ours", "ask_p50_us"), ("bare", "ask_p50_us")),
    Claim("ask p50, within 5 s: bare trio's without", ("timeout", "ask_p50_us"), ("bare", "ask_p50_us")),
    Claim("inline ask p50: the BEAM's ask", ("inline", "ask_p50_us"), ("beam", "ask_p50_us")),
    Claim("crash to answer p50: pykka threads'", ("ours", "restart_p50_us"), ("threads", "restart_p50_us"), 0.6),
    Claim("idle actor: bare trio's task", ("ours", "idle_kb"), ("bare", "idle_kb")),
)


def command(variant: str, actors: int) -> list[str]:
    """What takes one sample."""
    if variant == "beam":
        return ["escript", str(FOLDER / "_runtime_beam.escript"), str(actors)]
    return [sys.executable, str(FOLDER / "_runtime_samples.py"), variant, str(actors)]


def sample(variant: str, actors: int) -> Figures:
    done = subprocess.run(command(variant, actors), stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(variants: Sequence[str], rounds: int, actors: int) -> dict[str, Figures]:
    """The median of every figure of every variant."""
    samples: dict[str, list[Figures]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in random.sample(variants, len(variants)):
            samples[variant].append(sample(variant, actors))
    return {
        variant: {row: statistics.median(one[row] for one in found) for row in found[0]}
        for variant, found in samples.items()
    }


def cell(medians: Mapping[str, Figures], variant: str, row: str) -> str:
    value = medians.get(variant, {}).get(row)
    return "-" if value is None else f"{value:,.1f} ({value / medians['bare'][row]:.2f}x)"


def print_table(medians: Mapping[str, Figures]) -> None:
    print(f"{'':24}" + "".join(f"{title:>22}" for title in TITLES.values()))
    for row, title in ROWS.items():
        print(f"{title:24}" + "".join(f"{cell(medians, variant, row):>22}" for variant in TITLES))


def print_claims(medians: Mapping[str, Figures]) -> bool:
    """Whether every claim that could be judged holds."""
    holds = True
    for claim in CLAIMS:
        ratio = claim.ratio(medians)
        if ratio is None:
            print(f"{claim.text:46} {'':>12}   not measured")
            continue
        verdict = "holds" if ratio <= claim.limit else "does not hold"
        holds = holds and ratio <= claim.limit
        print(f"{claim.text:46} {ratio:.2f}x of {claim.limit:.1f}x   {verdict}")
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--actors", type=int, default=10_000)
    parser.add_argument("--full", action="store_const", dest="actors", const=FULL, help=f"{FULL:,} actors")
    parser.add_argument("--check", action="store_true", help="exit with 1 if something does not hold")
    options = parser.parse_args()
    variants = [variant for variant in TITLES if variant != "beam" or shutil.which("escript")]
    medians = measure(variants, options.rounds, options.actors)
    print_table(medians)
    if "beam" not in medians:
        print("BEAM: escript is not installed")
    print()
    holds = print_claims(medians)
    return 1 if options.check and not holds else 0


if __name__ == "__main__":
    sys.exit(main())
