"""What a call of the fake API comes to: its tokens, what it reads from the cache, where the window ends, the bill.

A request that fits is answered within its limits: an answer that would be longer than `max_tokens`, or than what is
left of the model's window, is cut there. Where the request asks for it, old tool results are cleared and the
conversation is compacted first. A reply that brings its own usage is left as it is, and billed by that.

Every answer that was generated is on the bill, also when nobody was there to hear it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from skill_actors.models.assembly import count_usage
from skill_actors.models.base import FAST, US, Usage
from skill_actors.models.facts import ModelFacts, facts_of
from skill_actors.models.prices import PriceTable, load_prices
from skill_actors.testing.context_edits import check_context, compaction_of, edited
from skill_actors.testing.message_events import reported_usage
from skill_actors.testing.output_limit import fitted, output_tokens
from skill_actors.testing.prompt import PromptBlock, prompt_of, without_compacted
from skill_actors.testing.prompt_cache import PromptCache
from skill_actors.testing.replies import Compaction, Reply

__all__ = ["BillEntry", "Meter", "default_summary"]

_NANO: Final = 1_000_000_000
_MILLION: Final = 1_000_000
_US_ONLY: Final = Decimal("1.1")
_QUOTED_CHARS: Final = 400

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BillEntry:
    """One answer on the bill. `nanousd` is None where no price is known; `summaries` are in it, too."""

    request_id: str
    model: str
    usage: Usage
    nanousd: int | None
    summaries: int = 0


def default_summary(body: Json) -> str:
    """What the fake model says of a conversation: how long it was, how it began and how it ended."""
    texts = [text for message in body["messages"] for text in _texts(message)]
    began, ended = (texts[0][:_QUOTED_CHARS], texts[-1][-_QUOTED_CHARS:]) if texts else ("", "")
    return f"Summary of {len(body['messages'])} messages.\nThe first said: {began}\nThe last said: {ended}"


class Meter:
    """Of one workspace.

    Args:
        now: seconds on the server's clock, for the lifetimes in the cache.
        facts: of the models, by id.
        prices: for the bill; the built-in ones by default.
        summarise: makes the summary of a conversation; None is one that failed.

    Attributes:
        cache: of prompts.
        bill: all that was billed, oldest first.

    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        facts: Callable[[str], ModelFacts] = facts_of,
        prices: PriceTable | None = None,
        summarise: Callable[[Json], str | None] = default_summary,
    ) -> None:
        self.cache = PromptCache(now)
        self.bill: list[BillEntry] = []
        self._facts = facts
        self._prices = prices or load_prices()
        self._summarise = summarise
        self._last: tuple[Json, _Prepared] | None = None

    @property
    def billed_nanousd(self) -> int:
        """The sum of the bill, in billionths of a dollar; what has no price is not in it."""
        return sum(entry.nanousd or 0 for entry in self.bill)

    def refusal(self, body: Json, betas: Collection[str]) -> str | None:
        """Why the API would not take this request, which is well formed: for its context or its size."""
        if problem := check_context(body, betas):
            return problem
        window = self._facts(str(body["model"])).context_tokens
        tokens = self._read(body).tokens
        return f"prompt is too long: {tokens} tokens > {window} maximum" if tokens > window else None

    def count(self, body: Json) -> dict[str, Any]:
        """The answer of the endpoint that counts."""
        prepared = self._read(body)
        counted: dict[str, Any] = {"input_tokens": prepared.tokens}
        if body.get("context_management"):
            counted["context_management"] = {"original_input_tokens": prepared.sent_tokens}
        return counted

    def pauses(self, body: Json) -> bool:
        """Whether the answer is nothing but a summary, so that the model is not asked."""
        prepared = self._read(body)
        edit = compaction_of(body, prepared.tokens)
        return edit is not None and bool(edit.get("pause_after_compaction"))

    def metered(self, reply: Reply, body: Json) -> Reply:
        """The reply as it is given: with a summary where there is one, cut where it has to end, with its usage."""
        if reply.usage is not None:
            return reply
        facts = self._facts(str(body["model"]))
        prepared = self._read(body)
        managed = {"applied_edits": prepared.applied} if body.get("context_management") else None
        summary, iterations = None, list[dict[str, Any]]()
        edit = compaction_of(body, prepared.tokens)
        if edit is not None:
            summary = Compaction(self._summarise(prepared.body) or None)
            written = output_tokens(Reply([summary]), body)
            iterations.append(_iteration("compaction", self._sampled(prepared, written, facts)))
            prepared = prepared.compacted(summary)
            if edit.get("pause_after_compaction"):
                paused = Reply([summary], stop_reason="compaction", usage=Usage(), iterations=iterations)
                return replace(paused, context_management=managed)
        reply = fitted(reply, body, window_left=facts.context_tokens - prepared.tokens)
        usage = self._sampled(prepared, output_tokens(reply, body), facts)
        if summary is not None:
            reply = replace(reply, blocks=[summary, *reply.blocks])
            iterations.append(_iteration("message", usage))
        return replace(reply, usage=usage, iterations=iterations, context_management=managed)

    def charge(self, reply: Reply, body: Json, request_id: str) -> None:
        """Put an answer on the bill, as `metered` has made it."""
        model = reply.model or str(body["model"])
        summaries = [count_usage(each, Usage()) for each in reply.iterations if each["type"] == "compaction"]
        calls = [*summaries, reply.usage or Usage()]
        costs = [self._cost_usd(model, usage) for usage in calls]
        known = [cost for cost in costs if cost is not None]
        self.bill.append(
            BillEntry(
                request_id=request_id,
                model=model,
                usage=sum(calls, Usage()),
                nanousd=math.ceil(sum(known) * _NANO) if len(known) == len(costs) else None,
                summaries=len(summaries),
            )
        )

    def _read(self, body: Json) -> _Prepared:
        """The request as the model reads it. Each is looked at several times."""
        if self._last is None or self._last[0] is not body:
            self._last = body, _Prepared.of(body)
        return self._last[1]

    def _sampled(self, prepared: _Prepared, output: int, facts: ModelFacts) -> Usage:
        body = prepared.body
        read = self.cache.take(str(body["model"]), prepared.prompt, facts.min_cache_tokens)
        geo, speed = str(body.get("inference_geo") or ""), str(body.get("speed") or "")
        return replace(read, output_tokens=output, inference_geo=geo, speed=speed)

    def _cost_usd(self, model: str, usage: Usage) -> Decimal | None:
        rates = self._prices.find(model, usage.prompt_tokens)
        if rates is None:
            return None
        cost = (
            rates.input * usage.input_tokens
            + rates.cache_write_5m * usage.cache_write_5m_tokens
            + rates.cache_write_1h * usage.cache_write_1h_tokens
            + rates.cache_read * usage.cache_read_tokens
        ) / _MILLION
        output = rates.output * usage.output_tokens / _MILLION
        if usage.speed == FAST:
            if rates.fast_input is None or rates.fast_output is None:
                return None
            cost *= rates.fast_input / rates.input
            output = rates.fast_output * usage.output_tokens / _MILLION
        searches = self._prices.web_search_per_1000 * usage.web_search_requests / 1000
        return (cost + output) * (_US_ONLY if usage.inference_geo == US else 1) + searches


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request as the model reads it: its body, what was cleared, and its tokens before and after."""

    body: Json
    prompt: Sequence[PromptBlock]
    applied: Sequence[Json]
    sent_tokens: int

    @classmethod
    def of(cls, body: Json) -> _Prepared:
        body = {**body, "messages": without_compacted(body["messages"])}
        prompt = prompt_of(body)
        sent = _tokens(prompt)
        read, applied = edited(body, sent)
        return cls(read, prompt_of(read) if applied else prompt, applied, sent)

    @property
    def tokens(self) -> int:
        return _tokens(self.prompt)

    def compacted(self, summary: Compaction) -> _Prepared:
        """With the summary in place of all messages; as it was if there is none."""
        if summary.content is None:
            return self
        block = {"type": "compaction", "content": summary.content}
        body = {**self.body, "messages": [{"role": "assistant", "content": [block]}]}
        return replace(self, body=body, prompt=prompt_of(body))


def _tokens(prompt: Sequence[PromptBlock]) -> int:
    return sum(block.tokens for block in prompt)


def _iteration(kind: str, usage: Usage) -> dict[str, Any]:
    reported = reported_usage(usage)
    del reported["service_tier"]
    return {"type": kind, **reported}


def _texts(message: Json) -> Sequence[str]:
    content = message["content"]
    if isinstance(content, str):
        return [content]
    return [str(block.get("text") or block.get("content") or "") for block in content]
