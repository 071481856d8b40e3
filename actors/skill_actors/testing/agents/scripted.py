"""An agent backend without programs: its agents do what a test says, at once or when its virtual clock says so."""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

import trio

from skill_actors.backends.agents.base import (
    NO_USAGE,
    AgentCapabilities,
    AgentError,
    AgentErrorCode,
    AgentEvent,
    AgentRequest,
    AgentResult,
    AgentSpec,
    Denial,
    PermissionQuestion,
    Permitted,
    Said,
    SessionKnown,
    Spent,
    TextDelta,
    ToolBegan,
    ToolEnded,
    Watch,
)
from skill_actors.backends.agents.turns_kept import KeepsTurns
from skill_actors.backends.base import BackendUnavailable, OptionRefused
from skill_actors.models.base import Usage

__all__ = [
    "Die",
    "Fail",
    "Hang",
    "Say",
    "ScriptedAgents",
    "Spend",
    "Step",
    "Tell",
    "UseTool",
    "Wait",
    "echo",
]

_ALL: Final = AgentCapabilities(
    stream=True,
    interrupt=True,
    resume=True,
    fork=True,
    approvals=True,
    budget="money",
    structured_output=True,
    images=True,
    mcp=True,
)
_MODEL: Final = "scripted-agent"


@dataclass(frozen=True, slots=True)
class Say:
    """The agent answers, in deltas of a word each; the last of these is the result."""

    text: str


@dataclass(frozen=True, slots=True)
class UseTool:
    """The agent runs a tool.

    Args:
        output: what comes of it.
        ask: whether it asks before; refused, it runs nothing and goes on with the next step.
        id: a new one where it is "".
        beyond: as a PermissionQuestion has it.

    """

    name: str
    input: Mapping[str, Any] = field(default_factory=dict)
    output: str = "done"
    ask: bool = False
    is_error: bool = False
    id: str = ""
    beyond: str = ""


@dataclass(frozen=True, slots=True)
class Spend:
    """From here on the turn has taken this in all; `cost_usd` is None where the agent does not know."""

    usage: Usage = NO_USAGE
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Time passes, on trio's clock."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing happens until somebody ends the turn, or sets `until`; `reached` is set when it has come so far."""

    reached: trio.Event = field(default_factory=trio.Event)
    until: trio.Event = field(default_factory=trio.Event)


@dataclass(frozen=True, slots=True)
class Tell:
    """Any event, as it is."""

    event: AgentEvent


@dataclass(frozen=True, slots=True)
class Fail:
    """The agent says that it failed: a result with `is_error`."""

    code: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Die:
    """The agent's program ends in the middle of the turn: an AgentError."""

    code: AgentErrorCode = "command_failed"
    message: str = "the program ended with status 1"
    retry_after_s: float | None = None


Step = Say | UseTool | Spend | Wait | Hang | Tell | Fail | Die
Script = Callable[[AgentRequest], Sequence[Step]]


def echo(request: AgentRequest) -> Sequence[Step]:
    """One answer with what was said, for a cent."""
    usage = Usage(input_tokens=len(request.prompt), output_tokens=len(request.prompt))
    return [Spend(usage, 0.01), Say(f"You said: {request.prompt}")]


class ScriptedAgents:
    """An AgentBackend whose agents play what a test wrote.

    Args:
        turns: steps of the first turns, in order, whoever asks for them.
        otherwise: asked for the steps of all others.
        options: names of the options that sessions may have; any value will do.
        known: ids of sessions that there were before.

    Attributes:
        specs: with which sessions were started.
        requests: all so far.
        running: turns under way.
        unavailable: while it is not "", nothing can be started and `check` says this.
        checked: how often `check` was called.

    """

    def __init__(
        self,
        turns: Iterable[Sequence[Step]] = (),
        *,
        otherwise: Script = echo,
        name: str = "scripted",
        capabilities: AgentCapabilities = _ALL,
        options: Sequence[str] = ("mood",),
        known: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.capabilities = capabilities
        self.specs: list[AgentSpec] = []
        self.requests: list[AgentRequest] = []
        self.running = 0
        self.unavailable = ""
        self.checked = 0
        self._turns = deque(turns)
        self._otherwise = otherwise
        self._options = frozenset(options)
        self._known = set(known)
        self._numbers = itertools.count(1)
        self._sessions: list[ScriptedSession] = []

    async def check(self) -> None:
        """Raise BackendUnavailable if a test says so."""
        await trio.lowlevel.checkpoint()
        self.checked += 1
        if self.unavailable:
            raise BackendUnavailable(self.unavailable)

    def check_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raise OptionRefused for a name that a test did not give."""
        for name, value in options.items():
            if name not in self._options:
                raise OptionRefused(self.name, name, value, f"it has {', '.join(sorted(self._options))}")
        return dict(options)

    async def facts(self) -> Mapping[str, Any]:
        """How many sessions there are."""
        return {"version": "scripted", "sessions": len(self._sessions)}

    async def start_session(self, spec: AgentSpec) -> ScriptedSession:
        """Raises BackendUnavailable as `check`."""
        await self.check()
        self.specs.append(spec)
        session = ScriptedSession(self, spec)
        self._sessions.append(session)
        return session

    async def aclose(self) -> None:
        """Stop all sessions."""
        for session in self._sessions:
            await session.stop_session()

    def enqueue(self, *turns: Sequence[Step]) -> None:
        """Further turns, behind those that wait."""
        self._turns.extend(turns)

    def forget_sessions(self) -> None:
        """No id is known any more, as if the programs' own files were lost."""
        self._known.clear()

    def _steps(self, request: AgentRequest) -> Sequence[Step]:
        self.requests.append(request)
        return self._turns.popleft() if self._turns else self._otherwise(request)

    def _begin(self, spec: AgentSpec) -> str:
        """The id of the session that this one is. Raises AgentError."""
        if spec.session_id is not None and spec.session_id not in self._known:
            raise AgentError("session_lost", f"there is no session {spec.session_id}")
        if spec.session_id is not None and not spec.fork:
            return spec.session_id
        made = f"agent-{next(self._numbers)}-{secrets.token_hex(4)}"
        self._known.add(made)
        return made


class ScriptedSession(KeepsTurns):
    """An AgentSession that plays steps."""

    def __init__(self, backend: ScriptedAgents, spec: AgentSpec) -> None:
        super().__init__(None if spec.fork else spec.session_id)
        self._backend = backend
        self._spec = spec
        self._turns = int(spec.totals.get("turns", 0))
        self._scope: trio.CancelScope | None = None
        self._ended_by: AgentErrorCode | None = None
        self._begun = False

    @property
    def totals(self) -> Mapping[str, Any]:
        """How many turns this session has had, over all of its lives."""
        return {"turns": self._turns}

    async def interrupt(self) -> None:
        """End the turn."""
        await self._end("interrupted")

    async def stop_session(self) -> None:
        """End the turn, and take no more messages."""
        self.stopped = True
        await self._end("closed")

    async def _turn_of(self, request: AgentRequest, watch: Watch) -> AgentResult:
        """Play the next steps."""
        self._scope, self._ended_by = trio.CancelScope(), None
        self._backend.running += 1
        play = _Play(request, watch, self._backend.capabilities)
        result: AgentResult | None = None
        try:
            with self._scope:
                if not self._begun:
                    self.session_id = self._backend._begin(self._spec)
                    self._begun = True
                assert self.session_id is not None
                play.session_id = self.session_id
                await watch.event(SessionKnown(self.session_id))
                result = await play.run(self._backend._steps(request))
        finally:
            self._scope = None
            self._backend.running -= 1
            self._turns += 1
        if result is None:
            raise play.error(self._end_code(), "the turn was ended")
        return result

    def _end_code(self) -> AgentErrorCode:
        return self._ended_by or "terminated"

    async def _end(self, code: AgentErrorCode) -> None:
        await trio.lowlevel.checkpoint()
        if self._scope is not None:
            self._ended_by = self._ended_by or code
            self._scope.cancel()


class _Play:
    """One turn."""

    def __init__(self, request: AgentRequest, watch: Watch, capabilities: AgentCapabilities) -> None:
        self._request = request
        self._watch = watch
        self._capabilities = capabilities
        self._began_s = trio.current_time()
        self._said: list[str] = []
        self._text = ""
        self._usage = NO_USAGE
        self._cost_usd: float | None = 0.0
        self._answers = 0
        self._acted = False
        self._denials: list[Denial] = []
        self.session_id: str | None = None

    async def run(self, steps: Sequence[Step]) -> AgentResult:
        for step in steps:
            await trio.lowlevel.checkpoint()
            match step:
                case Say(text):
                    await self._say(text)
                case UseTool():
                    await self._use(step)
                case Spend(usage, cost_usd):
                    self._usage, self._cost_usd = usage, cost_usd
                    await self._watch.event(Spent(usage, {_MODEL: usage}, cost_usd))
                    if self._is_over(cost_usd):
                        return self._result(error="max_budget_exceeded")
                case Wait(seconds):
                    await trio.sleep(seconds)
                case Hang(reached, until):
                    reached.set()
                    await until.wait()
                case Tell(event):
                    await self._watch.event(event)
                case Fail(code, text):
                    self._text = text or self._text
                    return self._result(error=code)
                case Die(code, message, retry_after_s):
                    raise self.error(code, message, retry_after_s)
                case _:
                    assert_never(step)
        return self._result()

    def error(self, code: AgentErrorCode, message: str, retry_after_s: float | None = None) -> AgentError:
        return AgentError(
            code,
            message,
            partial="".join(self._said),
            session_id=self.session_id,
            usage=self._usage,
            by_model={_MODEL: self._usage},
            cost_usd=self._cost_usd,
            acted=self._acted,
            retry_after_s=retry_after_s,
        )

    async def _say(self, text: str) -> None:
        if self._capabilities.stream:
            for word in text.splitlines(keepends=True) if "\n" in text else [text]:
                self._said.append(word)
                await self._watch.event(TextDelta(word))
        else:
            self._said.append(text)
        self._text = text
        self._answers += 1
        await self._watch.event(Said([{"type": "text", "text": text}]))

    async def _use(self, step: UseTool) -> None:
        id = step.id or f"toolu_{secrets.token_hex(8)}"
        self._answers += 1
        use = {"type": "tool_use", "id": id, "name": step.name, "input": dict(step.input)}
        await self._watch.event(Said([use]))
        input = step.input
        if step.ask:
            question = PermissionQuestion(tool=step.name, input=step.input, id=id, beyond=step.beyond)
            match await self._watch.permit(question):
                case Permitted(given):
                    input = given
                case refusal:
                    self._denials.append(Denial(tool=step.name, id=id, input=step.input))
                    await self._watch.event(ToolEnded(id, refusal.reason, is_error=True))
                    if refusal.stop:
                        raise self.error("refused", refusal.reason)
                    return
        self._acted = True
        await self._watch.event(ToolBegan(id, step.name, input))
        await trio.lowlevel.checkpoint()
        await self._watch.event(ToolEnded(id, step.output, step.is_error))

    def _is_over(self, cost_usd: float | None) -> bool:
        most = self._request.max_cost_usd
        return self._capabilities.budget == "money" and most is not None and cost_usd is not None and cost_usd > most

    def _result(self, *, error: str | None = None) -> AgentResult:
        return AgentResult(
            result=self._text,
            session_id=self.session_id,
            cost_usd=self._cost_usd,
            is_error=error is not None,
            duration_ms=int((trio.current_time() - self._began_s) * 1000),
            num_turns=max(self._answers, 1),
            usage=self._usage,
            by_model={_MODEL: self._usage},
            model=_MODEL,
            stop_reason="end_turn" if error is None else None,
            denials=tuple(self._denials),
            error=error,
        )
