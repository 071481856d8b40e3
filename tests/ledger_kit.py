"""A ledger over a real journal, requests that cost a known sum, and what it tells."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from skill_actors.ids import new_id
from skill_actors.models.base import ModelRequest
from skill_actors.models.prices import PriceTable, Rates, load_prices
from skill_actors.sessions.ledger import Account, Cap, Ledger, Limits
from skill_actors.store import SqliteJournal
from skill_actors.telemetry import Bus

__all__ = ["MODEL", "NOON", "LedgerKit", "account", "cap", "flat_prices", "open_ledger", "request"]

MODEL = "flat-1"  # a dollar for a million tokens, of whatever kind
NOON = "2026-03-31T12:00:00.000Z"


def flat_prices() -> PriceTable:
    """The built-in prices, and MODEL."""
    one = Decimal(1)
    flat = Rates(input=one, cache_write_5m=one, cache_write_1h=one, cache_read=one, output=one)
    built_in = load_prices()
    return replace(built_in, rates={**built_in.rates, MODEL: (flat,)})


def account(session: object = "", **fields: Any) -> Account:
    """An account of uid 1000, of a new session and turn where none are given."""
    values: dict[str, Any] = {"session": session or new_id("ses"), "turn": new_id("trn"), "owner_uid": 1000}
    return Account(**(values | fields))


def request(text: str = "hello", *, max_tokens: int = 1000, model: str = MODEL, **fields: Any) -> ModelRequest:
    return ModelRequest(model=model, messages=[{"role": "user", "content": text}], max_tokens=max_tokens, **fields)


def cap(name: str, **limits: Any) -> Cap:
    return Cap(name=name, limits=Limits.from_json(limits), source="config")


@dataclass
class LedgerKit:
    """`caps`, `warn_at` and `now` may be changed at any time."""

    journal: SqliteJournal
    caps: list[Cap] = field(default_factory=list)
    warn_at: Sequence[float] = (0.5, 0.8)
    now: str = NOON
    told: list[tuple[str, Mapping[str, float], Mapping[str, object]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        bus = Bus()
        bus.attach("test", ["*"], lambda name, numbers, facts: self.told.append((name, numbers, facts)))
        self.ledger = Ledger(
            self.journal.ledger,
            prices=flat_prices(),
            bus=bus,
            caps=lambda: tuple(self.caps),
            warn_at=lambda: self.warn_at,
            clock=lambda: self.now,
        )

    def names(self) -> list[str]:
        """What was told, in order."""
        return [name for name, _, _ in self.told]


@asynccontextmanager
async def open_ledger(path: Path, **fields: Any) -> AsyncIterator[LedgerKit]:
    """A ledger in the journal of this file, which is made where it is missing."""
    async with await SqliteJournal.open(path, reserve_bytes=0) as journal:
        yield LedgerKit(journal, **fields)
