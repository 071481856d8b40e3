"""What a `claude` process has taken: its running totals, what of them is a turn's, and what it was seen to take. Pure.

The result of a turn has totals of the process so far, by model, with the program's own prices. A request that was
interrupted is not in them; what the events of its stream said of it is all that is known.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from skill_actors.models.base import Usage

__all__ = ["Seen", "Totals", "Turn", "count", "mapping", "turn_of"]

_NONE: Final = Usage()
_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "web_search_requests",
)


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def count(value: object) -> int:
    """The value if it is a count, else 0."""
    return int(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Of a process, from its start: what it cost, and its tokens by model. A resumed session begins at nothing."""

    cost_usd: float = 0.0
    by_model: Mapping[str, Usage] = field(default_factory=dict)

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Totals:
        """From the message with the result of a turn."""
        by_model: dict[str, Usage] = {}
        for name, entry in mapping(result.get("modelUsage")).items():
            name = _plain(name)
            by_model[name] = by_model.get(name, _NONE) + _of_model(mapping(entry))
        cost = result.get("total_cost_usd")
        has_cost = isinstance(cost, int | float) and math.isfinite(cost)
        return cls(cost_usd=max(0.0, float(cost)) if has_cost and cost else 0.0, by_model=by_model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn took. `cost_usd` is None where a part of it is in no total."""

    cost_usd: float | None
    usage: Usage
    by_model: Mapping[str, Usage]


class Seen:
    """What the events of a turn's stream said that its requests took."""

    def __init__(self) -> None:
        self._requests: dict[str, tuple[str, Usage]] = {}
        self._current: str | None = None
        self.open = False  # a request has begun and not ended: it is in no total

    def begin(self, request: str, model: str, usage: Mapping[str, Any]) -> None:
        self._current, self.open = request, True
        self.whole(request, model, usage)

    def whole(self, request: str, model: str, usage: Mapping[str, Any]) -> None:
        self._requests[request] = (_plain(model), _of_request(usage))

    def more(self, usage: Mapping[str, Any]) -> bool:
        """What the current request has taken by now; False if there is none."""
        if self._current is None:
            return False
        model, before = self._requests[self._current]
        self._requests[self._current] = (model, _most(before, _of_request(usage)))
        return True

    def end(self) -> None:
        self._current, self.open = None, False

    @property
    def by_model(self) -> dict[str, Usage]:
        totals: dict[str, Usage] = {}
        for model, usage in self._requests.values():
            totals[model] = totals.get(model, _NONE) + usage
        return totals

    @property
    def usage(self) -> Usage:
        return sum((usage for _, usage in self._requests.values()), _NONE)


def turn_of(before: Totals, result: Mapping[str, Any] | None, seen: Seen) -> tuple[Turn, Totals]:
    """What a turn took, and the totals after it. `result`: its message; None where the process ended without one."""
    if result is None:
        by_model = seen.by_model
        return Turn(cost_usd=None, usage=sum(by_model.values(), _NONE), by_model=by_model), before
    after = Totals.of(result)
    base = before if _is_later(after, before) else Totals()  # it began to count anew
    took = {name: _less(usage, base.by_model.get(name, _NONE)) for name, usage in after.by_model.items()}
    took = {name: usage for name, usage in took.items() if usage != _NONE}
    took = _with_hours(took, mapping(result.get("usage")))
    if not after.by_model and (whole := _of_request(mapping(result.get("usage")))) != _NONE:
        took = {"": whole}  # an old program, or a new one, that does not tell models apart
    cost: float | None = max(0.0, after.cost_usd - base.cost_usd)
    for name, told in seen.by_model.items() if seen.open else ():
        if told.total_tokens > took.get(name, _NONE).total_tokens:  # a request that was interrupted
            took[name], cost = told, None
    usage = sum(took.values(), _NONE)
    return Turn(cost_usd=cost, usage=usage, by_model={name: each for name, each in took.items() if name}), after


def _plain(model: str) -> str:
    """Without what the program adds in brackets for a variant of its own, such as the size of the window."""
    return model.partition("[")[0]


def _of_model(entry: Mapping[str, Any]) -> Usage:
    return Usage(
        input_tokens=count(entry.get("inputTokens")),
        output_tokens=count(entry.get("outputTokens")),
        cache_read_tokens=count(entry.get("cacheReadInputTokens")),
        cache_write_5m_tokens=count(entry.get("cacheCreationInputTokens")),
        web_search_requests=count(entry.get("webSearchRequests")),
    )


def _of_request(usage: Mapping[str, Any]) -> Usage:
    written, hours = count(usage.get("cache_creation_input_tokens")), _hours(usage)
    return Usage(
        input_tokens=count(usage.get("input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        cache_read_tokens=count(usage.get("cache_read_input_tokens")),
        cache_write_5m_tokens=max(0, written - hours),
        cache_write_1h_tokens=hours,
        web_search_requests=count(mapping(usage.get("server_tool_use")).get("web_search_requests")),
    )


def _hours(usage: Mapping[str, Any]) -> int:
    return count(mapping(usage.get("cache_creation")).get("ephemeral_1h_input_tokens"))


def _with_hours(took: Mapping[str, Usage], usage: Mapping[str, Any]) -> dict[str, Usage]:
    """Totals do not tell how long what was written is kept; the turn's own usage does, of all models together."""
    left, shared = _hours(usage), {}
    for name, each in took.items():
        kept = min(left, each.cache_write_5m_tokens)
        left -= kept
        shorter = each.cache_write_5m_tokens - kept
        shared[name] = dataclasses.replace(each, cache_write_5m_tokens=shorter, cache_write_1h_tokens=kept)
    return shared


def _is_later(after: Totals, before: Totals) -> bool:
    return after.cost_usd >= before.cost_usd - 1e-9 and all(
        name in after.by_model and _most(after.by_model[name], usage) == after.by_model[name]
        for name, usage in before.by_model.items()
    )


def _less(after: Usage, before: Usage) -> Usage:
    return Usage(**{name: max(0, getattr(after, name) - getattr(before, name)) for name in _COUNTS})


def _most(one: Usage, other: Usage) -> Usage:
    return Usage(**{name: max(getattr(one, name), getattr(other, name)) for name in _COUNTS})
