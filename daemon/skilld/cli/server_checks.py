"""What doctor looks at of tool servers: each is started in a folder of its own, and tells its tools."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from skilld.cli.check import Check

if TYPE_CHECKING:
    from skill_actors.backends.tool_source import SourceTool
    from skill_actors.mcp import ToolServersRef
    from skilld.config import Config

__all__ = ["Looked", "check_tool_servers", "look_at"]

_SLACK_S: Final = 15.0  # beyond what a server has for its start
_TOLD: Final = 8  # tools by name


@dataclass(frozen=True, slots=True)
class Looked:
    """What a server that was started told.

    Args:
        left_out: why tools are not offered, by name.
        problem: why it cannot be used; None if it can.

    """

    tools: Sequence[SourceTool] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


def check_tool_servers(config: Config, environ: Mapping[str, str]) -> Iterator[Check]:
    """Whether each server of the configuration can be used by the user who runs this."""
    for name in config.mcp.servers:
        looked = look_at(config, name, environ)
        tools = looked.tools
        if looked.problem is not None:
            message = f"{name}: {looked.problem}"
            yield Check(name="mcp", level="fail", message=message, remedy="see docs/mcp-servers.md")
            continue
        told = ", ".join(tool.name + (" (reads)" if tool.reads else "") for tool in tools[:_TOLD])
        more = f" and {len(tools) - _TOLD} more" if len(tools) > _TOLD else ""
        yield Check(name="mcp", level="ok", message=f"{name}: {told}{more}" if tools else f"{name}: it offers no tools")


def look_at(config: Config, name: str, environ: Mapping[str, str]) -> Looked:
    """Start this server of the configuration, and ask it for its tools. Blocks, for as long as its start may take."""
    import trio

    from skill_actors.backends.agents.process import open_nest
    from skill_actors.backends.base import BackendUnavailable
    from skill_actors.backends.tool_source import SourceUser
    from skill_actors.mcp import ToolServers
    from skill_actors.runtime import ChildSpec, open_system
    from skilld.config import ConfigError
    from skilld.private_folders import private_folders
    from skilld.tool_servers import ConfiguredServers

    async def look(folder: Path) -> Looked:
        servers = ConfiguredServers(lambda: config, environ, folder, lambda: private_folders(config, environ))
        servers.nest = await open_nest(None, "mcp")
        user = SourceUser(session="doctor", owner_uid=os.getuid(), settings={}, workspace=folder)
        async with open_system([ChildSpec(id="mcp", name="mcp", factory=ToolServers)]) as system:
            servers.running.put(cast("ToolServersRef", system.directory.ref("mcp")))
            source = servers.source(name, user)
            with trio.fail_after(config.mcp.servers[name].start_s + _SLACK_S):
                try:
                    tools, refused = await source.tools(), None
                except BackendUnavailable as error:  # raised outside of the system's nursery
                    tools, refused = (), error
            await source.close()
        if refused is not None:
            raise refused
        return Looked(tools, source.left_out)

    with tempfile.TemporaryDirectory(prefix="skillctl-") as made:
        try:
            return trio.run(look, Path(made))
        except (BackendUnavailable, ConfigError) as error:
            return Looked(problem=str(error))
        except trio.TooSlowError:
            return Looked(problem="it did not tell its tools in time")
