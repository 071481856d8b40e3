"""What the tools work with: the way to the daemon, whom they serve, and how they wait.

A wait is never longer than the caller allows: when its time is over, the caller is told the id of the turn, which goes
on, and asks for it again. While it lasts the caller hears of it every few seconds, if it has asked for that.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from skilld.client import AsyncClient, SkilldError
from skilld.mcp.claims import Claims
from skilld.mcp.tool import ToolFailure

__all__ = ["Desk", "Progress", "Wait"]

Progress = Callable[[float, str], Awaitable[None]]  # so many seconds were waited, and for what

_OPEN: Final = frozenset({"queued", "running"})
_AWAY_S: Final = 10.0  # for how long a daemon that restarts is waited for
_PAUSE_S: Final = 0.5


async def _untold(waited_s: float, what: str) -> None:
    """Nobody has asked to hear of it."""
    await trio.lowlevel.checkpoint()


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What one call has.

    Args:
        agent: the agent that is served, if any.
        wait_s: how long a tool waits whose caller names no time, in seconds.
        progress: told of a wait every `progress_s` seconds.

    """

    client: AsyncClient
    claims: Claims
    agent: str | None = None
    wait_s: float = 50.0
    progress: Progress = _untold
    progress_s: float = 5.0

    def for_call(self, progress: Progress | None) -> Desk:
        """The same, for a caller who has asked to hear of waits, or has not."""
        return self if progress is None else replace(self, progress=progress)

    def wait(self, timeout_ms: float | None) -> Wait:
        """A wait that begins now."""
        return Wait(self, self.wait_s if timeout_ms is None else timeout_ms / 1000)

    def refuse_self(self, name: str, what: str) -> None:
        """Raise ToolFailure where the agent that is served would wait for itself, or put an end to itself."""
        if name == self.agent:
            raise ToolFailure(
                f"agent {name!r} cannot {what} itself: this call is part of its turn; use cast, or ask another agent"
            )


class Wait:
    """One wait of a call, with the time that is left for it."""

    def __init__(self, desk: Desk, time_s: float) -> None:
        self._desk = desk
        self._began = trio.current_time()
        self._deadline = self._began + time_s

    @property
    def left_s(self) -> float:
        """How much time is left, in seconds."""
        return max(0.0, self._deadline - trio.current_time())

    async def turn(self, turn: str, agent: str | None = None) -> dict[str, Any]:
        """A turn that has ended, or as it is when the time is over.

        Raises:
            ToolFailure: the daemon stays away; names the turn. SkilldError: for any other refusal.

        """
        who = "" if agent is None else f"agent {agent}, "
        found: dict[str, Any] = {}

        async def look(wait_s: float) -> bool:
            nonlocal found
            found = await self._patiently(lambda: self._desk.client.turn(turn, wait_s=wait_s), f"turn {turn}")
            return found["status"] not in _OPEN

        await self.until(look, lambda: f"{who}turn {turn}: {found.get('status', 'queued')}")
        return found

    async def agents(self, *names: str) -> dict[str, Any]:
        """These agents, or all, when they have nothing to do or the time is over: {"items", "idle"}."""
        found: dict[str, Any] = {}

        async def look(wait_s: float) -> bool:
            nonlocal found
            found = await self._patiently(lambda: self._desk.client.await_agents(*names, wait_s=wait_s), "agents")
            return bool(found["idle"])

        await self.until(look, lambda: f"waiting for {', '.join(_busy(found) or names) or 'agents'}")
        return found

    async def until(self, look: Callable[[float], Awaitable[bool]], what: Callable[[], str]) -> None:
        """Look until there is nothing to wait for or the time is over, at least once; tell the caller meanwhile.

        Args:
            look: waits for up to so many seconds; whether it is over.
            what: what is waited for, for the caller.

        """
        await self._desk.progress(0.0, what())
        while not await look(min(self._desk.progress_s, self.left_s)):
            if not self.left_s:
                return
            await self._desk.progress(trio.current_time() - self._began, what())

    async def _patiently(self, ask: Callable[[], Awaitable[dict[str, Any]]], what: str) -> dict[str, Any]:
        """Ask again for a while where the daemon cannot be reached: it may be on its way up again."""
        away_until = math.inf
        while True:
            try:
                return await ask()
            except SkilldError as error:
                if error.status is not None or not error.retryable:
                    raise
                away_until = min(away_until, trio.current_time() + min(_AWAY_S, self.left_s))
                if trio.current_time() >= away_until:
                    raise ToolFailure(f"lost while waiting for {what}, which can be awaited again: {error}") from error
            await trio.sleep(_PAUSE_S)


def _busy(found: dict[str, Any]) -> list[str]:
    return [str(item["agent"]) for item in found.get("items", ()) if not item["idle"]]
