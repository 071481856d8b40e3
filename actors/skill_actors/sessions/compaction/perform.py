"""A summary of ours: asked for, judged, and written down as an event. Where it comes to nothing, nothing changes.

    plan (what goes)  ->  rendered (as data)  ->  a model call without tools  ->  session.compacted

The event is the whole of it: `History` shortens what is sent when it reads the event, so that the next start, a fork
and an import shorten it in the same way, and readers of events have still all there was.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Literal

import trio

from skill_actors.models.base import MessageDone, ModelError, ModelRequest
from skill_actors.models.facts import ModelFacts, facts_of
from skill_actors.models.offline import OFFLINE_MODEL
from skill_actors.sessions.compaction.plan import MIN_TOKENS, Plan, plan_compaction
from skill_actors.sessions.compaction.prompt import summary_request
from skill_actors.sessions.compaction.rendering import rendered
from skill_actors.sessions.compaction.sizes import CHARS_PER_TOKEN, tokens_of, tokens_of_text
from skill_actors.sessions.engine import text_of
from skill_actors.sessions.events import Event
from skill_actors.sessions.history import History
from skill_actors.sessions.ledger import BudgetExceeded
from skill_actors.sessions.log import Draft, SessionLog

__all__ = ["CompactionReason", "compact"]

CompactionReason = Literal["request", "threshold", "window"]

_log = logging.getLogger(__name__)
_KEEP_TOKENS: Final[dict[CompactionReason, int]] = {"request": 4_000, "threshold": 20_000, "window": 10_000}
_KEEP_SHARE: Final = 10  # a tenth of the window at most
_KEEP_PART: Final = 4  # and a fourth of the conversation
_RECORD_SHARE: Final = 3  # of the window, for what is summarised
_MAX_RECORD_CHARS: Final = 400_000  # what is said beyond is shortened: the summary would not hold it anyway
_MAX_TOKENS: Final = 8_192
_PATIENCE: Final = 20  # pieces that have to come after a failure before it is tried again by itself
_WORTH_PART: Final = 10  # of the conversation
_TRIES: Final = 3
_SHORTER: Final = 4  # times, each record than the one before
_TRIM: Final = ("<summary>", "</summary>")


async def compact(
    log: SessionLog,
    turn_id: str,
    history: History,
    ask: Callable[[ModelRequest], Awaitable[MessageDone]],
    *,
    model: str,
    why: CompactionReason,
    tokens_before: int | None = None,
) -> Event | None:
    """Put a summary in the place of the earlier part of the conversation; the event that did it.

    Args:
        history: of the log, which follows it.
        ask: calls the model and accounts for it.
        model: that writes the summary.
        why: who wants it.
        tokens_before: of the last request; None: estimated.

    Returns:
        None if nothing was changed. A session.compacted event without a summary says why then, and so does
        `history.not_shortened`; but by itself ("threshold") it says nothing where there is nothing to be done, and what
        failed a moment ago is not tried again.

    Raises:
        BudgetExceeded: unless `why` is "threshold": then the conversation goes on as it is.
        StoreError: the event could not be written.

    """
    if why == "threshold" and history.failed_at is not None and len(history.pieces) < history.failed_at + _PATIENCE:
        return None
    before = tokens_of(history.pieces) if tokens_before is None else tokens_before
    facts: dict[str, Any] = {"by": why, "model": model, "tokens_before": before}
    try:
        facts |= await _summary(history, ask, facts, model, why)
    except _Nothing as reason:
        if why == "threshold" and not reason.asked:
            return None
        _log.info("session %s was not compacted: %s", log.record.id, reason)
        await log.append([Draft("session.compacted", turn_id, {**facts, "summary": None, "why_not": str(reason)})])
        return None
    (event,) = await log.append([Draft("session.compacted", turn_id, facts)])
    return event


class _Nothing(Exception):
    """Nothing is to be changed, for this reason. `asked`: whether a model was, which may have cost something."""

    def __init__(self, reason: str, *, asked: bool = True) -> None:
        super().__init__(reason)
        self.asked = asked


async def _summary(
    history: History,
    ask: Callable[[ModelRequest], Awaitable[MessageDone]],
    facts: dict[str, Any],
    model: str,
    why: CompactionReason,
) -> dict[str, Any]:
    """The rest of the event's data. What was used for nothing is put into `facts`. Raises _Nothing, BudgetExceeded."""
    if model == OFFLINE_MODEL:
        raise _Nothing("the offline model is no language model, and writes no summaries", asked=False)
    limits = facts_of(model)
    window = limits.context_tokens
    plan = _planned(history, why, min(_KEEP_TOKENS[why], window // _KEEP_SHARE, facts["tokens_before"] // _KEEP_PART))
    if plan is None:
        raise _Nothing("there is nothing in it that a summary could stand for", asked=False)
    try:
        answer = await _asked(ask, plan, model, limits)
    except ModelError as error:
        raise _Nothing(f"the model gave no summary: {error}") from error
    except BudgetExceeded as error:
        if why != "threshold":
            raise
        raise _Nothing(f"the budget has no room for a summary: {error}") from error
    facts |= {"model": answer.model, "usage": answer.usage.to_dict()}
    summary = _judged(answer, plan)
    return {
        "summary": summary,
        "tokens_after": max(0, facts["tokens_before"] - plan.tokens + tokens_of_text(summary)),
        "replaced": len(plan.replaced),
        **({} if plan.kept_from_seq is None else {"kept_from_seq": plan.kept_from_seq}),
    }


def _planned(history: History, why: CompactionReason, keep_tokens: int) -> Plan | None:
    """What goes. By itself nothing that is only a little of the whole, or each call would pay for a summary more."""
    plan = partial(plan_compaction, history.pieces, running=history.running, open_answer=history.is_open)
    if why == "threshold":
        return plan(keep_tokens=keep_tokens, min_tokens=max(MIN_TOKENS, tokens_of(history.pieces) // _WORTH_PART))
    found = plan(keep_tokens=keep_tokens)
    return plan(keep_tokens=0) if found is None and why == "window" else found  # else the turn cannot go on


async def _asked(
    ask: Callable[[ModelRequest], Awaitable[MessageDone]], plan: Plan, model: str, limits: ModelFacts
) -> MessageDone:
    """The model's answer. Where it has no room for the record, which was measured roughly, it gets a shorter one."""
    max_chars = min(_MAX_RECORD_CHARS, limits.context_tokens // _RECORD_SHARE * CHARS_PER_TOKEN)
    tries = 0
    while True:
        record = await trio.to_thread.run_sync(rendered, plan.replaced, max_chars // _SHORTER**tries)
        request = summary_request(model, record, max_tokens=min(_MAX_TOKENS, limits.max_output_tokens))
        tries += 1
        try:
            return await ask(request)
        except ModelError as error:
            if error.code != "context_exceeded" or tries == _TRIES:
                raise


def _judged(answer: MessageDone, plan: Plan) -> str:
    """The summary. Raises _Nothing."""
    text = text_of(answer.content).strip().removeprefix(_TRIM[0]).removesuffix(_TRIM[1]).strip()
    if answer.stop_reason == "max_tokens" and text:
        text += " [the summary was cut off here]"
    elif answer.stop_reason not in ("end_turn", "stop_sequence"):
        raise _Nothing(f"the model ended its summary with {answer.stop_reason}")
    if not text:
        raise _Nothing("the model gave an empty summary")
    if tokens_of_text(text) >= plan.tokens:
        raise _Nothing("the summary was longer than what it would stand for")
    return text.replace("\0", "\ufffd")
