"""The model's part of a turn: asked, paid for, asked anew where the API has lost something or has no room."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio

from skill_actors.models.base import MessageDone, Model, ModelError, ModelRequest, Usage
from skill_actors.models.context_management import COMPACTION_BETA, context_management
from skill_actors.models.facts import facts_of
from skill_actors.sessions.answer_schema import output_config
from skill_actors.sessions.bill import Bill
from skill_actors.sessions.compaction import (
    CompactionReason,
    compact,
    compact_at_tokens,
    compacts_there,
    compacts_when_full,
    needs_compaction,
)
from skill_actors.sessions.engine import text_of
from skill_actors.sessions.events import Event
from skill_actors.sessions.history import History
from skill_actors.sessions.hosted_loss import hosted_loss
from skill_actors.sessions.ledger import Account, BudgetExceeded
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.no_tools import tools_to_send
from skill_actors.sessions.places import HOSTED
from skill_actors.sessions.server_calls import server_results
from skill_actors.sessions.stream import ModelCall
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.toolbox import Toolbox
from skill_actors.sessions.turn_options import TurnOptions

__all__ = ["Asking", "message_data"]

_WINDOW_FULL: Final = "model_context_window_exceeded"
_SHOWN: Final = re.compile(r"\b(image|pdf|document)s?\b", re.IGNORECASE)
_NO_ROOM: Final = ("context_exceeded", "too_large")  # for the model; for the API, before it has counted any token


def message_data(
    content: Sequence[Mapping[str, Any]], stop_reason: str, model: str, usage: Usage | None = None
) -> dict[str, Any]:
    """Data of a model.message event."""
    return {
        "model": model,
        "content": list(content),
        "stop_reason": stop_reason,
        "usage": None if usage is None else usage.to_dict(),
    }


class Asking:
    """Asks the model for one turn and writes what it says.

    Args:
        turn: its id.
        bill: charged with every call.
        account: who pays, asked for each call.
        schema: what the answer has to keep to; None for text.

    """

    def __init__(
        self,
        log: SessionLog,
        turn: str,
        *,
        env: Surroundings,
        toolbox: Toolbox,
        bill: Bill,
        account: Callable[[], Account],
        options: TurnOptions,
        schema: Mapping[str, Any] | None,
    ) -> None:
        self._log = log
        self._turn = turn
        self._env = env
        self._toolbox = toolbox
        self._bill = bill
        self._account = account
        self._options = options
        self._schema = schema
        self._settings = log.record.settings
        self._call: ModelCall | None = None
        self.history = History()  # what the model is shown; the turn puts the session's here, which follows the log
        self.model_name = ""
        self._seen_seq: int | None = None  # up to here the model reads what the user said while the turn ran
        self.said_before = ""  # by the model, in an answer that was cut since its window was full
        self.context: dict[str, Any] | None = None  # how much of the model's window the last call took

    @property
    def more(self) -> bool:
        """Whether the user has said something since the model was called."""
        return self.history.awaits_answer

    async def ask(self) -> MessageDone:
        """The model's next message, written down. Where it has no room for it, the conversation is made shorter first.

        Raises: ModelError, BudgetExceeded, Refused; what the model had said by then is for `rescue`.
        """
        self.said_before = ""
        await self._shorten_if_due()
        try:
            answer = await self._once()
        except ModelError as error:
            if error.code not in _NO_ROOM or not await self._shorten("window"):
                raise
            return await self._once()
        if answer.stop_reason != _WINDOW_FULL or _holds_calls(answer) or not await self._shorten("window"):
            return answer
        self.said_before = text_of(answer.content)
        return await self._once()

    async def compact(self, why: CompactionReason) -> str:
        """Make the conversation shorter, as somebody has asked for; what came of it, in words.

        Raises: BudgetExceeded, Refused, what appends raise.
        """
        event = await self._compact(why)
        if event is None:
            return f"Nothing was changed: {self.history.not_shortened}."
        before, after = event.data["tokens_before"], event.data["tokens_after"]
        return f"The earlier part of the conversation is a summary now: about {before} tokens became {after}."

    async def _shorten_if_due(self) -> None:
        _, name = self._resolved()
        settings = self._env.defaults.compaction
        if not self.history.paused and needs_compaction(self._used_tokens(), facts_of(name), settings):
            await self._shorten("threshold")

    def _used_tokens(self) -> int:
        """How much of the model's window the last call took, of this turn or one before; 0 where nobody knows."""
        context = self.context or self._log.record.totals.get("context") or {}
        return int(context.get("tokens", 0))

    async def _shorten(self, why: CompactionReason) -> bool:
        """Whether there is more room now."""
        if why == "window" and not compacts_when_full(self._env.defaults.compaction):
            return False
        return await self._compact(why) is not None

    async def _compact(self, why: CompactionReason) -> Event | None:
        _, name = self._resolved()
        before = self._used_tokens() or None
        event = await compact(
            self._log, self._turn, self.history, self._summarise, model=name, why=why, tokens_before=before
        )
        if event is not None:
            self.context = _gauge(name, int(event.data["tokens_after"]))
        return event

    async def _summarise(self, request: ModelRequest) -> MessageDone:
        """A call of which nothing is shown. Raises ModelError, BudgetExceeded."""
        model, name = self._resolved()
        call = ModelCall(self._log, self._turn, self._env, self._account, quiet=True)
        began = time.monotonic()
        try:
            answer = await call.run(model, request)
        finally:
            self._bill.lose(name, call.lost_usage, cut=False)
        self._bill.charge(answer.model, answer.usage)
        self._emit_call(answer, time.monotonic() - began)
        return answer

    def _resolved(self) -> tuple[Model, str]:
        return self._env.resolve_model(self._options.model or self._settings.get("model"))

    async def _once(self) -> MessageDone:
        model, name = self._resolved()
        self.model_name = name
        call = self._call = ModelCall(self._log, self._turn, self._env, self._account)
        began = time.monotonic()
        try:
            answer = await self._answer(call, model, name)
        except BudgetExceeded:  # not sent, so that nothing was cut, and what the turn has cost is known
            self._call = None
            self._bill.lose(name, call.lost_usage, cut=False)
            raise
        self._call = None
        self.model_name = answer.model
        self._bill.lose(name, call.lost_usage, cut=False)
        passed_s = time.monotonic() - began
        self._bill.charge(answer.model, answer.usage, passed_s)
        self._emit_call(answer, passed_s)
        await self._write_answer(answer)
        self.context = _gauge(answer.model, answer.context_tokens or answer.usage.total_tokens)
        return answer

    async def rescue(self, stop_reason: str, *, cut: bool) -> str:
        """Keep what a model call had said and cost when it gave no message; the text."""
        if self._call is None:
            return ""
        call, self._call = self._call, None
        self._bill.lose(self.model_name, call.lost_usage, cut=cut)
        with trio.CancelScope(shield=True):
            content = await call.rescue()
            if content:
                data = {**message_data(content, stop_reason, self.model_name), **self._heard(), "partial": True}
                await self._log.append([Draft("model.message", self._turn, data)])
        return text_of(content)

    async def _answer(self, call: ModelCall, model: Model, name: str) -> MessageDone:
        """The model's answer; asked anew without the container, or without files, that the API has lost, and without
        the pictures and documents that it refuses.

        Each can be lost once, so that this ends. Raises ModelError.
        """
        sees = model.provider != "offline"
        while True:
            try:
                return await call.run(model, self._request(model, name, sees=sees))
            except ModelError as error:
                if sees and self.history.shows and _refuses_pictures(error):
                    sees = False
                    continue
                loss = None if self._toolbox.hosted is None else hosted_loss(error, self.history, self._turn)
                if loss is None:
                    raise
            await self._log.append([loss])

    def _heard(self) -> dict[str, int]:
        """What an answer's event says of messages that its model has read, and no answer before."""
        seen, self._seen_seq = self._seen_seq, None
        return {} if seen is None else {"seen_seq": seen}

    async def _write_answer(self, answer: MessageDone) -> None:
        content = [block for block in answer.content if block.get("type") != "text" or str(block.get("text")).strip()]
        data = message_data(content, answer.stop_reason, answer.model, answer.usage)
        if answer.container is not None:
            data["container"] = answer.container
        data |= self._heard()
        await self._log.append([Draft("model.message", self._turn, data)])

    def _request(self, model: Model, name: str, *, sees: bool) -> ModelRequest:
        hosted = self._toolbox.hosted_now()
        managed, betas = self._managed(name)
        self._seen_seq = self.history.hear() or self._seen_seq
        messages = self.history.messages(
            hosted=hosted is not None,
            sees=sees,
            api_summaries=facts_of(name).compaction,
        )
        tools, choice = tools_to_send(self._toolbox.tools(), messages)
        return ModelRequest(
            model=name,
            messages=messages,
            system=self._toolbox.system(),
            tools=tools,
            max_tokens=self._options.max_tokens or self._env.defaults.max_tokens,
            skills=self._toolbox.hints() if model.provider == "offline" else (),
            extra={
                **_output(self._schema, self._options.effort),
                **choice,
                **({} if hosted is None else hosted.extra(self.history.container)),
                **managed,
            },
            betas=betas,
            cache=True,
        )

    def _managed(self, name: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """What the API is asked to do about the length of the conversation."""
        facts, settings = facts_of(name), self._env.defaults.compaction
        if not compacts_there(facts, settings):  # but what it has made earlier is only taken with the beta
            return {}, (COMPACTION_BETA,) if self.history.has_api_summary and facts.compaction else ()
        return context_management(facts, compact_at_tokens=compact_at_tokens(facts, settings))

    def _emit_call(self, answer: MessageDone, seconds: float) -> None:
        whose = {"session": self._log.record.id, "turn": self._turn}
        tokens = answer.usage.to_dict()
        self._env.bus.emit("model.stop", {"duration": seconds, **tokens}, {**whose, "model": answer.model})
        for call, tool, success in server_results(answer.content):  # how long each took, the API does not say
            told = {**whose, "call": call, "tool": tool, "success": success}
            self._env.bus.emit(f"backend.{HOSTED}.tool_call", {"count": 1}, told)


def _refuses_pictures(error: ModelError) -> bool:
    """Whether the API may take the request without what it shows: it sees damage, and counts pages, that we cannot."""
    return error.code == "invalid_request" and _SHOWN.search(str(error)) is not None


def _holds_calls(answer: MessageDone) -> bool:
    return any(block.get("type") == "tool_use" for block in answer.content)


def _gauge(model: str, tokens: int) -> dict[str, Any]:
    """How much of the model's window the conversation takes."""
    window = facts_of(model).context_tokens
    return {"tokens": tokens, "window": window, "share": round(tokens / window, 4)}


def _output(schema: Mapping[str, Any] | None, effort: str | None) -> dict[str, Any]:
    """The field of a request that says how the answer is to be; nothing where nothing was asked for."""
    asked = output_config(schema).get("output_config", {})
    if effort is not None:
        asked = {**asked, "effort": effort}
    return {"output_config": asked} if asked else {}
