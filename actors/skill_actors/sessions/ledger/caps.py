"""Caps: their names, and which of them hold where several have the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from skill_actors.sessions.ledger.account import Account
from skill_actors.sessions.ledger.limits import UNITS, Limits, Unit
from skill_actors.store.ledger.base import StoredCap, Sums

__all__ = ["Binding", "Cap", "CapState", "bindings", "cap_name", "in_force", "sum_key"]

_ALIASES: Final[Mapping[str, str]] = {"day": "global/day", "month": "global/month", "total": "global"}
_NAME: Final = re.compile(
    r"global(/day|/month)?|turn(/trn_[a-z2-7]{26})?|session(/ses_[a-z2-7]{26})?|agent(/[^\x00-\x1f\x7f]{1,100})?"
    r"|user(/(0|[1-9][0-9]{0,9}))?(/day|/month)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A bound. `source`: a message's or a session's own setting, the configuration, or set while the program runs."""

    name: str
    limits: Limits
    source: Literal["message", "session", "config", "set"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A cap over the sum of one key."""

    cap: Cap
    key: str

    def limits(self) -> Iterable[tuple[Unit, int]]:
        """Its limits, in the whole numbers that are added up."""
        for unit in UNITS:
            limit = self.cap.limits.whole(unit)
            if limit is not None:
                yield unit, limit


@dataclass(frozen=True, slots=True, kw_only=True)
class CapState:
    """A cap, and what was used of it; `sums` is None for one that is over each of many, such as `session`."""

    cap: Cap
    key: str | None
    sums: Sums | None


def cap_name(name: str) -> str:
    """The name under which a cap is kept: `day` is `global/day`.

    Raises:
        ValueError: if no cap can have this name.

    """
    name = _ALIASES.get(name, name)
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name[:100]!r} is no cap; caps are turn, session, agent, user, user/day, user/month, global, day, month, "
            "one of a kind such as session/ses_..., agent/NAME, user/1000, user/1000/day, or total"
        )
    return name


def in_force(config: Iterable[Cap], stored: Iterable[StoredCap]) -> Sequence[Cap]:
    """The caps that hold. One that was set stands for that of the same name in the configuration, and a session's own
    holds besides.

    Raises:
        ValueError: if a name or a limit cannot be understood.

    """
    made = [Cap(name=found.name, limits=Limits.from_json(found.limits), source=found.source) for found in stored]
    replaced = {cap.name for cap in made if cap.source == "set"}
    configured = (Cap(name=cap_name(cap.name), limits=cap.limits, source=cap.source) for cap in config)
    return (*(cap for cap in configured if cap.name not in replaced), *made)


def bindings(account: Account, day: str, caps: Iterable[Cap]) -> Sequence[Binding]:
    """Which of the caps in force bind an account on this day, and its own budget with them."""
    own = f"session/{account.session}"
    by_name: dict[str, list[Cap]] = {}
    for cap in caps:
        if not (cap.name == own and cap.source == "session"):  # as stored it may be older than the account's
            by_name.setdefault(cap.name, []).append(cap)
    if account.budget != Limits():
        by_name.setdefault(own, []).append(Cap(name=own, limits=account.budget, source="session"))
    if account.turn_budget != Limits():
        turn = f"turn/{account.turn}"
        by_name.setdefault(turn, []).append(Cap(name=turn, limits=account.turn_budget, source="message"))
    return tuple(
        Binding(cap=cap, key=scope.key)
        for scope in account.scopes(day)
        for name in scope.caps
        for cap in by_name.get(name, ())
    )


def sum_key(name: str, day: str) -> str | None:
    """The key that a cap is over; None if it is over each of many."""
    *parts, last = name.split("/")
    if name in ("turn", "session", "agent", "user", "user/day", "user/month"):
        return None
    if parts and parts[0] in ("user", "global") and last in ("day", "month"):
        return "/".join((*parts, day if last == "day" else day[:7]))
    return name
