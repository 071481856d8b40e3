"""A backend of somebody else: tools in worker processes, most of which misbehave. Copied and installed by tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from skill_actors.backends import Capabilities, Host, ToolCall, ToolContext, ToolResult, WorkspaceSpec, failed_result
from skill_actors.runtime import Reject, WorkerEnded, WorkerLimits, WorkerSpec

HERE = Path(__file__).parent
DEADLINE_S = 1.5
PATIENCE_S = 10.0  # for what is to be killed by another limit, however busy the machine

# Tool -> what its worker runs, and what it is asked.
TOOLS: Mapping[str, tuple[str, Any]] = {
    "spin": ("spin", None),
    "block": ("block_in_c", None),
    "leak": ("leak", None),
    "flood": ("flood", 1 << 30),
    "deaf": ("ignore_term", None),
    "echo": ("echo", "fine"),
}


def spec_of(tool: str) -> WorkerSpec:
    return WorkerSpec(
        name=f"offenders:{tool}",
        target=f"worker_targets:{TOOLS[tool][0]}",
        paths=[HERE],
        environment={"OFFENDERS_OF": str(HERE)},
        limits=WorkerLimits(memory_bytes=128 << 20),
        max_output_bytes=4 << 20,
    )


class Offenders:
    name = "offenders"
    capabilities = Capabilities(
        stream=False, cancel=True, sandbox="process", network="host", files=False, parallel=True
    )

    def __init__(self, host: Host) -> None:
        self._host = host

    def tools(self) -> Sequence[Mapping[str, Any]]:
        schema = {"type": "object", "properties": {}}
        return [{"name": name, "description": f"Runs {name}.", "input_schema": schema} for name in TOOLS]

    async def check(self) -> None:
        _ = self._host.workers

    async def open(self, spec: WorkspaceSpec) -> Room:
        return Room(spec.root, self._host)

    async def aclose(self) -> None:
        for tool in TOOLS:
            await self._host.workers.release(f"offenders:{tool}")


class Room:
    def __init__(self, root: Path, host: Host) -> None:
        self.root = root
        self._host = host

    def path_of_skill(self, copy: Path) -> str:
        return str(copy)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        began = trio.current_time()
        limit_s = PATIENCE_S if call.name in ("leak", "flood") else DEADLINE_S
        deadline_s = min(limit_s, context.timeout_s)
        try:
            workers = self._host.workers
            answer = await workers.perform(spec_of(call.name), TOOLS[call.name][1], timeout_s=deadline_s)
            result = ToolResult(content=str(answer), outcome="ok")
        except (Reject, WorkerEnded) as error:
            result = failed_result(error)
        return replace(result, duration_ms=round((trio.current_time() - began) * 1000))

    async def aclose(self) -> None:
        pass


@contextlib.asynccontextmanager
async def open_offenders(options: Mapping[str, Any], host: Host) -> AsyncIterator[Offenders]:
    yield Offenders(host)
