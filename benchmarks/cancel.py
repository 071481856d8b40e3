"""From a cancel to the death of everything a tool had started: our backend and daemon beside a bare killpg, in one run.

The tool ignores SIGTERM and leaves a child in the background, a session of its own, and a double-forked daemon. Each
process is watched by a pidfd, so the moment of its death is known. Reach: all dead in less than 2 s, no survivor.

    python benchmarks/cancel.py [ROUNDS]
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio
from _daemon import daemon

from skill_actors.backends import LocalOptions, ToolCall, ToolContext, WorkspaceSpec, open_local

_REACH_S: Final = 2.0
_PROCESSES: Final = 4
_START_S: Final = 30.0

_TREE: Final = """\
trap '' TERM
note() { echo $1 >> PIDS; }
sleep 600 & note $!
setsid sh -c 'echo $$ >> PIDS; trap "" TERM; sleep 600 & wait' &
(setsid sh -c 'sh -c "echo \\$\\$ >> PIDS; exec sleep 600" &' &)
note $$
wait
"""


def wait_for_tree(pids: Path) -> list[int]:
    """Pidfds of all its processes, once they have said who they are."""
    deadline = time.monotonic() + _START_S
    while not pids.exists() or len(pids.read_text().split()) < _PROCESSES:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the tool did not start: {pids.read_text() if pids.exists() else 'no file'}")
        time.sleep(0.002)
    handles = [os.pidfd_open(int(pid)) for pid in pids.read_text().split()]
    pids.unlink()
    return handles


def wait_for_deaths(handles: list[int], began_s: float) -> float:
    """Milliseconds from `began_s` to the last death."""
    left = set(handles)
    while left:
        dead, _, _ = select.select(left, [], [], 10 * _REACH_S)
        if not dead:
            raise RuntimeError(f"{len(left)} processes outlived the cancel by {10 * _REACH_S:g} s")
        left -= set(dead)
    took_ms = (time.perf_counter() - began_s) * 1000
    for handle in handles:
        os.close(handle)
    return took_ms


def bare(folder: Path) -> float:
    """The floor: a plain process group of as many processes, killed at once."""
    pids = folder / "bare.pids"
    script = "\n".join([f"sleep 600 & echo $! >> {pids}"] * (_PROCESSES - 1) + [f"echo $$ >> {pids}; wait"])
    process = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    handles = wait_for_tree(pids)
    began_s = time.perf_counter()
    os.killpg(process.pid, signal.SIGKILL)
    took_ms = wait_for_deaths(handles, began_s)
    process.wait()
    return took_ms


async def by_backend(folder: Path, rounds: int) -> list[float]:
    """Cancel the task that waits for the local backend."""
    pids = folder / "backend.pids"
    times_ms: list[float] = []
    async with open_local(LocalOptions()) as executor:
        workspace = await executor.open(WorkspaceSpec(session="bench", root=folder / "workspace"))
        call = ToolCall(id="tree", name="bash_tool", input={"command": _TREE.replace("PIDS", str(pids))})
        for _ in range(rounds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(workspace.execute, call, ToolContext())
                handles = await trio.to_thread.run_sync(wait_for_tree, pids)
                began_s = time.perf_counter()
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    times_ms.append(await trio.to_thread.run_sync(wait_for_deaths, handles, began_s))
    return times_ms


def by_daemon(folder: Path, rounds: int) -> list[float]:
    """POST the cancel to a real skilld whose turn runs the tool."""
    pids = folder / "daemon.pids"
    scripts = folder / "skills" / "tree" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "tree.sh").write_text(_TREE.replace("PIDS", str(pids)))
    (scripts.parent / "SKILL.md").write_text("---\nname: tree\ndescription: Starts processes.\n---\n")
    times_ms: list[float] = []
    with daemon(folder) as client:
        session = str(client.create_session()["id"])
        for _ in range(rounds):
            client.send(session, "/tree")
            handles = wait_for_tree(pids)
            began_s = time.perf_counter()
            client.cancel(session)
            times_ms.append(wait_for_deaths(handles, began_s))
    return times_ms


def measure(rounds: int) -> dict[str, list[float]]:
    """Milliseconds from cancel to the last death, by way; the floor first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backend: Callable[[Path, int], Awaitable[list[float]]] = by_backend
        return {
            "bare killpg": [bare(folder) for _ in range(rounds)],
            "local backend": trio.run(backend, folder, rounds),
            "skilld": by_daemon(folder, rounds),
        }


def main(rounds: int) -> None:
    """Print the table."""
    found = measure(rounds)
    floor_ms = statistics.median(found["bare killpg"])
    print(f"{'cancel to dead':16} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'ratio':>6}")
    for way, times_ms in found.items():
        ordered = sorted(times_ms)
        p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        print(f"{way:16} {p50:8.2f} {p99:8.2f} {ordered[-1]:8.2f} {p50 / floor_ms:6.2f}")
    print(f"reach: less than {_REACH_S:g} s, no survivor (a survivor ends the run with an error)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int, nargs="?", default=50)
    main(parser.parse_args().rounds)
