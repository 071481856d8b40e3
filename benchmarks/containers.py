"""What a tool call costs where it runs: on the host, in a sandbox, in a warm container, in a native skill.

A bash no-op beside the bare subprocess, bare bubblewrap, the SDK's exec and the docker CLI's; a native skill's call
beside the function; 100 calls at once; a conversation's first call, its container made then or waiting in the pool;
output lost under processor load. One run, alternating, on the engine that DOCKER_HOST names or the machine's own.

    python benchmarks/containers.py [--rounds N] [--calls N] [--starts N]

Reach: a call in a warm container <= 5 ms p50, on the host <= 2 x the bare subprocess, of a native skill < 0.3 ms; a
container from the pool < 20 ms; no byte lost in 5,000 calls.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import trio
from _native_echo import Echo

from skill_actors.backends import (
    BackendUnavailable,
    Host,
    LocalOptions,
    ToolCall,
    ToolContext,
    ToolResult,
    Workers,
    WorkersRef,
    Workspace,
    WorkspaceSpec,
    open_local,
)
from skill_actors.backends.docker import DockerExecutor, DockerWorkspace, open_docker
from skill_actors.backends.docker_image import SLIM_IMAGE, connect, engine_address
from skill_actors.backends.docker_options import DockerOptions
from skill_actors.backends.native_executor import Isolation, open_native
from skill_actors.runtime import ChildSpec, open_system

_WARM_UP = 5
_PAUSE_S = 0.03  # calls come one by one, with a model's thinking between them; namespaces take a while to end
_SIZES = (0, 1, 100, 65_535, 65_536, 65_537)  # of outputs, in bytes
_NO_OP = ["bash", "--noprofile", "--norc", "-c", ":"]
_BWRAP = ["bwrap", "--ro-bind", "/", "/", "--unshare-all", "--proc", "/proc", "--dev", "/dev", "--die-with-parent"]


async def _bash(workspace: Workspace, command: str) -> ToolResult:
    return await workspace.execute(
        ToolCall(id="call", name="bash_tool", input={"command": command, "description": "nothing"}),
        ToolContext(max_output_chars=100_000),
    )


async def _no_op(workspace: Workspace) -> None:
    result = await _bash(workspace, ":")
    assert result.outcome == "ok", result


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


async def on_the_host(
    stack: contextlib.AsyncExitStack, folder: Path
) -> tuple[Workspace, dict[str, Callable[[], Awaitable[object]]]]:
    """The plain local workspace, and the ways that can be measured here; the floor first."""
    ways: dict[str, Callable[[], Awaitable[object]]] = {"bare subprocess": partial(trio.run_process, _NO_OP)}
    plain: Workspace | None = None
    for sandbox in ("none", "landlock", "bwrap"):
        options = LocalOptions(path=os.environ.get("PATH", os.defpath), sandbox=sandbox)
        try:
            executor = await stack.enter_async_context(open_local(options))
        except BackendUnavailable as error:
            print(f"not measured: {error}")
            continue
        workspace = await executor.open(WorkspaceSpec(session="bench", root=folder / sandbox))
        plain = plain or workspace
        ways["local" if sandbox == "none" else f"local, {sandbox}"] = partial(_no_op, workspace)
        if sandbox == "bwrap":
            ways["bare bubblewrap"] = partial(trio.run_process, [*_BWRAP, *_NO_OP])
    assert plain is not None
    return plain, ways


def in_containers(workspace: DockerWorkspace, container: Any) -> dict[str, Callable[[], Awaitable[object]]]:
    """The ways into a container that runs."""

    async def view() -> None:
        call = ToolCall(id="call", name="view", input={"path": "file"})
        assert (await workspace.execute(call, ToolContext())).outcome == "ok"

    async def sdk() -> None:
        await trio.to_thread.run_sync(container.exec_run, _NO_OP)

    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "docker: bash_tool": partial(_no_op, workspace),
        "docker: view": view,
        "SDK exec": sdk,
    }
    if shutil.which("docker"):
        ways["docker exec (CLI)"] = partial(trio.run_process, ["docker", "exec", container.id, *_NO_OP])
    return ways


async def in_turns(
    ways: Mapping[str, Callable[[], Awaitable[object]]], rounds: int, pause_s: float = _PAUSE_S
) -> dict[str, list[float]]:
    """Milliseconds of a call, by way."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(_WARM_UP + rounds):
        for way, action in ways.items():
            await trio.sleep(pause_s)
            took_ms = await _timed_ms(action)
            if number >= _WARM_UP:
                found[way].append(took_ms)
    return found


async def native(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a call of a native skill, beside that of its function."""
    call = ToolCall(id="call", name="echo_execute", input={"command": "x"})
    skill = Echo()

    async def function() -> None:
        skill.execute("x", cast(Any, None))

    ways: dict[str, Callable[[], Awaitable[object]]] = {"the function": function}
    async with open_system([ChildSpec(id="workers", name="workers", factory=Workers)]) as system:
        host = Host(find_workers=lambda: cast("WorkersRef", system.directory.ref("workers")))
        async with contextlib.AsyncExitStack() as stack:
            isolations: tuple[Isolation, ...] = ("inline", "process")
            for isolation in isolations:
                executor = await stack.enter_async_context(open_native([Echo], host, isolation=isolation))
                room = await executor.open(WorkspaceSpec(session="bench", root=folder / isolation))
                assert (await room.execute(call, ToolContext())).content == "x"
                ways[f"native, {isolation}"] = partial(room.execute, call, ToolContext())
            return await in_turns(ways, rounds, 0)


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


@contextlib.contextmanager
def _load() -> Iterator[None]:
    """Twice as many busy processes as there are processors."""
    # No forks of this process: they would hold its ends of the runners' pipes.
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def _sized(number: int) -> int:
    return _SIZES[number % len(_SIZES)]


def _command(number: int) -> str:
    return f"head -c {_sized(number)} /dev/zero | tr '\\0' x"


async def lost(
    places: Mapping[str, Workspace], container: Any, calls: int, sdk_calls: int
) -> dict[str, tuple[int, int]]:
    """Of how many calls under load how many did not give exactly their output, eight at a time."""
    wrong = dict.fromkeys((*places, "SDK exec"), 0)

    async def ours(name: str, number: int) -> None:
        content = (await _bash(places[name], _command(number))).content
        wrong[name] += content != ("x" * _sized(number) or "(no output)")

    async def sdk(number: int) -> None:
        done = await trio.to_thread.run_sync(container.exec_run, ["sh", "-c", _command(number)])
        wrong["SDK exec"] += (done.output or b"") != b"x" * _sized(number)

    with _load():
        for name in places:
            await _eight_at_a_time(partial(ours, name), calls)
        await _eight_at_a_time(sdk, sdk_calls)
    return {name: (sdk_calls if name == "SDK exec" else calls, count) for name, count in wrong.items()}


async def _eight_at_a_time(action: Callable[[int], Awaitable[None]], count: int) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await action(number)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(work)


async def at_once(workspace: Workspace, count: int) -> float:
    """Seconds for this many calls that all start together."""
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(_no_op, workspace)
    return time.perf_counter() - began


def table(title: str, found: Mapping[str, Sequence[float]]) -> None:
    print(f"\n{title:32} {'p50 ms':>8} {'p95 ms':>8}")
    for way, times_ms in found.items():
        p95_ms = statistics.quantiles(times_ms, n=20)[-1] if len(times_ms) > 1 else times_ms[0]
        print(f"{way:32} {statistics.median(times_ms):8.3f} {p95_ms:8.3f}")


async def main(rounds: int, calls: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as name, _plain_container() as container:
        folder = Path(name)
        options = DockerOptions(image=SLIM_IMAGE, pool=0, processes=1024)
        async with open_docker(options) as executor:
            boxed = await executor.open(WorkspaceSpec(session="bench", root=folder / "bench"))
            await _bash(boxed, "echo x > file")
            async with contextlib.AsyncExitStack() as stack:
                local, ways = await on_the_host(stack, folder)
                table("one call, all warm", await in_turns(ways | in_containers(boxed, container), rounds))
                table("one call of a native skill", await native(folder, rounds * 10))
                places = {"local": local, "docker": boxed}
                print(f"\n{'100 calls at once':32} {'seconds':>8}")
                for name, workspace in places.items():
                    print(f"{name:32} {await at_once(workspace, 100):8.2f}")
                cold = await starts(executor, folder, count, pooled=False)
                print(f"\n{'calls under processor load':32} {'calls':>8} {'wrong':>8}")
                for way, (made, wrong) in (await lost(places, container, calls, max(1, calls // 10))).items():
                    print(f"{way:32} {made:8} {wrong:8}")
        async with open_docker(DockerOptions(image=SLIM_IMAGE, pool=1)) as executor:
            pooled = await starts(executor, folder, count, pooled=True)
        run_ms = [_cli_run_ms() for _ in range(count)] if shutil.which("docker") else []
        found = {"docker, from the pool": pooled, "docker, cold": cold}
        table("first call of a conversation", found | ({"docker run --rm (CLI)": run_ms} if run_ms else {}))
    print("\nreach: docker <= 5 ms p50, local <= 2 x the bare subprocess, native < 0.3 ms, pool < 20 ms, 0 wrong")
    print(f"load at the end: {os.getloadavg()[0]:.1f}")


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
