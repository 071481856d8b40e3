"""A bash no-op in a warm container, beside the SDK's exec and the docker CLI's; containers cold and from the pool;
output lost under processor load. One run, alternating, on the engine that DOCKER_HOST names or the machine's own.

    python benchmarks/containers.py [--rounds N] [--calls N] [--starts N]

Reach: a call <= 5 ms p50, a container from the pool < 20 ms, and no byte lost in 5,000 calls.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from skill_actors.backends import ToolCall, ToolContext, ToolResult, WorkspaceSpec
from skill_actors.backends.docker import DockerExecutor, DockerWorkspace, open_docker
from skill_actors.backends.docker_image import SLIM_IMAGE, connect, engine_address
from skill_actors.backends.docker_options import DockerOptions

_WARM_UP = 5
_PAUSE_S = 0.01  # calls come one by one, with a model's thinking between them
_TEXT = "0123456789abcdef" * 8
_COMMAND = f"echo {_TEXT}"


async def _bash(workspace: DockerWorkspace, command: str) -> ToolResult:
    return await workspace.execute(
        ToolCall(id="call", name="bash_tool", input={"command": command, "description": "nothing"}), ToolContext()
    )


async def _timed_ms(action: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await action()
    return (time.perf_counter() - began) * 1000


@contextlib.contextmanager
def _plain_container() -> Iterator[Any]:
    """What exec is done in: the same image, kept alive by a sleep."""
    client = connect(engine_address(os.environ), os.environ)
    container = client.containers.run(
        SLIM_IMAGE, ["sleep", "infinity"], detach=True, network_mode="none", init=True, stop_signal="SIGKILL"
    )
    try:
        yield container
    finally:
        container.remove(force=True)
        client.close()


async def warm(workspace: DockerWorkspace, container: Any, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a call, by way."""

    async def ours() -> None:
        assert (await _bash(workspace, ":")).outcome == "ok"

    async def view() -> None:
        call = ToolCall(id="call", name="view", input={"path": "file"})
        assert (await workspace.execute(call, ToolContext())).outcome == "ok"

    async def sdk() -> None:
        await trio.to_thread.run_sync(container.exec_run, ["bash", "--noprofile", "--norc", "-c", ":"])

    async def cli() -> None:
        await trio.run_process(["docker", "exec", container.id, "bash", "--noprofile", "--norc", "-c", ":"])

    async def bare() -> None:
        await trio.run_process(["bash", "--noprofile", "--norc", "-c", ":"])

    ways = {"bare subprocess": bare, "skilld: bash_tool": ours, "skilld: view": view, "SDK exec": sdk}
    if shutil.which("docker"):
        ways["docker exec (CLI)"] = cli
    await _bash(workspace, "echo x > file")
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(_WARM_UP + rounds):
        for way, action in ways.items():
            await trio.sleep(_PAUSE_S)
            took_ms = await _timed_ms(action)
            if number >= _WARM_UP:
                found[way].append(took_ms)
    return found


async def starts(executor: DockerExecutor, folder: Path, count: int, *, pooled: bool) -> list[float]:
    """Milliseconds from a conversation's first call to its answer."""
    found = []
    for number in range(count):
        while pooled and not executor.pool.ready:  # noqa: ASYNC110  # the engine makes it
            await trio.sleep(0.05)
        workspace = await executor.open(WorkspaceSpec(session="s", root=folder / f"{pooled}-{number}"))
        found.append(await _timed_ms(lambda workspace=workspace: _bash(workspace, ":")))  # type: ignore[misc]
        await workspace.aclose()
    return found


def _burn() -> None:
    while True:
        pass


@contextlib.contextmanager
def _load() -> Iterator[None]:
    """Twice as many busy processes as there are processors."""
    burners = [multiprocessing.Process(target=_burn, daemon=True) for _ in range(2 * (os.cpu_count() or 1))]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.join()


async def lost(workspace: DockerWorkspace, container: Any, calls: int, sdk_calls: int) -> dict[str, tuple[int, int]]:
    """Of how many calls under load how many did not give exactly their output, eight at a time."""
    wrong = {"skilld": 0, "SDK exec": 0}

    async def ours(number: int) -> None:
        wrong["skilld"] += (await _bash(workspace, f"{_COMMAND}{number}")).content != f"{_TEXT}{number}"

    async def sdk(number: int) -> None:
        done = await trio.to_thread.run_sync(container.exec_run, ["sh", "-c", f"{_COMMAND}{number}"])
        wrong["SDK exec"] += done.output != f"{_TEXT}{number}\n".encode()

    with _load():
        for action, count in ((ours, calls), (sdk, sdk_calls)):
            await _eight_at_a_time(action, count)
    return {"skilld": (calls, wrong["skilld"]), "SDK exec": (sdk_calls, wrong["SDK exec"])}


async def _eight_at_a_time(action: Callable[[int], Awaitable[None]], count: int) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await action(number)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(work)


async def at_once(workspace: DockerWorkspace, count: int) -> float:
    """Seconds for this many calls that all start together."""

    async def one() -> None:
        assert (await _bash(workspace, ":")).outcome == "ok"

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return time.perf_counter() - began


def table(title: str, found: Mapping[str, Sequence[float]]) -> None:
    print(f"\n{title:32} {'p50 ms':>8} {'p95 ms':>8}")
    for way, times_ms in found.items():
        p95_ms = statistics.quantiles(times_ms, n=20)[-1] if len(times_ms) > 1 else times_ms[0]
        print(f"{way:32} {statistics.median(times_ms):8.2f} {p95_ms:8.2f}")


async def main(rounds: int, calls: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as name, _plain_container() as container:
        folder = Path(name)
        options = DockerOptions(image=SLIM_IMAGE, pool=0, processes=1024)
        async with open_docker(options) as executor:
            workspace = await executor.open(WorkspaceSpec(session="bench", root=folder / "bench"))
            table("one call in a warm container", await warm(workspace, container, rounds))
            print(f"\n100 calls at once: {await at_once(workspace, 100):.2f} s")
            cold = await starts(executor, folder, count, pooled=False)
            print(f"\n{'calls under processor load':32} {'calls':>8} {'wrong':>8}")
            for way, (made, wrong) in (await lost(workspace, container, calls, max(1, calls // 10))).items():
                print(f"{way:32} {made:8} {wrong:8}")
        async with open_docker(DockerOptions(image=SLIM_IMAGE, pool=1)) as executor:
            pooled = await starts(executor, folder, count, pooled=True)
        run_ms = [_cli_run_ms() for _ in range(count)] if shutil.which("docker") else []
        found = {"skilld, from the pool": pooled, "skilld, cold": cold}
        table("first call of a conversation", found | ({"docker run --rm (CLI)": run_ms} if run_ms else {}))
    print("\nreach: a call <= 5 ms p50, from the pool < 20 ms, 0 wrong")


def _cli_run_ms() -> float:
    began = time.perf_counter()
    subprocess.run(["docker", "run", "--rm", "--network", "none", SLIM_IMAGE, "true"], check=True)
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--starts", type=int, default=10)
    chosen = parser.parse_args()
    trio.run(main, chosen.rounds, chosen.calls, chosen.starts)
