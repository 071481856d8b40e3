"""On whose account something is used, and which sums and caps that concerns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from skill_actors.sessions.ledger.limits import Limits

__all__ = ["Account", "Scope"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One sum that usage counts in, and the names of the caps over it: the one for all of a kind, and its own."""

    key: str
    caps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A turn, and to whom it is charged.

    Args:
        parents: sessions that this one works for, nearest first: their caps bind it and they are charged with it.
        agent: the agent's name, if it works as one.
        above: agents that this one works for, likewise.
        budget: the session's own limits, as it was made or changed with.
        turn_budget: the turn's own, as its message was sent with.

    """

    session: str
    turn: str
    owner_uid: int
    parents: tuple[str, ...] = ()
    agent: str | None = None
    above: tuple[str, ...] = ()
    budget: Limits = field(default_factory=Limits)
    turn_budget: Limits = field(default_factory=Limits)

    def scopes(self, day: str) -> Sequence[Scope]:
        """The keys of `store.ledger.keys_of` for an entry of that UTC day, each with its caps."""
        user, month = f"user/{self.owner_uid}", day[:7]
        sessions = dict.fromkeys((self.session, *self.parents))
        named = [("turn", f"turn/{self.turn}"), *(("session", f"session/{id_}") for id_ in sessions)]
        agents = dict.fromkeys((*(() if self.agent is None else (self.agent,)), *self.above))
        named += [("agent", f"agent/{name}") for name in agents]
        named.append(("user", user))
        return (
            *(Scope(key=key, caps=(kind, key)) for kind, key in named),
            Scope(key=f"{user}/{day}", caps=("user/day", f"{user}/day")),
            Scope(key=f"{user}/{month}", caps=("user/month", f"{user}/month")),
            Scope(key="global", caps=("global",)),
            Scope(key=f"global/{day}", caps=("global/day",)),
            Scope(key=f"global/{month}", caps=("global/month",)),
        )
