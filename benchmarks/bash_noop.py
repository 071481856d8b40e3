"""A bash no-op through the local backend, with and without sandbox, beside the bare subprocess and bare bubblewrap.

    python benchmarks/bash_noop.py [ROUNDS]

Prints medians and 95th percentiles, and the ratio of the medians. Reach: 2 without a sandbox.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import trio

from skill_actors.backends import (
    BackendUnavailable,
    LocalOptions,
    ToolCall,
    ToolContext,
    Workspace,
    WorkspaceSpec,
    open_local,
)

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


async def _in_bubblewrap() -> None:
    everything = ("--ro-bind", "/", "/", "--unshare-all", "--proc", "/proc", "--dev", "/dev", "--die-with-parent")
    await trio.run_process(["bwrap", *everything, "bash", "--noprofile", "--norc", "-c", ":"])


async def _ways(stack: contextlib.AsyncExitStack, folder: Path) -> dict[str, Callable[[], Awaitable[object]]]:
    """What can be measured on this machine; the floor first."""
    ways: dict[str, Callable[[], Awaitable[object]]] = {"bare subprocess": _bare}
    for sandbox in ("none", "landlock", "bwrap"):
        options = LocalOptions(path=os.environ.get("PATH", os.defpath), sandbox=sandbox)
        try:
            executor = await stack.enter_async_context(open_local(options))
        except BackendUnavailable as error:
            print(f"not measured: {error}", file=sys.stderr)
            continue
        workspace = await executor.open(WorkspaceSpec(session="bench", root=folder / sandbox))
        ways["local backend" if sandbox == "none" else f"local, {sandbox}"] = partial(_noop, workspace)
        if sandbox == "bwrap":
            ways["bare bubblewrap"] = _in_bubblewrap
    return ways


async def _noop(workspace: Workspace) -> None:
    call = ToolCall(id="noop", name="bash_tool", input={"command": ":", "description": "nothing"})
    result = await workspace.execute(call, ToolContext())
    assert result.outcome == "ok", result


async def measure(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call, by way; the floor first."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        ways = await _ways(stack, Path(folder))
        found: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(_WARM_UP + rounds):
            for way, action in ways.items():
                taken_ms = await _timed_ms(action)
                if number >= _WARM_UP:
                    found[way].append(taken_ms)
        return found


def report(found: Mapping[str, Sequence[float]]) -> None:
    """Print the table; the first way is the floor."""
    floor_ms = statistics.median(next(iter(found.values())))
    print(f"{'bash no-op':16} {'p50 ms':>8} {'p95 ms':>8} {'ratio':>6}")
    for way, times_ms in found.items():
        p50_ms, p95_ms = statistics.median(times_ms), statistics.quantiles(times_ms, n=20)[-1]
        print(f"{way:16} {p50_ms:8.2f} {p95_ms:8.2f} {p50_ms / floor_ms:6.2f}")
    print(f"reach: a ratio of {_REACH:g} for the local backend")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int, nargs="?", default=300)
    report(trio.run(measure, parser.parse_args().rounds))
