"""The conformance kit of agent backends: what the contract promises, tried. For whoever writes one; ours pass it.

    async with open_mine(options, Host(folder=folder)) as backend:
        findings = await measure_agents(backend, folder / "work")
    assert not [finding for finding in findings if finding.outcome == "failed"], findings

The agent under test must be able to answer: a program needs a model, of which a fake one will do. What it answers does
not matter. What a backend does not claim is skipped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import trio

from skill_actors.backends.agents.base import (
    AgentBackend,
    AgentCapabilities,
    AgentError,
    AgentEvent,
    AgentRequest,
    AgentSession,
    AgentSpec,
    PermissionAnswer,
    PermissionQuestion,
    Permitted,
    Said,
    SessionKnown,
    TextDelta,
    ToolBegan,
    ToolEnded,
)
from skill_actors.backends.base import OptionRefused

__all__ = ["AGENT_CHECKS", "AgentCheck", "AgentFinding", "AgentTrial", "measure_agents"]

_TURN_S: Final = 60.0
_END_S: Final = 20.0  # ten times what a backend has to end everything


class Unmeasurable(Exception):
    """Raised by a check that cannot tell anything here; the message says why."""


@dataclass(kw_only=True)
class _Told:
    """Watches a turn, and permits everything."""

    events: list[AgentEvent] = field(default_factory=list)
    began: trio.Event = field(default_factory=trio.Event)

    async def event(self, event: AgentEvent) -> None:
        self.events.append(event)
        self.began.set()

    async def permit(self, question: PermissionQuestion) -> PermissionAnswer:
        return Permitted(question.input)

    def of(self, *kinds: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]


@dataclass(frozen=True, kw_only=True)
class AgentTrial:
    """A backend under test.

    Args:
        folder: where its agents work; made for each session.
        prompt: that it can answer.
        slow_prompt: the answer to which takes longer than a few seconds; "" where there is none: what needs it is
            skipped.

    """

    backend: AgentBackend
    folder: Path
    prompt: str = "Answer with the word ready."
    slow_prompt: str = ""

    async def session(self, name: str = "one", **fields: Any) -> AgentSession:
        """A session in a folder of this name."""
        folder = self.folder / name
        await trio.Path(folder).mkdir(parents=True, exist_ok=True)
        return await self.backend.start_session(AgentSpec(agent=f"ses_{name}", folder=folder, **fields))

    async def slow(self, session: AgentSession, meanwhile: Callable[[], Awaitable[None]]) -> AgentError | None:
        """Have something happen while a turn runs; the error that the turn ends with."""
        if not self.slow_prompt:
            raise Unmeasurable("there is no prompt that takes its time")
        told, failed = _Told(), list[AgentError]()

        async def turn() -> None:
            try:
                await session.send_message(AgentRequest(prompt=self.slow_prompt), told)
            except AgentError as error:
                failed.append(error)

        with trio.fail_after(_TURN_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(turn)
                with trio.move_on_after(_END_S):
                    await told.began.wait()
                await meanwhile()
        return failed[0] if failed else None


@dataclass(frozen=True, slots=True)
class AgentCheck:
    """One promise.

    Args:
        capability: what it belongs to, by its name in AgentCapabilities, or "contract" for what every backend owes.
        title: in words.
        applies: whether it is claimed.
        run: raises AssertionError, with what is wrong, where it does not hold.

    """

    capability: str
    title: str
    applies: Callable[[AgentCapabilities], bool]
    run: Callable[[AgentTrial], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFinding:
    """What became of a check: "skipped" is what is not claimed, or cannot be measured."""

    capability: str
    title: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""


async def measure_agents(
    backend: AgentBackend, folder: Path, *, prompt: str = "Answer with the word ready.", slow_prompt: str = ""
) -> Sequence[AgentFinding]:
    """Try every promise, one after another, in sessions of their own. See `AgentTrial` for the arguments."""
    findings = []
    for number, check in enumerate(AGENT_CHECKS):
        trial = AgentTrial(backend=backend, folder=folder / str(number), prompt=prompt, slow_prompt=slow_prompt)
        findings.append(await _tried(check, trial))
    return findings


async def _tried(check: AgentCheck, trial: AgentTrial) -> AgentFinding:
    outcome: Literal["passed", "failed", "skipped"] = "passed"
    detail = ""
    if not check.applies(trial.backend.capabilities):
        return AgentFinding(capability=check.capability, title=check.title, outcome="skipped", detail="not claimed")
    try:
        with trio.fail_after(3 * _TURN_S):
            await check.run(trial)
    except Unmeasurable as error:
        outcome, detail = "skipped", str(error)
    except (AssertionError, AgentError, trio.TooSlowError) as error:
        outcome, detail = "failed", f"{type(error).__name__}: {error}"
    return AgentFinding(capability=check.capability, title=check.title, outcome=outcome, detail=detail)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


async def _answers(trial: AgentTrial) -> None:
    session = await trial.session()
    _expect(session.turn_count == 0 and session.last_result is None, "a session begins with turns")
    _expect(session.session_id is None, "a session has an id before its first answer")
    _expect(session.total_cost == 0, "a session costs something before its first turn")
    result = await session.send_message(AgentRequest(prompt=trial.prompt))
    _expect(not result.is_error, f"the turn failed: {result.error}: {result.result[:200]}")
    _expect(result.result.strip() != "", "the answer is empty")
    _expect(session.turn_count == 1 and session.last_result == result, "the turn is not remembered")
    _expect(list(session.history) == [result], "the history is not the turn")
    _expect(result.session_id != "" and result.session_id == session.session_id, "the ids of the session differ")
    _expect(session.total_cost == result.cost_usd, "the sum of the costs is not the cost of the one turn")
    await session.stop_session()


async def _options(trial: AgentTrial) -> None:
    _expect(dict(trial.backend.check_options({})) == {}, "no options become some")
    try:
        trial.backend.check_options({"no-such-option-of-anybody": 1})
    except OptionRefused as refused:
        _expect(refused.option == "no-such-option-of-anybody", "the refusal names another option")
        return
    raise AssertionError("an option that nobody has is taken")


async def _stops(trial: AgentTrial) -> None:
    session = await trial.session()
    await session.send_message(AgentRequest(prompt=trial.prompt))
    await session.interrupt()  # where no turn runs nothing happens
    await session.stop_session()
    await session.stop_session()
    try:
        await session.send_message(AgentRequest(prompt=trial.prompt))
    except AgentError as error:
        _expect(error.code == "closed", f"a stopped session says {error.code}")
        return
    raise AssertionError("a stopped session takes messages")


async def _events(trial: AgentTrial) -> None:
    session, told = await trial.session(), _Told()
    result = await session.send_message(AgentRequest(prompt=trial.prompt), told)
    began, ended = {e.id for e in told.of(ToolBegan)}, {e.id for e in told.of(ToolEnded)}
    _expect(began <= ended, "a call that began has no end")
    if result.session_id is not None:
        known = [event.id for event in told.of(SessionKnown)]
        _expect(known[-1:] == [result.session_id], "the id of the session was not told")
    _expect(bool(told.of(Said)), "nothing was told of what the agent said")
    await session.stop_session()


async def _one_at_a_time(trial: AgentTrial) -> None:
    session = await trial.session()

    async def second() -> None:
        try:
            await session.send_message(AgentRequest(prompt=trial.prompt))
        except AgentError as error:
            _expect(error.code == "turn_in_flight", f"a second message is refused as {error.code}")
        else:
            raise AssertionError("two turns of a session run at once")
        await session.stop_session()

    error = await trial.slow(session, second)
    _expect(error is not None and error.code == "closed", "stopping a session does not end its turn as closed")


async def _cancels(trial: AgentTrial) -> None:
    if not trial.slow_prompt:
        raise Unmeasurable("there is no prompt that takes its time")
    session, told, turn = await trial.session(), _Told(), trio.CancelScope()

    async def cancel() -> None:
        with trio.move_on_after(_END_S):
            await told.began.wait()
        turn.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        with turn:
            await session.send_message(AgentRequest(prompt=trial.slow_prompt), told)
    _expect(turn.cancelled_caught, "the turn was over before it could be cancelled")
    with trio.fail_after(_TURN_S):
        result = await session.send_message(AgentRequest(prompt=trial.prompt))
    _expect(not result.is_error, "a session whose turn was cancelled cannot be used again")
    await session.stop_session()


async def _streams(trial: AgentTrial) -> None:
    session, told = await trial.session(), _Told()
    await session.send_message(AgentRequest(prompt=trial.prompt), told)
    written = "".join(event.text for event in told.of(TextDelta))
    said = "".join(
        str(block.get("text", "")) for event in told.of(Said) for block in event.content if block.get("type") == "text"
    )
    _expect(written != "", "no text came before its end")
    _expect(written.strip() == said.strip(), "what was written is not what was said")
    await session.stop_session()


async def _interrupts(trial: AgentTrial) -> None:
    session = await trial.session()
    error = await trial.slow(session, session.interrupt)
    _expect(error is None or error.code == "interrupted", f"an interrupted turn ends as {error and error.code}")
    result = await session.send_message(AgentRequest(prompt=trial.prompt))
    _expect(not result.is_error, "a session whose turn was interrupted cannot be used again")
    await session.stop_session()


async def _resumes(trial: AgentTrial) -> None:
    session = await trial.session()
    first = await session.send_message(AgentRequest(prompt=trial.prompt))
    _expect(first.session_id is not None, "a session that can be resumed has no id")
    totals = dict(session.totals)
    await session.stop_session()
    again = await trial.session(session_id=first.session_id, totals=totals)
    result = await again.send_message(AgentRequest(prompt=trial.prompt))
    _expect(result.session_id == first.session_id, "a resumed session has another id")
    _expect(result.usage.total_tokens <= 3 * max(first.usage.total_tokens, 1), "counters of earlier turns count again")
    await again.stop_session()


async def _loses(trial: AgentTrial) -> None:
    session = await trial.session(session_id="00000000-0000-4000-8000-000000000000")
    try:
        await session.send_message(AgentRequest(prompt=trial.prompt))
    except AgentError as error:
        _expect(error.code == "session_lost", f"a session that is unknown is {error.code}")
        _expect(not error.acted, "a session that is unknown has acted")
    else:
        raise AssertionError("a session that is unknown was gone on with")
    await session.stop_session()


def _always(_: AgentCapabilities) -> bool:
    return True


AGENT_CHECKS: Final = (
    AgentCheck("contract", "a message is answered, and remembered", _always, _answers),
    AgentCheck("contract", "an unknown option is refused by name", _always, _options),
    AgentCheck("contract", "a stopped session takes no messages, and may be stopped again", _always, _stops),
    AgentCheck("contract", "events tell what was said, and the end of every call", _always, _events),
    AgentCheck("contract", "a session has one turn at a time, and stopping it ends that", _always, _one_at_a_time),
    AgentCheck("contract", "a cancelled turn leaves a session that goes on", _always, _cancels),
    AgentCheck("stream", "text comes while it is written", lambda can: can.stream, _streams),
    AgentCheck(
        "interrupt", "an interrupted turn ends, and the session goes on", lambda can: can.interrupt, _interrupts
    ),
    AgentCheck("resume", "a session goes on in another process", lambda can: can.resume, _resumes),
    AgentCheck("resume", "a session that is unknown is told as lost", lambda can: can.resume, _loses),
)
