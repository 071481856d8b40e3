"""A bash no-op through the local backend, beside the bare subprocess, alternating in one run.

    python benchmarks/bash_noop.py [ROUNDS]

Prints medians and 95th percentiles, and the ratio of the medians. Reach: 2.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import trio

from skill_actors.backends import LocalOptions, ToolCall, ToolContext, WorkspaceSpec, open_local

_WARM_UP = 10
_PAUSE_S = 0.01
_REACH = 2.0


async def _timed_ms(action: Callable[[], Awaitable[object]]) -> float:
    await trio.sleep(_PAUSE_S)  # calls come one by one, with a model's thinking between them
    began = time.perf_counter()
    await action()
    return (time.perf_counter() - began) * 1000


async def _bare() -> None:
    await trio.run_process(["bash", "--noprofile", "--norc", "-c", ":"])


async def measure(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call, by way; the floor first."""
    local_ms: list[float] = []
    bare_ms: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with open_local(LocalOptions(path=os.environ.get("PATH", os.defpath))) as executor:
            workspace = await executor.open(WorkspaceSpec(session="bench", root=Path(folder)))
            context = ToolContext()

            async def local() -> None:
                result = await workspace.execute(
                    ToolCall(id="noop", name="bash_tool", input={"command": ":", "description": "nothing"}), context
                )
                assert result.outcome == "ok", result

            for number in range(_WARM_UP + rounds):
                pair = (await _timed_ms(local), await _timed_ms(_bare))
                if number >= _WARM_UP:
                    local_ms.append(pair[0])
                    bare_ms.append(pair[1])
    return {"bare subprocess": bare_ms, "local backend": local_ms}


def report(found: Mapping[str, Sequence[float]]) -> None:
    """Print the table; the first way is the floor."""
    floor_ms = statistics.median(next(iter(found.values())))
    print(f"{'bash no-op':16} {'p50 ms':>8} {'p95 ms':>8} {'ratio':>6}")
    for way, times_ms in found.items():
        p50_ms, p95_ms = statistics.median(times_ms), statistics.quantiles(times_ms, n=20)[-1]
        print(f"{way:16} {p50_ms:8.2f} {p95_ms:8.2f} {p50_ms / floor_ms:6.2f}")
    print(f"reach: a ratio of {_REACH:g}")


if __name__ == "__main__":
    report(trio.run(measure, int(sys.argv[1]) if len(sys.argv) > 1 else 300))
