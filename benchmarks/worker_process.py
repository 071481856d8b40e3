"""A worker process behind an actor: round trips and coming back from a kill, beside a bare pipe and a Python thread.

    python benchmarks/worker_process.py [--rounds N] [--kills N]

The floor is an echo loop in a bare child process on a socket pair, asked by trio with the same frames and no actor. The
thread is a ThreadActor in this process. The native tool is a call of a native skill, as a turn makes it: in a worker
process; in this one, in a thread and as a coroutine; and one that asks an actor of this process for its answer. The
function is what the skill runs, called. Kinds take turns of a few hundred requests.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import trio

from skill_actors.backends import (
    Host,
    InlineNatives,
    NativeCalls,
    NativeProcesses,
    NativeRoom,
    NativeTools,
    ToolCall,
    ToolContext,
    Workers,
    WorkersRef,
    WorkspaceSpec,
)
from skill_actors.native import NativeCode
from skill_actors.runtime import (
    ActorSystem,
    Ask,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    Perform,
    ProcessActor,
    ThreadActor,
    TrioActor,
    TrioActorRef,
    WorkerEnded,
    WorkerSpec,
    WorkerTimeout,
    open_system,
)
from skill_actors.runtime.worker import CALL, Frames, encode

PER_TURN: Final = 300
SIZES: Final = {"64 B": 64, "64 KB": 65_536}
MAX_BYTES: Final = 1 << 20
TARGETS: Final = """
import time
def echo(request, emit):
    if request == "stall":
        time.sleep(60)
    return request
"""
SKILL: Final = """
from skill_actors.native import Context, NativeSkill, SkillInfo
class Echo(NativeSkill):
    skill_info = SkillInfo(name="echo", description="Echoes.", allowed_tools=["execute", "read", "write"])
    def execute(self, command: str, context: Context) -> str:
        return command
    def write(self, path: str, content: str, context: Context) -> str:
        return context.ask("echo", content)
    async def read(self, path: str, context: Context) -> str:
        return path
"""
BARE: Final = """
import socket, struct, sys
link = socket.socket(fileno=int(sys.argv[1]))
while header := link.recv(9, socket.MSG_WAITALL):
    size = struct.unpack(">IBI", header)[0]
    link.sendall(header + (link.recv(size, socket.MSG_WAITALL) if size else b""))
"""

Echo = Callable[[bytes], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Say(Ask[bytes]):
    data: bytes


class EchoActor(TrioActor):
    def on_receive(self, message: Any) -> Any:
        return message


class EchoThread(ThreadActor):
    def on_receive(self, message: Any) -> Any:
        return message.data


@asynccontextmanager
async def bare_echo() -> AsyncIterator[Echo]:
    """The floor: a child process that echoes frames."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-I", "-S", "-E", "-c", BARE, str(theirs.fileno())]
        process = await trio.lowlevel.open_process(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
    stream, frames = trio.SocketStream(trio.socket.from_stdlib_socket(ours)), Frames(MAX_BYTES)

    async def echo(data: bytes) -> bytes:
        await stream.send_all(encode(CALL, 1, data, MAX_BYTES))
        while (whole := frames.next()) is None:
            frames.feed(bytes(await stream.receive_some(65_536)))
        return whole[2]

    async with stream:
        yield echo
    await process.wait()


@asynccontextmanager
async def native_echoes(folder: Path, system: ActorSystem) -> AsyncIterator[Mapping[str, Echo]]:
    """A native skill's tools, where it may run."""
    (folder / "native.py").write_text(SKILL)
    code = NativeCode(skill="echo", version="1", class_name="Echo", root=str(folder), file="native.py")
    names = system.directory
    host = Host(find_workers=lambda: cast("WorkersRef", names.ref("workers")), expose={"echo": names.named("echo")})
    processes = NativeProcesses(host)
    tools = (await processes.describe(code, inline=True)).tools
    spec = WorkspaceSpec(session="s", root=folder)

    def tool(calls: NativeCalls, kind: str, field: str) -> Echo:
        room = NativeRoom([NativeTools(code=code, tools=tools)], calls, spec)
        more = {"path": "x"} if kind == "write" else {}

        async def echo(data: bytes) -> str:
            call = ToolCall(id="1", name=f"echo_{kind}", input={field: data.decode(), **more})
            return (await room.execute(call, ToolContext(max_output_chars=MAX_BYTES))).content

        return echo

    inline = InlineNatives(host)
    yield {
        "native tool": tool(processes, "execute", "command"),
        "native tool that asks": tool(processes, "write", "content"),
        "native tool, thread": tool(inline, "execute", "command"),
        "native tool, coroutine": tool(inline, "read", "path"),
    }
    await processes.aclose()


async def function_echo(data: bytes) -> str:
    """What the skill does, called."""
    return data.decode()


async def timed_us(echo: Echo, data: bytes) -> list[float]:
    """Microseconds of each of a turn's requests, but for the first few."""
    times: list[float] = []
    for _ in range(PER_TURN):
        began = time.perf_counter()
        await echo(data)
        times.append((time.perf_counter() - began) * 1e6)
    return times[PER_TURN // 10 :]


async def back_after_kill_ms(supervisor: DynamicSupervisorRef[Any], spec: WorkerSpec) -> float:
    """SIGKILL from outside: the actor crashes, and whoever needs it starts another."""
    ref = await supervisor.ensure(spec.name, lambda: ProcessActor(spec))
    actor = ref._actor_weakref()
    assert actor is not None
    assert actor.pid is not None
    os.kill(actor.pid, signal.SIGKILL)
    del actor
    began = time.perf_counter()
    await ref.wait_stopped()
    ref = await supervisor.ensure(spec.name, lambda: ProcessActor(spec))
    await ref.call(Perform(request=b"x", timeout_s=10), timeout=None)
    return (time.perf_counter() - began) * 1e3


async def back_after_deadline_ms(ref: TrioActorRef[ProcessActor]) -> float:
    """A request past its deadline: from the deadline to the next answer, by the replacement."""
    began = time.perf_counter()
    try:
        await ref.call(Perform(request="stall", timeout_s=0.01), timeout=None)
    except WorkerTimeout:
        await ref.call(Perform(request=b"x", timeout_s=10), timeout=None)
        return (time.perf_counter() - began) * 1e3 - 10
    raise WorkerEnded("a stalled request was answered")


async def measure(
    folder: Path, rounds: int, kills: int
) -> tuple[dict[str, dict[str, list[float]]], dict[str, list[float]]]:
    """Microseconds of round trips by size and kind, and milliseconds of each way back."""
    (folder / "targets.py").write_text(TARGETS)
    spec = WorkerSpec(name="echo", target="targets:echo", paths=[folder])
    tree = [
        ChildSpec(id="d", name="d", factory=lambda: DynamicSupervisor("actor")),
        ChildSpec(id="workers", name="workers", factory=Workers),
        ChildSpec(id="echo", name="echo", factory=EchoActor),
    ]
    async with (
        open_system(tree) as system,
        bare_echo() as bare,
        native_echoes(folder, system) as native,
    ):
        supervisor = cast("DynamicSupervisorRef[Any]", system.directory.ref("d"))
        worker = await supervisor.spawn(lambda: ProcessActor(spec), id="w")
        thread = await supervisor.spawn(EchoThread, id="t")
        kinds: dict[str, Echo] = {
            "bare process": bare,
            "ProcessActor": lambda data: worker.call(Perform(request=data, timeout_s=10), timeout=None),
            **native,
            "ThreadActor": lambda data: thread.call(Say(data), timeout=None),
            "function": function_echo,
        }
        trips: dict[str, dict[str, list[float]]] = {size: {kind: [] for kind in kinds} for size in SIZES}
        for _ in range(rounds):
            for size, length in SIZES.items():
                for kind, echo in kinds.items():
                    trips[size][kind] += await timed_us(echo, b"x" * length)
        back = {
            "SIGKILL, new actor": [await back_after_kill_ms(supervisor, spec) for _ in range(kills)],
            "deadline, replaced": [await back_after_deadline_ms(worker) for _ in range(kills)],
        }
        back["bare interpreter"] = [await interpreter_ms() for _ in range(kills)]
    return trips, back


async def interpreter_ms() -> float:
    """What starting and ending an isolated interpreter costs by itself."""
    began = time.perf_counter()
    await trio.run_process([sys.executable, "-I", "-S", "-E", "-c", "pass"])
    return (time.perf_counter() - began) * 1e3


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--kills", type=int, default=30)
    options = parser.parse_args()
    logging.disable()  # each kill is reported
    with tempfile.TemporaryDirectory() as folder:
        trips, back = trio.run(measure, Path(folder), options.rounds, options.kills)
    for size, kinds in trips.items():
        floor = quantile(kinds["bare process"], 0.5)
        print(f"{'round trip, ' + size:22} {'p50 us':>8} {'p99 us':>8} {'ratio':>6}")
        for kind, times in kinds.items():
            p50 = quantile(times, 0.5)
            print(f"{kind:22} {p50:8.0f} {quantile(times, 0.99):8.0f} {p50 / floor:6.2f}")
    floor = quantile(back["bare interpreter"], 0.5)
    print(f"{'serving again':22} {'p50 ms':>8} {'p99 ms':>8} {'ratio':>6}")
    for kind, times in back.items():
        p50 = quantile(times, 0.5)
        print(f"{kind:22} {p50:8.1f} {quantile(times, 0.99):8.1f} {p50 / floor:6.2f}")


if __name__ == "__main__":
    main()
