"""What there is of an owner's workshop, in the forms in which a setup file says it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from skill_actors.workshop.agents.record import AgentRecord
from skill_actors.workshop.agents.setup import Setup
from skill_actors.workshop.board.crew import WORKER_LABEL

__all__ = ["Present", "common_of", "is_made_by_itself"]

_STAGE_AGENT: Final = re.compile(r"wf-[0-9a-f]{12}-.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """All of it at one time.

    Args:
        setup: what holds for later agents.
        agents: settings of those that somebody has defined, by name.
        hands: names of workers' agents, and of those of stages that run.
        items: ids of all items of the board.
        values: `NAMESPACE/KEY` of those that a file names and that are there.
        versions: of documents that are written together, by kind and name.

    """

    setup: Setup = field(default_factory=Setup)
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    agents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    hands: Collection[str] = ()
    workers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    workflows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    schedules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    items: Collection[str] = ()
    values: Collection[str] = ()
    versions: Mapping[tuple[str, str], int] = field(default_factory=dict)


def is_made_by_itself(record: AgentRecord) -> bool:
    """Whether the workshop has made the agent: for a worker, or for a stage of a run."""
    return WORKER_LABEL in record.settings.labels or _STAGE_AGENT.fullmatch(record.name) is not None


def common_of(context: str, defaults: Mapping[str, Any], usd: float | None) -> dict[str, Any]:
    """What holds for all agents, as one thing with fields."""
    found: dict[str, Any] = {f"defaults.{name}": value for name, value in defaults.items()}
    if context:
        found["context"] = context
    if usd is not None:
        found["budget.usd"] = usd
    return found
