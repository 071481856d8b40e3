"""One function decides whether a tool call may run: `decide(call) -> allow | deny | ask`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from skill_actors.backends.base import ToolCall

__all__ = ["Decision", "Policy"]


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` is told to the model when the call does not run."""

    verdict: Literal["allow", "deny", "ask"]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a session may run: the tools its backend offers, and nothing else.

    Args:
        tools: names the model was offered; a call of any other tool is denied, whoever asks for it.

    """

    tools: Collection[str]

    def decide(self, call: ToolCall) -> Decision:
        """Allow a call of an offered tool, deny the rest."""
        if call.name in self.tools:
            return Decision("allow")
        offered = ", ".join(sorted(self.tools)) or "none"
        return Decision("deny", f"There is no tool {call.name[:100]!r} in this conversation. Offered: {offered}.")
