"""The contract of an agent backend: a whole agent, such as a program of its own, that performs turns.

An executor runs one tool call; a model answers one request. An agent backend does what lies between them itself: it is
given a message and comes back when its agent has nothing more to do. What it did on the way it tells as events, so that
a conversation can write them down, charge them and stop it; what it may do it asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from skill_actors.backends.base import Image
from skill_actors.models.base import Block, Usage

__all__ = [
    "MAX_HISTORY",
    "NO_USAGE",
    "QUIET",
    "AgentBackend",
    "AgentCapabilities",
    "AgentError",
    "AgentErrorCode",
    "AgentEvent",
    "AgentRequest",
    "AgentResult",
    "AgentSession",
    "AgentSpec",
    "BudgetKind",
    "Denial",
    "McpServer",
    "Notice",
    "PermissionAnswer",
    "PermissionQuestion",
    "Permitted",
    "Raw",
    "Refusal",
    "Retrying",
    "Said",
    "SessionKnown",
    "Spent",
    "TextDelta",
    "ToolBegan",
    "ToolEnded",
    "Watch",
]

MAX_HISTORY: Final = 1000  # results that a session remembers
NO_USAGE: Final = Usage()

BudgetKind = Literal["money", "tokens", "none"]

AgentErrorCode = Literal[
    "auth",
    "binary_not_found",
    "circuit_open",
    "closed",
    "command_failed",
    "interrupted",
    "io",
    "max_budget_exceeded",
    "max_turns_exceeded",
    "overloaded",
    "protocol",
    "refused",
    "session_lost",
    "terminated",
    "timeout",
    "turn_in_flight",
    "version_mismatch",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCapabilities:
    """What an agent backend claims.

    Args:
        stream: text arrives as `TextDelta` while the agent writes.
        interrupt: `interrupt` ends a turn so that the session can go on.
        resume: a session that is known by its id goes on in another process, also after this one was killed.
        fork: a session can be begun as a copy of another.
        approvals: the agent asks `Watch.permit` before a tool runs.
        budget: "money": it keeps to `AgentRequest.max_cost_usd` by itself; "tokens": it tells what it spent while a
            turn runs, so that whoever watches can interrupt it; "none": nobody knows before the end.
        structured_output: it keeps to `AgentRequest.schema`.
        images: it takes `AgentRequest.images`.
        mcp: it takes `AgentSpec.mcp`.

    """

    stream: bool = False
    interrupt: bool = False
    resume: bool = False
    fork: bool = False
    approvals: bool = False
    budget: BudgetKind = "none"
    structured_output: bool = False
    images: bool = False
    mcp: bool = False

    def facts(self) -> dict[str, bool | str]:
        """Each by name, as JSON has them."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """A server of tools that the agent is to have: a program on its standard streams, or one at an address.

    Args:
        command: argv of the program; () where `url` is set.
        environment: added to that of the program.
        url: of a server that speaks streamable HTTP; None where `command` is set.
        headers: sent to it.

    """

    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """What an agent's session is begun with, or gone on with.

    Args:
        agent: whose it is: the id of the conversation.
        folder: where the agent works; it exists. A session is resumed from the folder it was begun in.
        options: of this session, checked by `AgentBackend.check_options`.
        system: what its system prompt has besides; given at every start, as programs forget it.
        model: by name; None for the backend's own choice.
        session_id: of the backend's session to go on with; None for a new one.
        totals: `AgentSession.totals` as they were when it was let go of.
        fork: go on with a copy of `session_id`, which keeps what it has.
        mcp: further servers of tools, by name.

    """

    agent: str
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    system: str = ""
    model: str | None = None
    session_id: str | None = None
    totals: Mapping[str, Any] = field(default_factory=dict)
    fork: bool = False
    mcp: Mapping[str, McpServer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRequest:
    """One message, and what differs in this turn. None: as the session has it.

    Args:
        prompt: never in a command line, which has a bound and which every user of the host can read.
        model: by name.
        effort: how much the model is to think, in the API's words.
        max_tokens: of one answer of the model.
        max_cost_usd: what the turn may cost; kept to by a backend whose `budget` is "money".
        schema: a JSON schema that the answer has to keep to.
        images: shown beside the prompt.

    """

    prompt: str
    model: str | None = None
    effort: str | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None
    schema: Mapping[str, Any] | None = None
    images: Sequence[Image] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A call that the agent was not allowed to make."""

    tool: str
    id: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentResult:
    """How a turn ended.

    Args:
        result: the answer's text.
        session_id: of the backend's session; None if it has none.
        cost_usd: of this turn; None where nobody knows, never 0 for that.
        is_error: the agent says that it failed; `error` says how.
        duration_ms: of the turn, as the agent tells it.
        num_turns: how often its model answered.
        usage: of this turn, all models together.
        by_model: the same by the name of each model, where the agent tells them apart; sums up to `usage`.
        model: that gave the answer.
        stop_reason: of the answer, in the API's words.
        denials: calls that were not permitted.
        structured_output: the answer, where a schema was asked for.
        error: a code where `is_error`.

    """

    result: str
    session_id: str | None = None
    cost_usd: float | None = None
    is_error: bool = False
    duration_ms: int | None = None
    num_turns: int | None = None
    usage: Usage = NO_USAGE
    by_model: Mapping[str, Usage] = field(default_factory=dict)
    model: str | None = None
    stop_reason: str | None = None
    denials: Sequence[Denial] = ()
    structured_output: Any = None
    error: str | None = None


class AgentError(Exception):
    """A turn that has no result.

    Args:
        code: "interrupted" after `AgentSession.interrupt`; "closed" after `stop_session`; "session_lost" if the id is
            of no session any more.
        message: in words, with the remedy where there is one.
        partial: what the agent had said.
        session_id: of its session, as far as it is known.
        usage: as far as it was told.
        by_model: likewise.
        cost_usd: likewise; None where nobody knows.
        acted: it may have had effects, so that it must not be tried again by itself.
        retry_after_s: seconds after which it may be tried again, where the agent or its API has told them.

    """

    def __init__(
        self,
        code: AgentErrorCode,
        message: str,
        *,
        partial: str = "",
        session_id: str | None = None,
        usage: Usage = NO_USAGE,
        by_model: Mapping[str, Usage] | None = None,
        cost_usd: float | None = None,
        acted: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code: AgentErrorCode = code
        self.message = message
        self.partial = partial
        self.session_id = session_id
        self.usage = usage
        self.by_model: Mapping[str, Usage] = by_model or {}
        self.cost_usd = cost_usd
        self.acted = acted
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class SessionKnown:
    """The backend's session has this id from now on."""

    id: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The agent writes. A `Said` with the whole follows."""

    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """An answer of the agent's model, whole: text, thinking and tool_use blocks in the Messages API's shape."""

    content: Sequence[Block]


@dataclass(frozen=True, slots=True)
class ToolBegan:
    """A call of the agent runs, and may have effects from now on."""

    id: str
    name: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A call is done. `content` is what the agent's model reads of it, as text."""

    id: str
    content: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class Spent:
    """What the turn has taken so far, not what came since the last of these. `cost_usd` is None if unknown."""

    usage: Usage
    by_model: Mapping[str, Usage] = field(default_factory=dict)
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """The agent tries its model again after `delay_s` seconds."""

    attempt: int
    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person may want to know of the turn."""

    text: str


@dataclass(frozen=True, slots=True)
class Raw:
    """An event of the agent's own that has no word here."""

    data: Mapping[str, Any]


AgentEvent = SessionKnown | TextDelta | Said | ToolBegan | ToolEnded | Spent | Retrying | Notice | Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionQuestion:
    """The agent wants to run a tool and has to be told whether it may.

    Args:
        tool: as the agent calls it.
        input: of the call.
        id: of the call.
        suggestions: of the agent: rules that would answer such questions for good. Unchecked.
        beyond: what else is permitted with it that its input does not name, such as to leave a sandbox; then no rule
            permits it, and somebody is asked. "" for nothing.

    """

    tool: str
    input: Mapping[str, Any]
    id: str
    suggestions: Sequence[Any] = ()
    beyond: str = ""


@dataclass(frozen=True, slots=True)
class Permitted:
    """It may, with this input: what runs is exactly that."""

    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """It may not. The agent's model reads the reason; with `stop` the whole turn ends."""

    reason: str
    stop: bool = False


PermissionAnswer = Permitted | Refusal


class Watch(Protocol):
    """Who watches a turn. Both are awaited in the task that called `send_message`, one at a time or not."""

    async def event(self, event: AgentEvent) -> None:
        """Take note. A slow one slows the agent; what it raises ends the turn as a cancel does, and goes on."""

    async def permit(self, question: PermissionQuestion) -> PermissionAnswer:
        """Whether a tool may run. May wait long: no time of the backend counts it."""


class _Quiet:
    """Takes note of nothing, and permits nothing."""

    async def event(self, event: AgentEvent) -> None:
        return

    async def permit(self, question: PermissionQuestion) -> PermissionAnswer:
        return Refusal(f"nobody is there to permit {question.tool}")


QUIET: Final[Watch] = _Quiet()


class AgentSession(Protocol):
    """One agent's conversation, for one user at a time. For the trio thread."""

    @property
    def session_id(self) -> str | None:
        """The backend's id of it: None before the first answer that tells one, never ""."""

    @property
    def history(self) -> Sequence[AgentResult]:
        """One for each completed `send_message`, the oldest first; at most the last `MAX_HISTORY`."""

    @property
    def last_result(self) -> AgentResult | None:
        """Of the last completed `send_message`."""

    @property
    def total_cost(self) -> float | None:
        """Of all turns, in USD; None as soon as one is unknown."""

    @property
    def turn_count(self) -> int:
        """How many `send_message` were completed."""

    @property
    def totals(self) -> Mapping[str, Any]:
        """What a later `AgentSpec.totals` is to be, JSON-ready: counters that go on when the session is resumed."""

    async def send_message(self, request: AgentRequest, watch: Watch = QUIET) -> AgentResult:
        """Have the agent work until it has nothing more to do.

        One at a time. If the caller is cancelled, the agent is interrupted, then asked to end, then killed with all
        that it has started, within 2 s; nothing of it is left, and the session can be used again.

        Raises:
            AgentError: the turn has no result.

        """

    async def interrupt(self) -> None:
        """Ask the turn to end: `send_message` then returns, or raises "interrupted", with what was said. May be
        called where no turn runs."""

    async def stop_session(self) -> None:
        """End the agent's processes, and a turn with the error "closed". May be called twice, and of a dead one."""


class AgentBackend(Protocol):
    """A kind of agent. One instance serves all conversations of the daemon."""

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> AgentCapabilities: ...

    async def check(self) -> None:
        """Raise BackendUnavailable, with the remedy, if it cannot run here and now."""

    def check_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """A session's options, JSON-ready and written in one way only: checking them again changes nothing.

        Raises:
            OptionRefused: naming option, value, the operator's limit and the key that raises it.

        """

    async def facts(self) -> Mapping[str, Any]:
        """What an operator wants to know, JSON-ready: the version, the path of a program. Secrets are not in it."""

    async def start_session(self, spec: AgentSpec) -> AgentSession:
        """Make a session. No program is started before its first message. Raises BackendUnavailable, AgentError."""

    async def aclose(self) -> None:
        """Stop all sessions: nothing of theirs is left running. May be called twice."""
