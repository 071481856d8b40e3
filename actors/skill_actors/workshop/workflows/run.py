"""A run of a workflow: what became of each stage so far. Values, and how they are stored. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, cast

from skill_actors.workshop.workflows.definition import Workflow, read_workflow

__all__ = ["Run", "RunStatus", "StageState", "StageStatus", "summary_of"]

StageStatus = Literal["waiting", "running", "done", "failed", "skipped", "cancelled"]
RunStatus = Literal["running", "completed", "failed", "cancelled"]

_TEXTS: Final = frozenset({"result", "answer", "error"})
_MAX_LISTED_CHARS: Final = 200  # of an argument, or an error


@dataclass(frozen=True, slots=True, kw_only=True)
class StageState:
    """What became of a stage.

    Args:
        attempt: from 1: goes up when one has failed; `cuts`: how often one was broken off by a restart.
        round: from 1: goes up when the result was not what `until` asks for.
        turn: of the attempt, once it has one; `judging`: of the judge.
        item: on the board, for stages that go there.
        answer: what the agent said in this round, while the judge looks at it.
        result: what came of it in the end.
        error: why it failed, was skipped or cancelled, or why the attempt before failed.
        cost_usd: of all its turns so far; None if one is not known.
        allowed_usd: what they may cost together; None if there is no bound.

    """

    status: StageStatus = "waiting"
    attempt: int = 0
    cuts: int = 0
    round: int = 0
    turn: str | None = None
    judging: str | None = None
    item: str | None = None
    answer: str | None = None
    result: str = ""
    error: str | None = None
    started: str | None = None
    ended: str | None = None
    cost_usd: float | None = 0.0
    allowed_usd: float | None = None

    @property
    def is_over(self) -> bool:
        return self.status not in ("waiting", "running")

    @property
    def left_usd(self) -> float | None:
        """What is left for its next turn; None if there is no bound. Nothing, if what it has cost is not known.

        To the billionth: sums of such amounts are not exact, and less than that buys nothing.
        """
        if self.allowed_usd is None:
            return None
        return 0.0 if self.cost_usd is None else max(round(self.allowed_usd - self.cost_usd, 9), 0.0)

    def spend(self, cost_usd: float | None) -> StageState:
        """The same, with a turn's cost added."""
        known = self.cost_usd is not None and cost_usd is not None
        return replace(self, cost_usd=(self.cost_usd or 0.0) + (cost_usd or 0.0) if known else None)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` made."""
        return cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. The definition is kept with it: changing the workflow changes no run.

    Args:
        id: `run_...`.
        workflow: the name of what it runs.
        arguments: the values of the parameters.
        stages: by name, in the order of the definition.
        closing: how it is going to end once what it does is broken off, and `error` why. Nothing begins any more.
        deadline: after this time it is cut; RFC 3339.

    """

    id: str
    owner_uid: int
    workflow: str
    definition: Workflow
    arguments: Mapping[str, str]
    stages: Mapping[str, StageState]
    status: RunStatus = "running"
    closing: RunStatus | None = None
    error: str | None = None
    created: str
    ended: str | None = None
    deadline: str | None = None
    version: int = 0

    @property
    def key(self) -> str:
        """Of its document."""
        return f"{self.owner_uid}/{self.id}"

    @property
    def cost_usd(self) -> float | None:
        """Of all stages so far; None if one is not known."""
        costs = [stage.cost_usd for stage in self.stages.values()]
        return None if None in costs else sum(cast("list[float]", costs))

    def with_stage(self, name: str, stage: StageState) -> Run:
        return replace(self, stages={**self.stages, name: stage})

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "id": self.id,
            "workflow": self.workflow,
            "definition": self.definition.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "arguments": dict(self.arguments),
            "stages": {name: stage.to_json() for name, stage in self.stages.items()},
            "status": self.status,
            "closing": self.closing,
            "error": self.error,
            "created": self.created,
            "ended": self.ended,
            "deadline": self.deadline,
        }

    def view(self) -> dict[str, Any]:
        """As it is shown: with the cost, without the definition."""
        shown = {name: value for name, value in self.to_json().items() if name != "definition"}
        return {**shown, "cost_usd": self.cost_usd}

    def summary(self) -> dict[str, Any]:
        """As it is listed; see `summary_of`."""
        return summary_of(self.to_json())

    @classmethod
    def of(cls, data: Mapping[str, Any], *, owner_uid: int, version: int) -> Self:
        """What `to_json` made."""
        fields = {**data, "definition": read_workflow(data["definition"])}
        fields["stages"] = {name: StageState.of(stage) for name, stage in data["stages"].items()}
        return cls(**fields, owner_uid=owner_uid, version=version)


def summary_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """A run as it is listed, from its stored form: without what its stages have said, long arguments cut."""
    costs = [stage["cost_usd"] for stage in data["stages"].values()]
    shown = {name: value for name, value in data.items() if name != "definition"}
    stages = {
        name: {key: value for key, value in stage.items() if key not in _TEXTS}
        for name, stage in data["stages"].items()
    }
    return {
        **shown,
        "arguments": {name: _cut(value) for name, value in data["arguments"].items()},
        "error": None if data["error"] is None else _cut(data["error"]),
        "stages": stages,
        "cost_usd": None if None in costs else sum(costs),
    }


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_LISTED_CHARS else f"{text[: _MAX_LISTED_CHARS - 3]}..."
