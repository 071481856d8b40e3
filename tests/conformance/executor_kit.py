"""What tests of executors share: which there are, and an open workspace of each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

from docker_kit import engine_with_slim_image
from sandbox_kit import require_sandbox
from skill_actors.backends import (
    Executor,
    Host,
    ToolCall,
    ToolContext,
    ToolResult,
    Workspace,
    WorkspaceSpec,
    factory,
)
from skill_actors.backends.docker_image import SLIM_IMAGE
from support import run

__all__ = [
    "NAMES",
    "OPTIONS",
    "Bench",
    "Body",
    "Fixture",
    "alive",
    "backend_of",
    "bench",
    "demand",
    "on_each_executor",
    "started",
]

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "local": {},
    "local+landlock": {"sandbox": "landlock"},
    "local+bwrap": {"sandbox": "bwrap"},
    "docker": {"image": SLIM_IMAGE, "pool": 0},
}
NAMES = tuple(OPTIONS)
Body = Callable[["Bench"], Awaitable[None]]


class Bench:
    """An open workspace of the executor under test; `folder` is where its files are kept."""

    def __init__(self, executor: Executor, workspace: Workspace, folder: Path) -> None:
        self.executor = executor
        self.workspace = workspace
        self.folder = folder

    async def tool(self, name: str, input: Mapping[str, Any], **context: Any) -> ToolResult:
        return await self.workspace.execute(ToolCall(id="call-1", name=name, input=input), ToolContext(**context))

    async def bash(self, command: str, **context: Any) -> ToolResult:
        return await self.tool("bash_tool", {"command": command, "description": "a test"}, **context)


@contextlib.asynccontextmanager
async def bench(name: str, root: Path) -> AsyncIterator[Bench]:
    opened: AbstractAsyncContextManager[Executor] = (await factory(backend_of(name)))(OPTIONS[name], Host())
    async with opened as executor:
        await executor.check()
        yield Bench(executor, await executor.open(WorkspaceSpec(session="ses", root=root)), root)


def backend_of(name: str) -> str:
    """What follows a plus tells apart different options of the same backend."""
    return name.partition("+")[0]


def demand(name: str) -> None:
    """Skip the test where the machine lacks what the backend needs; in CI, fail it."""
    if name == "docker":
        with engine_with_slim_image():
            pass
    require_sandbox(name.partition("+")[2])


@pytest.fixture(params=NAMES)
def on_each_executor(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Body], None]:
    """Run a test's body with a fresh workspace."""
    demand(request.param)

    def call(body: Body) -> None:
        async def main() -> None:
            async with bench(request.param, tmp_path / "workspace") as opened:
                await body(opened)

        run(main)

    return call


def alive(marker: str) -> list[int]:
    """Processes whose environment or command line holds the marker."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            texts = [Path("/proc", name, file).read_bytes() for file in ("environ", "cmdline")]
            if any(marker.encode() in text for text in texts) and int(name) != os.getpid():
                found.append(int(name))
    return found


async def started(folder: Path, name: str = "started") -> None:
    """Wait until a command has made the file that says it runs."""
    path = trio.Path(folder, name)
    while not await path.exists():  # noqa: ASYNC110  # another process makes it
        await trio.sleep(0.005)


Fixture = Callable[[Body], None]
