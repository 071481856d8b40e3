"""The long-lived `codex app-server`: requests and answers, notifications, and questions, one JSON message a line.

One task at a time calls and reads; any task may send.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import trio

from skill_actors.backends.agents.base import AgentError
from skill_actors.backends.agents.codex.outcome import code_of_text
from skill_actors.backends.agents.codex.program import Program
from skill_actors.backends.agents.codex.reading import parse

__all__ = ["Server", "answer_of", "is_answer", "why_ended"]

_CLIENT: Final = {"name": "skilld", "title": "skilld", "version": "1"}
_STDERR_CHARS: Final = 600


class Server:
    """What is said to, and heard of, one running server."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._number = 0
        self._unheard: deque[Mapping[str, Any]] = deque()
        self._sending = trio.Lock()

    async def begin(self) -> None:
        """Make acquaintance. Raises AgentError."""
        await self.call("initialize", {"clientInfo": _CLIENT, "capabilities": {"experimentalApi": False}})
        await self.send({"method": "initialized"})

    async def call(self, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask, and wait for the answer; what else is heard meanwhile comes from `next` later.

        Raises:
            AgentError: the server refuses, with its words; or it has ended, or says what nobody can read.

        """
        number = await self.request(method, params)
        heard: list[Mapping[str, Any]] = []
        try:
            while (message := await self.next()) is not None:
                if is_answer(message, number):
                    return answer_of(method, message)
                heard.append(message)
        finally:
            self._unheard.extend(heard)
        raise await why_ended(self.program)

    async def request(self, method: str, params: Mapping[str, Any]) -> int:
        """Ask without waiting; the number of the answer."""
        self._number += 1
        number = self._number
        await self.send({"id": number, "method": method, "params": dict(params)})
        return number

    async def send(self, message: Mapping[str, Any]) -> None:
        """Say something. Raises AgentError "terminated" if nobody reads it any more."""
        data = json.dumps(message).encode() + b"\n"
        async with self._sending:
            await self.program.process.send(data)

    async def next(self) -> Mapping[str, Any] | None:
        """What is heard next; None once the server has ended. Lines that are no messages are passed over.

        Raises:
            AgentError: "protocol" for a line longer than it may be.

        """
        if self._unheard:
            return self._unheard.popleft()
        while (line := await self.program.process.next_line()) is not None:
            message = parse(line)
            if message is not None:
                return message
        return None


def is_answer(message: Mapping[str, Any], number: int) -> bool:
    return message.get("id") == number and "method" not in message


def answer_of(method: str, message: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an answer holds. Raises AgentError where it is a refusal."""
    error = message.get("error")
    if error is not None:
        words = str(error.get("message") if isinstance(error, Mapping) else error)
        raise AgentError(code_of_text(words), f"codex refuses {method}: {words[:1000]}")
    result = message.get("result")
    return result if isinstance(result, Mapping) else {}


async def why_ended(program: Program) -> AgentError:
    """The error for a program that ended by itself; waits for its end."""
    process = program.process
    code = await process.wait()
    if process.limited:
        return AgentError("terminated", f"codex was ended: {process.limited}")
    said = process.stderr_tail.strip()
    words = f"codex ended with {code}" + (f": {_beginning(said)}" if said else "")
    return AgentError(code_of_text(said) if code > 0 else "terminated", words)


def _beginning(text: str) -> str:
    """The words of an error, without what a debugger would want of it."""
    return text.partition("Stack backtrace:")[0].strip()[-_STDERR_CHARS:]
