"""Batches and findings for tests, as programs and rules make them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from skilld.monitor.batch import Batch, batch_of
from skilld.monitor.inspected import Found, Inspected, Origin
from skilld.monitor.store import EventStore, Written

__all__ = ["ME", "NOW_US", "Rule", "batch", "chat", "keep", "span"]

NOW_US = 1_700_000_000_000_000
ME = Origin(1, 1)


@dataclass(frozen=True, slots=True)
class Rule:
    """A finding."""

    rule: str = "card"
    category: str = "sensitive_data"
    severity: str = "medium"
    alert: str = "suspicious"
    confidence: float = 0.9
    direction: str = "event"


def batch(run: int, *events: dict[str, Any], agent: str = "shop") -> Batch:
    """A batch of events that say only what matters; a second lies between two of them."""
    made = [
        {"seq": n, "time_us": NOW_US + n * 1_000_000, "name": "x", "level": "INFO", "data": {}, **given}
        for n, given in enumerate(events)
    ]
    return batch_of({"batch": 1, "run": f"{run:032x}", "agent": agent, "pid": 7, "events": made})


def span(id: str, parent: str | None = None, **changes: Any) -> dict[str, Any]:
    """A span of the trace `ab`."""
    return {"trace": "ab", "span": id, "parent": parent, "duration_ms": 5.0, "status": "ok", **changes}


def chat(
    id: str, tokens: tuple[int, int] | None = (1000, 500), model: str = "claude-sonnet-5-5", **changes: Any
) -> Any:
    """A call of a model."""
    data = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.request.model": model}
    if tokens is not None:
        data |= {"gen_ai.usage.input_tokens": tokens[0], "gen_ai.usage.output_tokens": tokens[1]}  # type: ignore[dict-item]
    return span(id, name=f"chat {model}", channel="LLM", data=data, **changes)


def keep(store: EventStore, batch: Batch, origin: Origin = ME, found: Iterable[Found] = ()) -> Written:
    """Store a batch, as it is."""
    (written,) = store.write([(Inspected(batch, tuple(found)), origin)])
    return written
