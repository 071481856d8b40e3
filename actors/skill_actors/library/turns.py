"""One turn of a conversation whose loop runs here: asked, run, told, and what went wrong as a SkillError."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from skill_actors.backends import ToolCall, ToolResult
from skill_actors.backends.anthropic import created_files
from skill_actors.library.asking import Asking, AskModel, check_model
from skill_actors.library.callbacks import CALLBACKS, Callbacks
from skill_actors.library.errors import SkillError, wrap
from skill_actors.library.files import SessionFiles
from skill_actors.library.hosting import HostedPlace
from skill_actors.library.places import Places
from skill_actors.library.response import ChatResponse
from skill_actors.library.settings import Settings, checked_schema
from skill_actors.loop import Loop, LoopResult, Response
from skill_actors.models.base import Block, Message, SkillHint
from skill_actors.sessions.answer_schema import schema_fault
from skill_actors.skills.entry import entry_argv

__all__ = ["PlacedTurns", "TurnSettings"]

_CONNECTION_ERRORS: Final = (
    ("anthropic", "APIConnectionError"),
    ("httpx", "TransportError"),
    ("httpx2", "TransportError"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSettings:
    """What holds for one turn; each is the conversation's, where `chat` was not given another.

    Args:
        timeout_s: of the turn.

    """

    max_iterations: int
    max_pauses: int
    timeout_s: float
    model_name: str
    max_tokens: int
    system: str
    schema: Mapping[str, Any] | None
    callbacks: Callbacks

    @classmethod
    def of(cls, options: Mapping[str, Any], settings: Settings, callbacks: Callbacks) -> TurnSettings:
        """Raises TypeError for an option that there is not, and ValueError for a number out of range."""
        known = ("max_iterations", "max_pauses", "timeout_s", "model_name", "max_tokens", "system", "schema")
        if unknown := sorted(options.keys() - {*known} - CALLBACKS.keys()):
            raise TypeError(f"chat has no option {unknown[0]!r}; it has {', '.join(sorted({*known, *CALLBACKS}))}")
        for name in ("max_iterations", "max_tokens"):
            if options.get(name, 1) < 1:
                raise ValueError(f"{name} must be at least 1, got {options[name]!r}")
        if options.get("max_pauses", 0) < 0 or not options.get("timeout_s", 1) > 0:
            raise ValueError("max_pauses must be at least 0 and timeout_s more than 0")
        checked_schema(options.get("schema"))
        chosen: dict[str, Any] = {name: getattr(settings, name) for name in known if name != "timeout_s"}
        chosen["timeout_s"] = settings.turn_timeout_s
        chosen.update({name: value for name, value in options.items() if name in known})
        told = callbacks.over({name: value for name, value in options.items() if name in CALLBACKS})
        return cls(**chosen, callbacks=told)


@dataclass(slots=True, kw_only=True)
class PlacedTurns:
    """Runs turns in open places.

    Args:
        places: where tools run.
        hosted: what runs at the provider; None if nothing does.
        files: of the conversation.
        settings: of the conversation.
        callbacks: of the conversation.

    """

    places: Places
    hosted: HostedPlace | None
    files: SessionFiles
    settings: Settings
    callbacks: Callbacks

    async def chat(
        self,
        messages: Sequence[Message],
        said: Sequence[Block],
        model: AskModel,
        options: Mapping[str, Any],
        keep: Callable[[Sequence[Message]], None],
    ) -> ChatResponse:
        """One turn; `keep` gets the conversation after it, whatever happens.

        Raises:
            SkillError: it came to no answer.
            TypeError, ValueError: as for TurnSettings.

        """
        turn = TurnSettings.of(options, self.settings, self.callbacks)
        hosting = None if self.hosted is None else self.hosted.hosting
        checked = check_model(model, name=turn.model_name, hosted=hosting is not None)
        attached = self._attached()
        loop = Loop(
            [*messages, {"role": "user", "content": [*attached, *said]}],
            self.places.context,
            max_iterations=turn.max_iterations,
            max_pauses=turn.max_pauses,
            timeout_s=turn.timeout_s,
            on_tool_call=_Told(turn.callbacks).call,
            on_tool_result=_Told(turn.callbacks).result,
            attach=self._attached,
        )
        asking = Asking(
            model=checked,
            name=turn.model_name,
            system=self.places.system_prompt(turn.system),
            tools=self.places.tools,
            max_tokens=turn.max_tokens,
            hosting=hosting,
            schema=turn.schema,
            answered=_Answered(self, turn.callbacks).take,
            hints=self._hints(),
        )
        if hosting is not None:
            hosting.replaced = False
        self.files.callbacks = turn.callbacks
        try:
            result = await loop.run(asking)
        finally:  # also when it is cancelled: no await here
            self.files.callbacks = self.callbacks
            keep(loop.messages)
        if result.outcome == "failed":
            raise _failure(result, turn)
        if turn.schema is not None and (fault := schema_fault(turn.schema, result.text)) is not None:
            why = f"the answer, which ended with {result.stop_reason}, is not what was asked for: {fault}"
            raise SkillError("schema_mismatch", why, details={"reason": fault, "text": result.text})
        if hosting is None:
            return ChatResponse.of(result, container=None, replaced=False)
        return ChatResponse.of(result, container=hosting.container, replaced=hosting.replaced)

    def _attached(self) -> Sequence[Block]:
        """Files for the hosted place that the model has not been told of."""
        return () if self.hosted is None else self.hosted.take_attached()

    def _hints(self) -> Sequence[SkillHint]:
        """The skills for a model that does not read; their commands run in the place with plain names."""
        context = self.places.context
        return [
            SkillHint(
                name=skill.name,
                description=skill.description,
                entry=entry_argv(skill, self.places.path_of_skill(context.folders[name]), "") if skill.entry else None,
            )
            for name, skill in context.skills.items()
        ]


@dataclass(slots=True)
class _Told:
    callbacks: Callbacks

    async def call(self, call: ToolCall) -> None:
        await self.callbacks.tell("on_tool_call", call)

    async def result(self, call: ToolCall, result: ToolResult) -> None:
        await self.callbacks.tell("on_tool_result", call, result)


@dataclass(slots=True)
class _Answered:
    """What happens with each answer of a turn."""

    turns: PlacedTurns
    callbacks: Callbacks
    answers: int = 0
    pauses: int = 0

    async def take(self, response: Response) -> None:
        self.answers += 1
        settings = self.turns.settings
        about = {"session": settings.session_id}
        settings.bus.emit("conversation.iteration", {"iteration": self.answers}, about)
        await self._note_files(response)
        await self.callbacks.tell("on_response", response)
        if response.stop_reason == "pause_turn":
            self.pauses += 1
            await self.callbacks.tell("on_pause", response, self.pauses)

    async def _note_files(self, response: Response) -> None:
        """Files that hosted code has made, each told once."""
        hosted = self.turns.hosted
        known = {file.file_id for file in self.turns.files.created}
        for made in created_files(response.message.content):
            if hosted is not None and made.file_id not in known:
                await self.turns.files.made_elsewhere(await hosted.found(made.file_id))


def _failure(result: LoopResult, turn: TurnSettings) -> SkillError:
    code = result.stop_reason
    message = (result.error or {}).get("message", "")
    match code:
        case "iteration_limit":
            return SkillError(
                "max_iterations_reached",
                f"the turn used its {turn.max_iterations} model calls; raise max_iterations, or chat on",
                details={"max_iterations": turn.max_iterations, "iterations": result.iterations},
            )
        case "pause_limit":
            details = {"iterations": result.iterations, "max": turn.max_pauses}
            return SkillError("pause_turn_max_exceeded", message, details=details)
        case "turn_timeout":
            took = {"timeout_ms": round(turn.timeout_s * 1000)}
            return SkillError("turn_timeout", message, details=took)
        case "model_call_failed" if result.cause is not None:
            wrapped = wrap(result.cause)
            if wrapped.code != "unknown":
                return wrapped
            failed = SkillError(
                "model_call_failed",
                message,
                details={"reason": type(result.cause).__name__},
                retryable=_is_connection_lost(result.cause),
            )
            failed.__cause__ = result.cause
            return failed
        case _ if result.cause is not None:
            return wrap(result.cause)
        case _:
            return SkillError("invalid_response", message, details={"reason": code})


def _is_connection_lost(error: Exception) -> bool:
    """Whether a function of the program got no answer, as the system says, or an SDK, which is loaded then."""
    known = [getattr(sys.modules[module], name) for module, name in _CONNECTION_ERRORS if module in sys.modules]
    return isinstance(error, (ConnectionError, TimeoutError, *known))
