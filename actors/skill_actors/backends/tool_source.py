"""Where a conversation's further tools come from: a tool server, or the program around the conversation.

A source has a name and some tools. The model is offered each as mcp__SOURCE__TOOL, and rules call it so; a call is
judged, approved, journalled and counted as any other, and only then made here. A source is one conversation's: whoever
opens it for two conversations keeps them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from .base import ToolContext, ToolResult

__all__ = ["SOURCES", "SOURCES_READ", "WORKSHOP", "SourceTool", "SourceUser", "ToolSource", "ToolSources"]

SOURCES: Final = "mcp"
"""What logs, events and metrics call this backend."""

SOURCES_READ: Final = "mcp_read"
"""What rules call it where a tool only reads."""


WORKSHOP: Final = "workshop"
"""The source that is the daemon's own, and what rules call its tools' backend; no other source has this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTool:
    """A tool, as its source calls it.

    Args:
        name: in the source; any text.
        description: for the model.
        input_schema: a JSON schema of an object.
        reads: whether the operator, and not the source, says that it changes nothing.

    """

    name: str
    description: str
    input_schema: Mapping[str, Any]
    reads: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceUser:
    """A conversation that has sources.

    Args:
        session: its id.
        owner_uid: whose it is.
        settings: its settings.
        workspace: its own folder, which may not be there yet.

    """

    session: str
    owner_uid: int
    settings: Mapping[str, Any]
    workspace: Path


class ToolSource(Protocol):
    """Some tools of one conversation."""

    @property
    def name(self) -> str:
        """In letters, digits, - and _, without two _ in a row: what comes between mcp__ and the tool's name."""

    async def tools(self) -> Sequence[SourceTool]:
        """The tools of this moment. Asked for between turns, never within one. May start what is not running.

        Raises BackendUnavailable, with what to do about it: the turn goes on without these tools.
        """

    async def call(self, tool: str, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Make one call. Calls may run at the same time.

        What fails is a result. A call that is cancelled, or takes longer than `context.timeout_s`, is told to whoever
        works on it, and is never made again.

        Raises BackendUnavailable if it was not made at all.
        """

    async def close(self) -> None:
        """Let go of all that is held for the conversation. May be called twice, and a call after it opens it again."""


class ToolSources(Protocol):
    """Opens sources for conversations."""

    async def check(self, owner_uid: int, settings: Mapping[str, Any]) -> None:
        """Raise Refused if the settings name what is not there, or not for this user. For sessions that are made."""

    def open(self, user: SourceUser) -> Sequence[ToolSource]:
        """The sources of a conversation; none for most. Does not wait, and starts nothing."""
