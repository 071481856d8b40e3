"""A turn of `claude` in a process of its own: the message on stdin, one JSON object on stdout at the end.

What is left where a long-lived process cannot be had: nothing is streamed, and what would be asked is denied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio

from skill_actors.backends.agents.base import AgentError, AgentResult, Said, SessionKnown, Spent, Watch
from skill_actors.backends.agents.claude.metering import Totals, turn_of
from skill_actors.backends.agents.claude.outcome import Ending, of_end, of_result
from skill_actors.backends.agents.claude.reading import TurnReader, parse
from skill_actors.backends.agents.process import AgentProcess

__all__ = ["Oneshot"]

_KILL_S: Final = 0.5  # from SIGTERM to SIGKILL


class Oneshot:
    """The same as `Duplex`, for one turn."""

    def __init__(self, process: AgentProcess, session_id: str | None) -> None:
        self.process = process
        self.usable = True
        self.taken_up = True
        self.spent_usd = 0.0
        self._reader = TurnReader(session_id)
        self._interrupted = False
        self._closed = False

    async def open(self, initialization: Mapping[str, Any]) -> None:
        """Nothing to wait for: what a process is told before its message is in files here."""

    async def perform(self, content: Sequence[Mapping[str, Any]], watch: Watch) -> AgentResult:
        """The turn. If it is cancelled, its process is stopped with all that it started. Raises AgentError."""
        self.usable = False
        try:
            prompt = "\n".join(block["text"] for block in content if block.get("type") == "text")
            result = await self._run(prompt)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.process.stop(_KILL_S)
            raise
        if result is None:
            raise await self._ended()
        turn, _ = turn_of(Totals(), result, self._reader.seen)
        self._reader.session_id = str(result.get("session_id") or "") or self._reader.session_id
        told = of_result(result, self._reader, turn, interrupted=self._interrupted)
        if told.session_id is not None:
            await watch.event(SessionKnown(told.session_id))
        await watch.event(Said(({"type": "text", "text": told.result},)))
        await watch.event(Spent(told.usage, told.by_model, told.cost_usd))
        return told

    async def interrupt(self) -> None:
        """Stop it: it knows no other way."""
        self._interrupted = True
        await self.process.stop(_KILL_S)

    def expect_end(self) -> None:
        """The process is going to be stopped."""
        self._closed = True

    async def _run(self, prompt: str) -> Mapping[str, Any] | None:
        """The last object of type "result"."""
        result: Mapping[str, Any] | None = None
        try:
            await self.process.send(prompt.encode())
            await self.process.close_stdin()
        except AgentError:  # it reads no more: how it ends says why
            pass
        self._reader.acted = True  # nobody sees what it does
        while (line := await self.process.next_line()) is not None:
            message = parse(line)
            if message is not None and message.get("type") == "result":
                result = message
        return result

    async def _ended(self) -> AgentError:
        code = await self.process.wait()
        ending = Ending(
            code=code,
            stderr=self.process.stderr_tail,
            limited=self.process.limited,
            interrupted=self._interrupted,
            closed=self._closed,
        )
        turn, _ = turn_of(Totals(), None, self._reader.seen)
        return of_end(ending, self._reader, turn)
