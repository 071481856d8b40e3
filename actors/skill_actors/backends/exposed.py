"""The actors that native skills may ask: a list of names, which is empty unless somebody fills it.

A question is a JSON value, and so is the answer, whether the skill runs in this process or in another: nothing of an
actor is ever shared. An actor is given the question as its message; what it raises, the skill gets as an error. If a
handler raises something other than a Reject, its actor crashes, as with any other message: expose none that does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn, Protocol

import pykka
import trio

from skill_actors.native.contract import MAX_ASK_BYTES
from skill_actors.runtime import AskCycle, HandlerInterrupted, NameNotRegistered

__all__ = ["Askable", "Exposed"]

_LONGEST_S: Final = 86_400.0


class Askable(Protocol):
    """What a question is put to: a TrioActorRef, or `directory.named(...)`, which stays good over restarts."""

    async def call(self, message: Any, *, timeout: float | None = 5.0) -> Any:
        """Ask, and wait so many seconds for the answer."""

    async def send(self, message: object) -> None:
        """Put a message into its mailbox, waiting for room."""


class Exposed:
    """Answers what native skills ask.

    Args:
        actors: who may be asked, by name.

    """

    def __init__(self, actors: Mapping[str, Askable]) -> None:
        self._actors = actors

    async def answer(self, question: Any) -> Any:
        """{"answer"}, or {"kind", "error"}, for a question as `skill_actors.native.contract` has it. Does not raise."""
        return json.loads(await self._answer(question))

    async def answer_bytes(self, question: Any) -> bytes:
        """The same, both as JSON in bytes."""
        if not isinstance(question, bytes) or len(question) > MAX_ASK_BYTES:
            return _failed("not_json", "the question is no JSON, or too long").encode()
        try:
            asked = json.loads(question, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return _failed("not_json", "the question is no JSON").encode()
        return (await self._answer(asked)).encode()

    async def _answer(self, question: Any) -> str:
        """As JSON: an answer is written once, which is what it takes to know that it can be."""
        try:
            name, message = str(question["to"]), question["message"]
            timeout_s, tell = float(question["timeout_s"]), bool(question["tell"])
        except (TypeError, KeyError, ValueError, OverflowError):
            return _failed("not_json", "the question has not what a question has")
        actor = self._actors.get(name)
        if actor is None:
            known = ", ".join(sorted(self._actors)) or "none"
            return _failed("not_exposed", f"skills may not ask the actor {name!r:.100}; they may ask: {known}")
        return await self._ask(name, actor, message, max(0.0, min(_LONGEST_S, timeout_s)), tell)

    async def _ask(self, name: str, actor: Askable, message: Any, timeout_s: float, tell: bool) -> str:
        late = _failed("timeout", f"the actor {name!r} did not answer within {timeout_s:.3g} s")
        try:
            if not tell:
                return _told(name, await actor.call(message, timeout=timeout_s))
            with trio.move_on_after(timeout_s):
                await actor.send(message)
                return _told(name, None)
            return late
        except pykka.Timeout:
            return late
        except (pykka.ActorDeadError, NameNotRegistered, HandlerInterrupted):
            return _failed("gone", f"the actor {name!r} is not there, or ended before it answered")
        except AskCycle:
            return _failed("refused", f"the actor {name!r} waits for this very call, so it cannot answer")
        except Exception as error:  # whatever its handler raised; it has been reported where the actor ended
            return _failed("refused", f"the actor {name!r} refused: {type(error).__name__}: {error}"[:2_000])


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _told(name: str, answer: Any) -> str:
    try:
        told = json.dumps({"answer": answer}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return _failed("not_json", f"the actor {name!r} answered with what is no JSON: {error}"[:2_000])
    if len(told) > MAX_ASK_BYTES:
        return _failed("not_json", f"the answer of the actor {name!r} takes more than {MAX_ASK_BYTES} bytes")
    return told


def _failed(kind: str, error: str) -> str:
    return json.dumps({"kind": kind, "error": error})
