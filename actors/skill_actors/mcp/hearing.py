"""What a session hears of its server, over whichever transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from mcp import types
from mcp.shared.message import SessionMessage

from skill_actors.mcp.screen import Signals

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectSendStream

__all__ = ["pass_on"]


async def pass_on(
    message: SessionMessage, session: MemoryObjectSendStream[SessionMessage | Exception], signals: Signals
) -> bool:
    """Give the session an answer, or a request, which it declines; of notifications only what they signal is kept.

    Returns:
        Whether the session is still there to hear more.

    """
    if isinstance(message.message, types.JSONRPCNotification):
        signals.changed |= message.message.method == "notifications/tools/list_changed"
        return True
    try:
        await session.send(message)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return False
    return True
