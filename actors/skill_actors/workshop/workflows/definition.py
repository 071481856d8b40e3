"""What a workflow is: stages that agents perform, which wait for each other. Checked whole before it runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from skill_actors.errors import Refused
from skill_actors.workshop.agents.templates import places_in
from skill_actors.workshop.workflows.conditions import Condition
from skill_actors.workshop.workflows.room import MAX_ARGUMENTS_BYTES, MAX_DEFINITION_BYTES, json_fault, size_bytes

__all__ = ["OF_THE_RUN", "Parameter", "Stage", "Until", "When", "Workflow", "read_workflow"]

OF_THE_RUN: Final = frozenset({"workflow", "run", "round"})
"""Places of prompts that every run fills by itself."""

_MAX_FAULTS: Final = 5
_WORDS: Final = (
    ("Input should be", "expected"),
    ("String should", "it should"),
    ("Extra inputs are not permitted", "there is no such field"),
)

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
Who = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Prompt = Annotated[str, Field(min_length=1, max_length=200_000)]
Seconds = Annotated[float, Field(ge=0.1, le=7 * 86_400)]
Dollars = Annotated[float, Field(gt=0, le=1_000_000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(_Part):
    """What a run may be given. Without a default it has to be."""

    default: Annotated[str, Field(max_length=200_000)] | None = None
    description: Annotated[str, Field(max_length=1_000)] = ""


class When(Condition):
    """The stage is performed only if an earlier one was like this; else it is skipped."""

    stage: Name


class Until(Condition):
    """The stage is performed again until its result is like this; after so many rounds it has failed.

    Args:
        rounds: at most.
        judge: an agent that is asked about each result; then the condition is about its answer.
        prompt: what the judge is asked, with a place {result}.

    """

    rounds: Annotated[int, Field(ge=1, le=100)] = 5
    judge: Who | None = None
    prompt: Prompt | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.ended is not None:
            raise ValueError("'is' says nothing here: only a result that was given is looked at")
        if (self.judge is None) != (self.prompt is None):
            raise ValueError("judge and prompt belong together")
        if self.prompt is not None and "result" not in places_in(self.prompt):
            raise ValueError("the prompt of the judge has no place {result}")
        return self


class Stage(_Part):
    """One step. Exactly one of `agent`, `profile` and `type` says who performs it.

    Args:
        prompt: what is asked, with places {PARAMETER}, and {STAGE} for the results of stages that ended before.
        agent: who is asked.
        profile: of an agent that is made for this stage and let go of afterwards.
        type: of an item on the board, which a worker of that type takes; `title` and `priority` are the item's.
        after: stages that have to end first; results without a place of their own follow the prompt.
        retries: how often a failed attempt is followed by another.
        timeout_s: of each attempt.
        usd: what it may cost, all attempts, rounds and its judge together.
        go_on: whether the run goes on without it, if it fails.

    """

    name: Name
    prompt: Prompt
    agent: Who | None = None
    profile: Who | None = None
    type: Who | None = None
    title: Annotated[str, Field(max_length=200)] | None = None
    priority: Annotated[int, Field(ge=1, le=5)] = 3
    after: tuple[Name, ...] = ()
    when: When | None = None
    until: Until | None = None
    retries: Annotated[int, Field(ge=0, le=20)] = 0
    timeout_s: Seconds | None = None
    usd: Dollars | None = None
    go_on: bool = False

    @property
    def waits_for(self) -> frozenset[str]:
        """Names of the stages that have to end first."""
        return frozenset(self.after) if self.when is None else frozenset({*self.after, self.when.stage})

    @model_validator(mode="after")
    def _has_one_performer(self) -> Self:
        given = [name for name in ("agent", "profile", "type") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of agent, profile and type, not {' and '.join(given) or 'none'}")
        if self.type is not None and (self.usd is not None or self.until is not None):
            raise ValueError("usd and until are not for stages of the board, whose workers have limits of their own")
        if self.until is not None and self.until.judge is not None and self.until.judge == self.agent:
            raise ValueError(f"its judge is {self.agent!r}, who performs it: nobody judges their own work")
        return self


class Workflow(_Part):
    """A definition.

    Args:
        timeout_s: of a whole run.
        usd: what a whole run may cost.

    """

    description: Annotated[str, Field(max_length=10_000)] = ""
    parameters: Annotated[dict[Name, Parameter], Field(max_length=100)] = Field(default_factory=dict)
    timeout_s: Seconds | None = None
    usd: Dollars | None = None
    stage: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=100)]

    def __getitem__(self, name: str) -> Stage:
        return self._by_name[name]

    @cached_property
    def ordered(self) -> Sequence[Stage]:
        """Its stages, each behind those that it waits for."""
        graph = {stage.name: stage.waits_for for stage in self.stage}
        return tuple(self[name] for name in TopologicalSorter(graph).static_order())

    def arguments(self, given: Mapping[str, str]) -> dict[str, str]:
        """A value for each parameter. Raises Refused("bad_request")."""
        for name in given:
            if name not in self.parameters:
                raise Refused("bad_request", f"parameters: unknown {name!r:.60}; {_hint(name, self.parameters)}")
        missing = [name for name, each in self.parameters.items() if each.default is None and name not in given]
        if missing:
            raise Refused(
                "bad_request", f"parameters: {', '.join(missing)}: no value was given, and there is no default"
            )
        values = {name: given.get(name, each.default or "") for name, each in self.parameters.items()}
        if (fault := json_fault(values)) is not None:
            raise Refused("bad_request", f"parameters.{'.'.join(map(str, fault[0]))}: {fault[1]}")
        if (size := size_bytes(values)) > MAX_ARGUMENTS_BYTES:
            raise Refused("too_large", f"the parameters take {size} bytes, and may take {MAX_ARGUMENTS_BYTES}")
        return values

    @cached_property
    def _by_name(self) -> Mapping[str, Stage]:
        return {stage.name: stage for stage in self.stage}

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        names = [stage.name for stage in self.stage]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"stage {twice!r} is there more than once")
        clash = sorted((set(names) & set(self.parameters)) | ((set(names) | set(self.parameters)) & OF_THE_RUN))
        if clash:
            raise ValueError(f"{clash[0]!r} names two things: a stage, a parameter, or {', '.join(sorted(OF_THE_RUN))}")
        for stage in self.stage:
            for other in sorted(stage.waits_for - set(names)):
                raise ValueError(f"stage {stage.name!r} waits for {other!r}, which there is not; {_hint(other, names)}")
        self._check_order()
        return self

    def _check_order(self) -> None:
        """Each stage comes behind what it waits for, and speaks of nothing else."""
        graph = {stage.name: stage.waits_for for stage in self.stage}
        before: dict[str, frozenset[str]] = {}
        try:
            for name in TopologicalSorter(graph).static_order():
                before[name] = graph[name].union(*(before[other] for other in graph[name]))
        except CycleError as error:
            raise ValueError(f"stages wait for each other: {' -> '.join(error.args[1])}") from error
        for stage in self.stage:
            for text, more in self._texts(stage):
                known = {*self.parameters, *OF_THE_RUN, *before[stage.name], *more}
                for place in places_in(text):
                    if place not in known:
                        words = (
                            f"stage {stage.name!r} has a place {{{place}}} in a prompt, which is no parameter and no"
                        )
                        raise ValueError(f"{words} stage that it waits for; {_hint(place, known)}")

    def _texts(self, stage: Stage) -> Iterator[tuple[str, frozenset[str]]]:
        yield stage.prompt, frozenset()
        if stage.until is not None and stage.until.prompt is not None:
            yield stage.until.prompt, frozenset({"result"})


def read_workflow(given: Mapping[str, Any]) -> Workflow:
    """A definition from JSON or TOML. Raises Refused("bad_request") with all that is wrong and where it stands."""
    if (fault := json_fault(given)) is not None:
        raise Refused("bad_request", _fault(*fault, given))
    if (size := size_bytes(given)) > MAX_DEFINITION_BYTES:
        raise Refused("too_large", f"the workflow takes {size} bytes, and may take {MAX_DEFINITION_BYTES}")
    try:
        return Workflow.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False)
    empty = [item for item in found if item["type"] == "too_short"]  # also said where what there was is not taken
    faults = [_fault(item["loc"], item["msg"], given) for item in found if item not in empty or found == empty]
    more = f"; and {len(faults) - _MAX_FAULTS} more" if len(faults) > _MAX_FAULTS else ""
    raise Refused("bad_request", "; ".join(faults[:_MAX_FAULTS]) + more, details={"faults": faults[:100]})


def _fault(place: tuple[int | str, ...], message: str, given: Mapping[str, Any]) -> str:
    """A fault in words. Stages are named, since nobody counts them."""
    words = [str(part) for part in place]
    if len(place) > 1 and place[0] == "stage" and isinstance(place[1], int):
        stage = given["stage"][place[1]]
        name = stage.get("name") if isinstance(stage, Mapping) else None
        words[:2] = [f"stage {name!r:.60}" if isinstance(name, str) else f"stage number {place[1] + 1}"]
    message = message.removeprefix("Value error, ")
    for words_of_pydantic, ours in _WORDS:
        message = message.replace(words_of_pydantic, ours)
    return f"{'.'.join(words)}: {message}" if words else message


def _hint(name: str, known: Any) -> str:
    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known)) or 'none'}"
