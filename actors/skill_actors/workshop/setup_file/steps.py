"""What has to be done so that there is what a setup file says. Pure.

A file says what is to be; what it does not speak of is left alone. What it has made and says no more is removed where
that is asked for, and nothing else ever is. Items of the board and values of the store are put there once: what becomes
of them is work, and not of the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from skill_actors.workshop.agents.agents import LIVE
from skill_actors.workshop.setup_file.definition import SetupFile
from skill_actors.workshop.setup_file.present import Present, common_of

__all__ = ["KINDS", "Kind", "Made", "Step", "agent_fields", "parts_of", "plan_digest", "steps_of"]

Kind = Literal["common", "profile", "workflow", "agent", "worker", "schedule", "item", "value"]
Action = Literal["create", "change", "remove"]

KINDS: Final[tuple[Kind, ...]] = ("common", "profile", "workflow", "agent", "worker", "schedule", "item", "value")
"""In the order in which things are made; they are removed in the opposite one."""

_PARTS: Final = ("context", "defaults", "budget")
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Made:
    """Names of what a file has made, by kind; of "common" the sections that it has set."""

    names: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Mapping[str, Sequence[str]]) -> Made:
        """From `to_json`."""
        return cls({kind: frozenset(names) for kind, names in data.items()})

    def to_json(self) -> dict[str, list[str]]:
        return {kind: sorted(names) for kind, names in sorted(self.names.items()) if names}

    def __getitem__(self, kind: str) -> frozenset[str]:
        return self.names.get(kind, frozenset())

    def __or__(self, other: Made) -> Made:
        return Made({kind: self[kind] | other[kind] for kind in {*self.names, *other.names}})

    def __sub__(self, other: Made) -> Made:
        return Made({kind: names - other[kind] for kind, names in self.names.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that is made, changed or removed.

    Args:
        fields: what differs: before and after, by field; a field that is not there is absent from the pair's mapping.
        anew: an agent begins a conversation anew, or a worker's agents are stopped and begin again.
        held: it is not done, since nobody has said that an agent may begin anew.

    """

    do: Action
    kind: Kind
    name: str
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    anew: bool = False
    held: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "do": self.do,
            "kind": self.kind,
            "name": self.name,
            "fields": {name: dict(pair) for name, pair in self.fields.items()},
            "anew": self.anew,
            "held": self.held,
        }


def plan_digest(name: str, steps: Iterable[Step]) -> str:
    """Of what is to be done: the same where the file and what there is are the same."""
    text = json.dumps([name, [step.to_json() for step in steps]], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def steps_of(
    file: SetupFile, present: Present, owned: Made, put: Made, *, prune: bool = False, reset: bool = False
) -> list[Step]:
    """What is to be done, in its order.

    Args:
        owned: what the file has made, or was about to make when it was interrupted.
        put: the items and values that it has certainly put where they belong; they are not put there again.
        prune: remove what it has made and says no more.
        reset: let agents begin anew where that is what a change takes.

    """
    common = _common(file, present, owned, prune=prune)
    steps = list(_compared("common", {"": common} if common else {}, {"": _common_now(present)}))
    profiles = list(_compared("profile", file.profiles, present.profiles))
    workflows = list(_compared("workflow", file.workflows, present.workflows))
    agents = {name: agent_fields(file, present, owned, name, prune=prune) for name in file.agents}
    steps += profiles + workflows
    steps += [_agent_step(step, reset) for step in _compared("agent", agents, present.agents)]
    steps += [
        Step(do=step.do, kind="worker", name=step.name, fields=step.fields, anew=step.do == "change")
        for step in _compared("worker", file.workers, present.workers)
    ]
    steps += _compared("schedule", file.schedules, present.schedules)
    steps += [_new("item", id) for id in file.items if id not in present.items and id not in put["item"]]
    names = [f"{namespace}/{key}" for namespace, key in file.values]
    steps += [_new("value", name) for name in names if name not in present.values and name not in put["value"]]
    return [*steps, *(_removals(file, present, owned) if prune else ())]


def agent_fields(file: SetupFile, present: Present, owned: Made, name: str, *, prune: bool = False) -> dict[str, Any]:
    """The settings that an agent of the file is to have: over its profile's, over the defaults as they will be."""
    wish = file.agents[name]
    common = _common(file, present, owned, prune=prune) or _common_now(present)
    defaults = {key.partition(".")[2]: value for key, value in common.items() if key.startswith("defaults.")}
    context = {"context": common["context"]} if "context" in common else {}
    profile = wish.given.get("profile")
    under = {} if profile is None else file.profiles.get(profile, present.profiles.get(profile, {}))
    return wish.fields(context, defaults, under)


def _common_now(present: Present) -> dict[str, Any]:
    setup = present.setup
    return common_of(setup.context, setup.defaults, setup.max_cost_usd)


def _common(file: SetupFile, present: Present, owned: Made, *, prune: bool) -> dict[str, Any] | None:
    """What is to hold for all agents; None where the file says nothing about it."""
    gone = owned["common"] if prune else frozenset()
    if (file.context, file.defaults, file.usd) == (None, None, None) and not gone:
        return None
    setup = present.setup
    context = file.context if file.context is not None else "" if "context" in gone else setup.context
    defaults = file.defaults if file.defaults is not None else {} if "defaults" in gone else setup.defaults
    usd = file.usd if file.usd is not None else None if "budget" in gone else setup.max_cost_usd
    return common_of(context, defaults, usd) or {"": None}


def _compared(
    kind: Kind, wanted: Mapping[str, Mapping[str, Any]], there: Mapping[str, Mapping[str, Any]]
) -> Iterator[Step]:
    for name, form in wanted.items():
        if name not in there:
            fields = {key: {"after": value} for key, value in form.items()}
            yield Step(do="create", kind=kind, name=name, fields=fields)
        elif different := _differences(there[name], form):
            yield Step(do="change", kind=kind, name=name, fields=different)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key in sorted({*before, *after} - {""}):
        old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if old != new or isinstance(old, bool) != isinstance(new, bool):
            pair = {"before": old, "after": new}
            found[key] = {word: value for word, value in pair.items() if value is not _ABSENT}
    return found


def _agent_step(step: Step, reset: bool) -> Step:
    anew = step.do == "change" and not step.fields.keys() <= LIVE
    return Step(do=step.do, kind="agent", name=step.name, fields=step.fields, anew=anew, held=anew and not reset)


def _new(kind: Kind, name: str) -> Step:
    return Step(do="create", kind=kind, name=name)


def _removals(file: SetupFile, present: Present, owned: Made) -> Iterator[Step]:
    said: dict[Kind, Iterable[str]] = {
        "profile": file.profiles,
        "workflow": file.workflows,
        "agent": file.agents,
        "worker": file.workers,
        "schedule": file.schedules,
    }
    there: dict[Kind, Mapping[str, Any]] = {
        "profile": present.profiles,
        "workflow": present.workflows,
        "agent": present.agents,
        "worker": present.workers,
        "schedule": present.schedules,
    }
    for kind in reversed(KINDS):
        if kind in said:
            for name in sorted(owned[kind] - set(said[kind])):
                if name in there[kind]:
                    yield Step(do="remove", kind=kind, name=name)


def parts_of(file: SetupFile) -> frozenset[str]:
    """The sections about all agents that the file has."""
    said = dict(zip(_PARTS, (file.context, file.defaults, file.usd), strict=True))
    return frozenset(name for name, value in said.items() if value is not None)
