"""What agents need of their surroundings, filled once by whoever builds the workshop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from skill_actors.sessions.ledger import Ledger
from skill_actors.sessions.manager import SessionManager
from skill_actors.store.base import Journal
from skill_actors.store.documents import DocumentStore
from skill_actors.store.ledger import LedgerStore
from skill_actors.telemetry import Bus
from skill_actors.workshop.agents.crashes import CrashRules

__all__ = ["AgentSurroundings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSurroundings:
    """Everything outside the workshop that its agents touch.

    Args:
        sessions: performs their turns.
        journal: where these are.
        documents: where the agents are.
        ledger: bounds what they spend; None: nothing is counted.
        spent: what they have spent.
        bus: tells when turns end.
        rules: when an agent whose program crashes is given up.
        max_agents: that one owner may have, and as many profiles.
        check_tools: raises Refused("bad_request") unless there are such tools of the workshop.
        clock: seconds since 1970.

    """

    sessions: SessionManager
    journal: Journal
    documents: DocumentStore
    ledger: Ledger | None
    spent: LedgerStore | None
    bus: Bus
    rules: CrashRules = field(default_factory=CrashRules)
    max_agents: int = 10_000
    check_tools: Callable[[bool | Sequence[str]], None] = lambda _tools: None
    clock: Callable[[], float] = time.time
