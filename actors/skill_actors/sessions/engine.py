"""The turn engine: a state machine without I/O. Things that happened go in, things to do come out.

States and what may happen in each (anything else raises `IllegalEvent` and changes nothing):

    NEW            begin            -> CALLING_MODEL            do: CallModel
                   begin_command    -> RUNNING_TOOLS            do: RunTools (a skill's entry command, no model)
                   resume           -> RUNNING_TOOLS            do: RunTools (calls that waited over a restart)
                   conclude         -> ENDED                    (a turn that asks for no answer)
    CALLING_MODEL  model_answered   -> RUNNING_TOOLS | CALLING_MODEL | ENDED
                   model_failed     -> ENDED
                   abort            -> ENDED
    RUNNING_TOOLS  tools_finished   -> CALLING_MODEL | ENDED    (ENDED after an entry command)
                   abort            -> ENDED
    ENDED          nothing

Two rules hold in every state: each `tool_use` of a message that entered the history gets exactly one
`tool_result`, also if the tool never ran; and the engine's bounds (model calls, pauses) end the turn with the
history still acceptable to the API.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from skill_actors.backends.base import ToolCall
from skill_actors.models.base import Block, MessageDone

__all__ = [
    "CallModel",
    "Ending",
    "IllegalEvent",
    "RunTools",
    "State",
    "Step",
    "TurnEngine",
    "TurnLimits",
    "Unrun",
    "text_of",
]


class State(Enum):
    NEW = "new"
    CALLING_MODEL = "calling_model"
    RUNNING_TOOLS = "running_tools"
    ENDED = "ended"


class IllegalEvent(Exception):
    """The event cannot happen in this state: a bug of the caller. Nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnLimits:
    """Bounds of one turn: model calls in all, and `pause_turn` answers in a row."""

    iterations: int = 25
    pauses: int = 10


@dataclass(frozen=True, slots=True)
class CallModel:
    """Call the model with the history as it is now; `iteration` counts from 1."""

    iteration: int


@dataclass(frozen=True, slots=True)
class RunTools:
    """Run all of these, at the same time if you like, and report every one."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a turn ended. `error` is {"code", "message"} for failures."""

    type: Literal["turn.finished", "turn.failed", "turn.cancelled", "turn.interrupted"]
    text: str
    stop_reason: str
    error: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Unrun:
    """A tool call that gets a result without having run, and why."""

    call_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What follows from an event: results to write for calls that never ran, then what to do next."""

    do: CallModel | RunTools | Ending
    unrun: tuple[Unrun, ...] = ()


# Stop reasons that end the turn with what the model has said. The rest are handled by name below.
_FINAL: Final = frozenset({"end_turn", "stop_sequence", "max_tokens", "refusal", "model_context_window_exceeded"})

# Those after which what the user has said meanwhile can be answered.
_GOES_ON: Final = frozenset({"end_turn", "stop_sequence", "max_tokens"})

_LEGAL: Final[Mapping[State, frozenset[str]]] = {
    State.NEW: frozenset({"begin", "begin_command", "resume", "conclude", "abort"}),
    State.CALLING_MODEL: frozenset({"model_answered", "model_failed", "abort"}),
    State.RUNNING_TOOLS: frozenset({"tools_finished", "abort"}),
    State.ENDED: frozenset(),
}


def text_of(content: Sequence[Block]) -> str:
    """The text blocks of a message, joined as they came."""
    return "".join(str(block.get("text", "")) for block in content if block.get("type") == "text")


def _calls_of(content: Sequence[Block]) -> tuple[ToolCall, ...]:
    """The client tool calls of a message. Server tools (server_tool_use) are the server's own business."""
    return tuple(
        ToolCall(id=str(block["id"]), name=str(block["name"]), input=_mapping(block.get("input")))
        for block in content
        if block.get("type") == "tool_use"
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"": value}  # the executor's schema check will refuse it


class TurnEngine:
    """One turn. Not for reuse.

    Args:
        fault_of: what is wrong with an answer, None if nothing; only good ones end the turn as finished. None: all are.

    """

    def __init__(self, limits: TurnLimits, *, fault_of: Callable[[str], str | None] | None = None) -> None:
        self.state = State.NEW
        self.iterations = 0
        self.ending: Ending | None = None
        self._limits = limits
        self._fault_of = fault_of
        self._pauses = 0
        self._pending: tuple[ToolCall, ...] = ()
        self._command = False
        self._said: list[str] = []  # text since the last tool result: the answer, if the turn ends now

    @property
    def may_call(self) -> bool:
        """Whether its bounds allow that the model is called once more."""
        return self.iterations < self._limits.iterations

    def _enter(self, event: str) -> None:
        if event not in _LEGAL[self.state]:
            raise IllegalEvent(f"{event} cannot happen while a turn is {self.state.value}")

    def begin(self) -> Step:
        """The user's message is in the history."""
        self._enter("begin")
        return self._call_model()

    def begin_command(self, call: ToolCall) -> Step:
        """The message was `/skill arguments`: run the entry command and end, without a model."""
        self._enter("begin_command")
        self._command = True
        return self._run((call,))

    def resume(self, calls: Sequence[ToolCall], *, iterations: int, command: bool) -> Step:
        """Go on with calls of the model, or with an entry command, that have no results yet.

        Args:
            iterations: how often the model was called by now.

        """
        self._enter("resume")
        self.iterations = iterations
        self._command = command
        return self._run(tuple(calls))

    def conclude(self, text: str) -> Step:
        """What was asked for is done, without an answer of the model; the text says so."""
        self._enter("conclude")
        return Step(do=self._end(Ending(type="turn.finished", text=text, stop_reason="end_turn")))

    def model_answered(self, message: MessageDone, *, more: bool = False, before: str = "") -> Step:
        """The model's message is complete (and in the history, if it has content).

        Args:
            more: the user has said something since the model was called: it is called again rather than ending here.
            before: what an answer said that this one goes on with.

        """
        self._enter("model_answered")
        self._said.append(before)
        self._said.append(text_of(message.content))
        calls = _calls_of(message.content)
        match message.stop_reason:
            case "tool_use" if calls:
                return self._after_tool_use(calls)
            case "tool_use":
                return self._fail("protocol", "the model stopped for tools but called none")
            case "pause_turn" | "compaction":
                return self._after_pause(calls)
            case reason if more and reason in _GOES_ON and not calls and self.iterations < self._limits.iterations:
                self._said.clear()
                return self._call_model()
            case reason if reason in _FINAL:
                return self._finish(reason, calls)
            case reason:
                return self._fail("unknown_stop_reason", f"the model stopped for {reason!r}, unknown here", calls)

    def model_failed(self, code: str, message: str, said: str = "") -> Step:
        """The model call failed for good, after it had said this; whatever may be retried has been."""
        self._enter("model_failed")
        self._said.append(said)
        return self._fail(code, message)

    def tools_finished(self, outputs: Mapping[str, str], *, denied: Collection[str] = ()) -> Step:
        """Every call of the last RunTools has its result in the history.

        Args:
            outputs: their texts by id.
            denied: ids of those that were not permitted. A model decides what follows from that; an entry command has
                none, so that its turn has failed.

        """
        self._enter("tools_finished")
        missing = [call.id for call in self._pending if call.id not in outputs]
        if missing:
            raise IllegalEvent(f"tools finished without results of {', '.join(missing)}")
        calls, self._pending = self._pending, ()
        self._said.clear()
        if self._command:
            if any(call.id in denied for call in calls):
                return self._fail("policy_denied", "".join(outputs[call.id] for call in calls))
            self._said.append("".join(outputs[call.id] for call in calls))
            return self._finish("end_turn")
        return self._call_model()

    def abort(self, type: Literal["turn.failed", "turn.cancelled", "turn.interrupted"], code: str, why: str) -> Ending:
        """Cancelled, out of time or shutting down. Results of running tools are the caller's to write."""
        self._enter("abort")
        return self._end(
            Ending(type=type, text="".join(self._said), stop_reason=code, error={"code": code, "message": why})
        )

    def _end(self, ending: Ending) -> Ending:
        self.state = State.ENDED
        self.ending = ending
        return ending

    def _after_tool_use(self, calls: tuple[ToolCall, ...]) -> Step:
        self._pauses = 0
        if self.iterations >= self._limits.iterations:
            return self._fail(
                "iteration_limit",
                f"the turn used its {self._limits.iterations} model calls; raise limits.iterations or send a further "
                "message to go on",
                calls,
            )
        return self._run(calls)

    def _after_pause(self, calls: tuple[ToolCall, ...]) -> Step:
        if calls:
            return self._fail("protocol", "the model paused in the middle of a client tool call", calls)
        self._pauses += 1
        if self._pauses > self._limits.pauses or self.iterations >= self._limits.iterations:
            return self._fail("pause_limit", f"the model paused {self._pauses} times in a row without an end")
        return self._call_model()

    def _call_model(self) -> Step:
        self.state = State.CALLING_MODEL
        self.iterations += 1
        return Step(do=CallModel(self.iterations))

    def _run(self, calls: tuple[ToolCall, ...]) -> Step:
        self.state = State.RUNNING_TOOLS
        self._pending = calls
        return Step(do=RunTools(calls))

    def _finish(self, reason: str, calls: tuple[ToolCall, ...] = ()) -> Step:
        fault = None if self._fault_of is None else self._fault_of("".join(self._said))
        if fault is not None:
            why = f"the answer, which ended with {reason}, is not what was asked for: {fault}"
            return self._fail("schema_mismatch", why, calls)
        unrun = tuple(Unrun(call.id, f"Not run: the answer ended with {reason}.") for call in calls)
        ending = Ending(type="turn.finished", text="".join(self._said), stop_reason=reason)
        return Step(do=self._end(ending), unrun=unrun)

    def _fail(self, code: str, message: str, calls: tuple[ToolCall, ...] = ()) -> Step:
        unrun = tuple(Unrun(call.id, f"Not run: {message}.") for call in calls)
        ending = Ending(
            type="turn.failed",
            text="".join(self._said),
            stop_reason=code,
            error={"code": code, "message": message},
        )
        return Step(do=self._end(ending), unrun=unrun)
