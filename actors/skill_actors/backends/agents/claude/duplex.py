"""A conversation with one long-lived `claude` process: stream-json both ways, one turn at a time.

What is sent: requests of the control protocol, answers to those of the program, and a user's message for each turn. The
program says each message again when it takes it up, which may come after the first words of its turn; what ends with a
result before that is a turn of its own. It asks before tools run, and may withdraw a question; questions wait beside
the turn, which goes on being read.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, count
from typing import Any, Final

import trio

from skill_actors.backends.agents.base import (
    AgentError,
    AgentEvent,
    AgentResult,
    PermissionQuestion,
    Permitted,
    Raw,
    Watch,
)
from skill_actors.backends.agents.claude.metering import Totals, mapping, turn_of
from skill_actors.backends.agents.claude.outcome import Ending, error_of, of_end, of_result
from skill_actors.backends.agents.claude.reading import TurnReader, parse
from skill_actors.backends.agents.process import AgentProcess

__all__ = ["Duplex"]

_READY_S: Final = 60.0  # for a process to answer its first request; a busy host starts it slowly
_CANCEL_S: Final = 0.7  # for a turn to end after an interrupt when its caller is cancelled
_KILL_S: Final = 0.3  # from SIGTERM to SIGKILL then


class Duplex:
    """Made once the process runs; `open` it before the first turn."""

    def __init__(self, process: AgentProcess, session_id: str | None) -> None:
        self.process = process
        self.session_id = session_id
        self.totals = Totals()
        self.usable = True  # a next turn can be tried
        self.taken_up = True  # the last message had been; else nothing of it has happened
        self._numbers = count(1)
        self._sending = trio.Lock()
        self._turn: _Turn | None = None

    @property
    def spent_usd(self) -> float:
        """Of its life so far, which is what its cap is compared with."""
        return self.totals.cost_usd

    async def open(self, initialization: Mapping[str, Any]) -> None:
        """Wait until the process is there. Raises AgentError."""
        reader = TurnReader(self.session_id)
        with trio.move_on_after(_READY_S):
            wanted = await self._ask(initialization)
            while (line := await self.process.next_line()) is not None:
                message = parse(line) or {}
                response = mapping(message.get("response"))
                if message.get("type") == "result":  # it cannot go on with the session it was to resume
                    self.usable = False
                    turn, _ = turn_of(self.totals, message, reader.seen)
                    of_result(message, reader, turn, interrupted=False)
                if message.get("type") == "control_response" and response.get("request_id") == wanted:
                    if response.get("subtype") == "success":
                        return
                    self.usable = False
                    raise AgentError("version_mismatch", f"the agent does not start: {response.get('error')!r:.500}")
            raise await self._ended(reader, interrupted=False, closed=False, begun=False)
        self.usable = False
        raise AgentError("timeout", f"the agent was not ready within {_READY_S:g} s")

    async def perform(self, content: Sequence[Mapping[str, Any]], watch: Watch) -> AgentResult:
        """One turn. If it is cancelled, or the watch raises, the turn is ended: by an interrupt, else with its process.

        Raises:
            AgentError: the turn has no result.

        """
        turn = self._turn = _Turn(self, watch)
        try:
            return await turn.run(content)
        finally:
            self._turn = None

    async def interrupt(self) -> None:
        """Ask the turn to end. Nothing happens where there is none."""
        if self._turn is not None:
            self._turn.interrupted = True
            await self._ask({"subtype": "interrupt"})

    def expect_end(self) -> None:
        """The process is going to be stopped: that is how its turn ends."""
        self.usable = False
        if self._turn is not None:
            self._turn.closed = True

    async def _ask(self, request: Mapping[str, Any]) -> str:
        number = f"skilld-{next(self._numbers)}"
        await self.send({"type": "control_request", "request_id": number, "request": request})
        return number

    async def send(self, message: Mapping[str, Any]) -> None:
        """One line. It is sent whole: half a line would spoil the next."""
        data = json.dumps(message).encode() + b"\n"
        async with self._sending:
            try:
                await self.process.send(data)
            except BaseException:
                self.usable = False
                raise

    async def _ended(self, reader: TurnReader, *, interrupted: bool, closed: bool, begun: bool) -> AgentError:
        """The error for a process that says no more. `begun`: it had taken the turn's message up."""
        self.taken_up = begun
        self.usable = False
        with trio.move_on_after(_KILL_S):
            await self.process.wait()
        code = await self.process.stop(_KILL_S)
        ending = Ending(
            code=code,
            stderr=self.process.stderr_tail,
            limited=self.process.limited,
            interrupted=interrupted,
            closed=closed,
        )
        taken, _ = turn_of(self.totals, None, reader.seen)
        return of_end(ending, reader, taken)


class _Turn:
    """One turn of a process."""

    def __init__(self, duplex: Duplex, watch: Watch) -> None:
        self._duplex = duplex
        self._watch = watch
        self._reader = TurnReader(duplex.session_id)
        self._id = str(uuid.uuid4())
        self._begun = False  # the program has taken the message up
        self._is_command = False  # one of the program's own: it is not said again
        self._early: list[Mapping[str, Any]] = []  # what it said before that: the beginning of our turn, or another's
        self._over = False  # it says no more
        self._result: Mapping[str, Any] | None = None
        self._questions: dict[str, trio.CancelScope] = {}
        self._failure: Exception | None = None  # of the watch, or of what is read
        self.interrupted = False
        self.closed = False

    async def run(self, content: Sequence[Mapping[str, Any]]) -> AgentResult:
        try:
            async with trio.open_nursery() as nursery:
                await self._try(content, nursery)
                nursery.cancel_scope.cancel()
        finally:
            if self._result is None and not self._over:
                with trio.CancelScope(shield=True):
                    await self._give_up()
        if self._failure is not None:
            raise self._failure  # not from within the nursery, so that it does not come as a group
        if self._result is None:
            raise await self._duplex._ended(
                self._reader, interrupted=self.interrupted, closed=self.closed, begun=self._begun
            )
        return self._conclude(self._result)

    async def _try(self, content: Sequence[Mapping[str, Any]], nursery: trio.Nursery) -> None:
        self._is_command = str(content[0].get("text")).startswith("/")
        try:
            await self._duplex.send(self._message(content))
            self._result = await self._read(nursery)
            self._over = self._result is None
        except AgentError as error:
            if error.code == "terminated":  # it reads no more: what it has said says why
                self._over = True
            else:
                self._failure = self._spoiled(error)
        except Exception as error:  # of the watch
            self._failure = error

    def _spoiled(self, error: AgentError) -> AgentError:
        """The error with what is known of the turn."""
        self._duplex.usable = False
        turn, _ = turn_of(self._duplex.totals, None, self._reader.seen)
        return error_of(error.code, error.message, self._reader, turn)

    def _message(self, content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "type": "user",
            "message": {"role": "user", "content": list(content)},
            "uuid": self._id,
            "parent_tool_use_id": None,
            "session_id": self._duplex.session_id or "",
        }

    def _conclude(self, result: Mapping[str, Any]) -> AgentResult:
        turn, self._duplex.totals = turn_of(self._duplex.totals, result, self._reader.seen)
        self._duplex.session_id = self._reader.session_id
        return of_result(result, self._reader, turn, interrupted=self.interrupted)

    async def _give_up(self) -> None:
        """End the turn for a caller who waits no more, and keep the process if it ends its turn soon."""
        if self._duplex.usable:
            with trio.move_on_after(_CANCEL_S), suppress(AgentError):
                await self._duplex.interrupt()
                result = await self._read(None)
                if result is not None:
                    with suppress(AgentError):
                        self._conclude(result)
                    return
        self._duplex.usable = False
        await self._duplex.process.stop(_KILL_S)

    async def _read(self, nursery: trio.Nursery | None) -> Mapping[str, Any] | None:
        """Read until the turn's result; None if the process ends first. Without a nursery nobody is told anything."""
        while (line := await self._duplex.process.next_line()) is not None:
            message = parse(line)
            if message is None:
                events = self._reader.take(line)
            elif self._is_result(message) or message.get("type") == "control_request":
                events = chain(self._begin(), self._reader.flush())
            else:
                events = self._events(message)
            for event in events:
                if nursery is not None:
                    await self._watch.event(event)
            if message is not None and self._is_result(message):
                return message
            if nursery is not None and message is not None and message.get("type") == "control_request":
                request = mapping(message.get("request"))
                nursery.start_soon(self._answer, str(message.get("request_id")), request, nursery)
        return None

    def _is_result(self, message: Mapping[str, Any]) -> bool:
        """Whether this is how our turn ended: a turn that the program began by itself has a result as well."""
        return message.get("type") == "result" and (self._begun or self.interrupted or self._is_command)

    def _events(self, message: Mapping[str, Any]) -> Iterator[AgentEvent]:
        match message.get("type"):
            case "control_cancel_request":
                if scope := self._questions.get(str(message.get("request_id"))):
                    scope.cancel()
                return iter(())
            case "control_response":
                return iter(())
            case "user" if message.get("isReplay") is True:
                return self._begin() if message.get("uuid") == self._id else iter(())
            case kind if self._begun or kind == "system":
                return self._reader.read(message)
            case "result":  # of a turn that the program began by itself, and so is all that was early
                raw = [Raw(early) for early in (*self._early, message)]
                self._early = []
                return iter(raw)
            case _:
                self._early.append(message)
                return iter(())

    def _begin(self) -> Iterator[AgentEvent]:
        self._begun = True
        early, self._early = self._early, []
        for message in early:
            yield from self._reader.read(message)

    # Questions

    async def _answer(self, number: str, request: Mapping[str, Any], nursery: trio.Nursery) -> None:
        with trio.CancelScope() as scope:
            self._questions[number] = scope
            try:
                await self._duplex.send({"type": "control_response", "response": await self._said(number, request)})
            except AgentError:  # the program has ended, which is seen by who reads
                pass
            except Exception as error:  # of the watch
                self._failure = error
                nursery.cancel_scope.cancel()
            finally:
                del self._questions[number]

    async def _said(self, number: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if request.get("subtype") != "can_use_tool":
            subtype = str(request.get("subtype"))[:100]
            return {"subtype": "error", "request_id": number, "error": f"there is no {subtype} here"}
        question = PermissionQuestion(
            tool=str(request.get("tool_name")),
            input=mapping(request.get("input")),
            id=str(request.get("tool_use_id") or number),
            suggestions=_list(request.get("permission_suggestions")),
        )
        answer = await self._watch.permit(question)
        if isinstance(answer, Permitted):
            said: dict[str, Any] = {"behavior": "allow", "updatedInput": dict(answer.input)}
        else:
            said = {"behavior": "deny", "message": answer.reason, "interrupt": answer.stop}
        return {"subtype": "success", "request_id": number, "response": said}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
