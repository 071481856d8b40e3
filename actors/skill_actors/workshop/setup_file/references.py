"""Whether everything is there that a setup file names: in the file itself, or where it is to be applied. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter

from skill_actors.workshop.setup_file.definition import Fault, SetupFile

__all__ = ["There", "dangling", "worker_agents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class There:
    """Names that are there besides those of the file. `types`: of items; None: not known here."""

    profiles: Collection[str] = ()
    agents: Collection[str] = ()
    workers: Collection[str] = ()
    items: Collection[str] = ()
    types: Collection[str] | None = None


def worker_agents(file: SetupFile) -> dict[str, str]:
    """The names of its workers' agents, and whose they are."""
    return {f"{name}-{n}": name for name, each in file.workers.items() for n in range(1, int(each["count"]) + 1)}


def dangling(file: SetupFile, there: There) -> list[Fault]:
    """What names something that there is not."""
    return [*_agents(file, there), *_plans(file, there), *_items(file, there)]


def _agents(file: SetupFile, there: There) -> Iterator[Fault]:
    profiles = {*file.profiles, *there.profiles}
    hands = worker_agents(file)
    for name, agent in file.agents.items():
        yield from _missing(("agents", name, "profile"), agent.given.get("profile"), profiles, "profile")
        if name in hands:
            yield Fault(("agents", name), f"an agent of the worker {hands[name]!r} has this name")
    for name, worker in file.workers.items():
        yield from _missing(("workers", name, "profile"), worker.get("profile"), profiles, "profile")


def _plans(file: SetupFile, there: There) -> Iterator[Fault]:
    agents, profiles = {*file.agents, *there.agents, *worker_agents(file)}, {*file.profiles, *there.profiles}
    for name, schedule in file.schedules.items():
        yield from _missing(("schedules", name, "agent"), schedule["agent"], agents, "agent")
    for name in file.workflows:
        for number, stage in enumerate(file.workflow(name).stage):
            keys = ("workflows", name, "stage", number)
            yield from _missing((*keys, "agent"), stage.agent, agents, "agent")
            yield from _missing((*keys, "profile"), stage.profile, profiles, "profile")
            if there.types is not None:
                yield from _missing((*keys, "type"), stage.type, there.types, "type of items")
            if stage.until is not None:
                yield from _missing((*keys, "until", "judge"), stage.until.judge, agents, "agent")


def _items(file: SetupFile, there: There) -> Iterator[Fault]:
    takers = {*file.agents, *there.agents, *worker_agents(file)}
    takers |= {*file.workers, *there.workers, *file.profiles, *there.profiles}
    items = {*file.items, *there.items}
    for number, item in enumerate(file.items.values()):
        keys = ("board", "items", number)
        yield from _missing((*keys, "agent"), item.get("agent"), takers, "agent, worker or profile")
        for other in item.get("depends_on", ()):
            yield from _missing((*keys, "depends_on"), other, items, "item")
    try:
        TopologicalSorter({id: item.get("depends_on", ()) for id, item in file.items.items()}).prepare()
    except CycleError as error:
        yield Fault(("board", "items"), f"items wait for each other: {' -> '.join(error.args[1])}")


def _missing(keys: tuple[str | int, ...], name: str | None, known: Collection[str], what: str) -> Iterator[Fault]:
    if name is None or name in known:
        return
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known)[:20]) or 'none'}"
    yield Fault(keys, f"there is no {what} {name!r}; {hint}")
