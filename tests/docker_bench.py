"""A conversation's workspace in a real container, for tests of the docker backend."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from docker.errors import NotFound

from docker_kit import engine_with_slim_image
from skill_actors.backends import ToolCall, ToolContext, ToolResult, WorkspaceSpec
from skill_actors.backends.docker import DockerExecutor, DockerWorkspace, open_docker
from skill_actors.backends.docker_image import SLIM_IMAGE
from skill_actors.backends.docker_options import checked

__all__ = ["Box", "boxed", "containers_of", "owner_of"]


class Box:
    """An open workspace, and the folder where its files are kept."""

    def __init__(self, executor: DockerExecutor, workspace: DockerWorkspace, folder: Path) -> None:
        self.executor = executor
        self.workspace = workspace
        self.folder = folder

    async def tool(self, name: str, input: Mapping[str, Any], **context: Any) -> ToolResult:
        return await self.workspace.execute(ToolCall(id="call-1", name=name, input=input), ToolContext(**context))

    async def bash(self, command: str, **context: Any) -> ToolResult:
        return await self.tool("bash_tool", {"command": command, "description": "a test"}, **context)

    async def another(self) -> Box:
        """A workspace of another conversation."""
        folder = self.folder.with_name(self.folder.name + "-other")
        return Box(self.executor, await self.executor.open(WorkspaceSpec(session="other", root=folder)), folder)


@contextlib.asynccontextmanager
async def boxed(folder: Path, *, owner: str | None = None, **options: Any) -> AsyncIterator[Box]:
    """The backend with these options (and, unless they say otherwise, the slim image and no pool), and a workspace."""
    with engine_with_slim_image():
        pass
    chosen = checked({"image": SLIM_IMAGE, "pool": 0} | options)
    async with open_docker(chosen, owner=owner) as executor:
        yield Box(executor, await executor.open(WorkspaceSpec(session="ses", root=folder)), folder)


def containers_of(client: Any, owner: str, *, going: bool = False) -> list[dict[str, Any]]:
    """What the engine says of the owner's containers; with `going` of those too that it is removing just now.

    A container that ended by itself is removed by the engine, and who wants it removed then is told that this goes on.
    """
    found = client.api.containers(all=True, filters={"label": f"skilld.owner={owner}"})
    facts = []
    for each in found:
        with contextlib.suppress(NotFound):  # gone meanwhile
            facts.append(client.api.inspect_container(each["Id"]))
    return [each for each in facts if going or each["State"].get("Status") != "removing"]


def owner_of(folder: Path) -> str:
    """An owner that no other test has."""
    return f"test{os.getpid()}{abs(hash(str(folder))):x}"
