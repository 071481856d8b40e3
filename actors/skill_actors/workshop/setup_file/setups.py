"""Setup files applied: what there is read, compared, checked, and changed.

Whatever can be told before is told before: nothing is changed by a file of which anything is refused. Then what the
file is about to make is noted, in one commit with the profiles and workflows; the rest follows thing by thing, since
agents have conversations and workers have hands. Whoever is interrupted in between applies the file again: what is
done by then differs no more, and what was only noted is still the file's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.store.documents import DocumentStore, NewEvent
from skill_actors.store.documents.base import MAX_CHANGES
from skill_actors.workshop.agents import AgentDesk
from skill_actors.workshop.agents.profiles import Profiles
from skill_actors.workshop.agents.settings import laid_over
from skill_actors.workshop.agents.setup import Setup
from skill_actors.workshop.board import Board, Workers
from skill_actors.workshop.entries import Entries
from skill_actors.workshop.events import Feed
from skill_actors.workshop.names import check_name, document_id
from skill_actors.workshop.refusals import refusing
from skill_actors.workshop.schedules import Schedules, ScheduleSettings
from skill_actors.workshop.setup_file.definition import (
    DEFAULT_NAME,
    Fault,
    SetupFault,
    SetupFile,
    read_file,
    worker_form,
)
from skill_actors.workshop.setup_file.exporting import exported, item_drafts
from skill_actors.workshop.setup_file.present import Present, is_made_by_itself
from skill_actors.workshop.setup_file.reading import MAX_WHOLE_BYTES
from skill_actors.workshop.setup_file.record import SETUP_KIND, SetupRecord
from skill_actors.workshop.setup_file.references import There, dangling, worker_agents
from skill_actors.workshop.setup_file.steps import Step, agent_fields, parts_of, plan_digest, steps_of
from skill_actors.workshop.workflows.runs import Runs

__all__ = ["SetupFiles", "Shop", "WhatToDo"]

_TOGETHER: Final = frozenset({"profile", "workflow"})  # only documents, which are written in one commit
_MAX_ITEMS: Final = 500
_DRAIN_S: Final = 30.0  # for what the agents of a worker have, before that is changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """The nouns that a file speaks of."""

    documents: DocumentStore
    feed: Feed
    desk: AgentDesk
    board: Board
    workers: Workers
    schedules: Schedules
    runs: Runs
    entries: Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatToDo:
    """How a file is applied.

    Args:
        dry_run: nothing is changed.
        prune: what the file has made and says no more is removed.
        reset: agents begin anew where a change takes that; else they are left as they are.
        plan: of a dry run: refused if by now something else is to be done.

    """

    dry_run: bool = False
    prune: bool = False
    reset: bool = False
    plan: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    file: SetupFile
    present: Present
    record: SetupRecord
    steps: Sequence[Step]
    agents: Mapping[str, Mapping[str, Any]]  # the settings that those of the file are to have
    unsettled: bool  # what is remembered of the file is not what there is


class SetupFiles:
    """Files of all owners. Belongs to the trio thread. Results are JSON-ready."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._busy: set[int] = set()

    async def apply(self, owner_uid: int, given: Mapping[str, Any], how: WhatToDo) -> dict[str, Any]:
        """Make it so, or with `dry_run` say what would be done: {"name", "plan", "steps", "applied", "held"}.

        Args:
            given: the file as JSON.

        Raises:
            Refused: bad_request with all that is wrong; conflict: another file of the owner is being applied, or `plan`
                is not what there is to do; what its things are refused for. Where something is refused in the middle,
                `details.done` are the steps that were done, and the same file applied again goes on.

        """
        if how.dry_run:
            return _view(await self._planned(owner_uid, given, how), applied=False)
        async with self._alone(owner_uid):
            plan = await self._planned(owner_uid, given, how)
            if how.plan not in (None, plan_digest(plan.file.name, plan.steps)):
                raise Refused("conflict", "something else is to be done by now: look at the differences again")
            if plan.unsettled or any(not step.held for step in plan.steps):
                await self._do_all(owner_uid, plan)
            return _view(plan, applied=True)

    async def present(self, owner_uid: int, values: Sequence[tuple[str, str]] = ()) -> Present:
        """What there is. `values`: which to look for in the store."""
        shop = self._shop
        records = [record for record in await shop.desk.agents.records(owner_uid) if record.state != "dismissed"]
        profiles = await shop.desk.profiles.list(owner_uid)
        workflows = await shop.runs.definitions(owner_uid)
        names = {str(each["name"]) for each in profiles}
        versions = {("profile", str(each["name"])): int(each["version"]) for each in profiles}
        versions |= {("workflow", each.name): each.version for each in workflows}
        return Present(
            setup=await shop.desk.setups.get(owner_uid),
            profiles={each["name"]: each["settings"] for each in profiles},
            agents={each.name: _known_profile(each.fields, names) for each in records if not is_made_by_itself(each)},
            hands={each.name for each in records if is_made_by_itself(each)},
            workers={each.name: worker_form(each) for each in await shop.workers.stored(owner_uid)},
            workflows={each.name: each.data for each in workflows},
            schedules={each.name: each.settings.to_json() for each in shop.schedules.of(owner_uid)},
            items={item.id for item in await shop.board.list(owner_uid)},
            values={"/".join(name) for name in values if await self._has_value(owner_uid, *name)},
            versions=versions,
        )

    async def export(
        self, owner_uid: int, *, name: str = DEFAULT_NAME, board: bool = False, namespaces: Sequence[str] = ()
    ) -> dict[str, Any]:
        """What there is as a file: {"file", "left_out"}, the second being lines that say what is not in it and why.

        Args:
            name: of the file.
            board: with the items that are not done and not cancelled.
            namespaces: with the values of these.

        Raises:
            Refused: bad_request; too_large, where that is too much for one file.

        """
        check_name(name)
        items = list(await self._shop.board.list(owner_uid)) if board else []
        if len(items) > _MAX_ITEMS:
            raise Refused("too_large", f"a file has at most {_MAX_ITEMS} items, and the board has {len(items)}")
        values = [found for namespace in namespaces async for found in self._values(owner_uid, namespace)]
        file = exported(await self.present(owner_uid), name=name, items=item_drafts(items), values=dict(values))
        return {"file": file.file, "left_out": list(file.left_out)}

    # -- what is to be done ---------------------------------------------------------------------------------------

    async def _planned(self, owner_uid: int, given: Mapping[str, Any], how: WhatToDo) -> _Plan:
        """All of it, if nothing of it would be refused."""
        file = read_file(given, self._shop.board.types)
        remembered = await self._record(owner_uid, file.name)
        present = await self.present(owner_uid, (*file.values, *map(_value_name, remembered.making["value"])))
        record = remembered.settled(_there(present))
        steps = steps_of(file, present, record.owned, record.put, prune=how.prune, reset=how.reset)
        agents = {name: agent_fields(file, present, record.owned, name, prune=how.prune) for name in file.agents}
        unsettled = bool(remembered.making.names) or record.change() != remembered.change()
        plan = _Plan(file=file, present=present, record=record, steps=steps, agents=agents, unsettled=unsettled)
        faults = [*dangling(file, _left(present, steps, self._shop.board.types)), *await self._refused(owner_uid, plan)]
        if faults:
            raise SetupFault(faults)
        return plan

    async def _refused(self, owner_uid: int, plan: _Plan) -> Sequence[Fault]:
        """What could not be made, of what is to be made."""
        faults: list[Fault] = []
        mine = worker_agents(plan.file)
        for step in plan.steps:
            if step.do == "remove":
                continue
            try:
                if step.kind == "agent":
                    if step.name in plan.present.hands:
                        raise Refused("conflict", "a worker or a run has an agent of this name")
                    await self._shop.desk.agents.check(owner_uid, step.name, plan.agents[step.name])
                elif step.kind == "worker":
                    taken = [agent for agent, worker in mine.items() if worker == step.name]
                    taken = [agent for agent in taken if agent in plan.present.agents]
                    if taken:
                        raise Refused("conflict", f"there is an agent {taken[0]!r}, which is not the worker's")
                    await self._shop.desk.agents.check(owner_uid, f"{step.name}-1", _settings_of(plan, step.name))
            except Refused as refused:
                faults.append(Fault((f"{step.kind}s", step.name), refused.message))
        return faults

    # -- doing it -------------------------------------------------------------------------------------------------

    async def _do_all(self, owner_uid: int, plan: _Plan) -> None:
        todo = [step for step in plan.steps if not step.held]
        record = await self._begin(owner_uid, plan, todo)
        done = [step for step in todo if step.kind in _TOGETHER]
        for step in todo:
            if step in done:
                continue
            try:
                done += await self._do(owner_uid, plan, step)
            except Refused as refused:
                raise _in_the_middle(refused, step, done, todo) from refused
        told = {"setup": plan.file.name, "steps": len(todo), "held": len(plan.steps) - len(todo)}
        event = NewEvent(owner_uid=owner_uid, topic="setup", name="applied", data=told)
        with refusing():
            await self._shop.feed.apply([record.ended(todo).change()], [event])

    async def _begin(self, owner_uid: int, plan: _Plan, todo: list[Step]) -> SetupRecord:
        """Note what is about to be made, and in the same commit make what is only documents."""
        profiles, runs = self._shop.desk.profiles, self._shop.runs
        record = plan.record.begun(todo, parts_of(plan.file))
        changes, events = [record.change()], []
        for step in todo:
            if step.kind not in _TOGETHER:
                continue
            noun: Profiles | Runs = profiles if step.kind == "profile" else runs
            forms = plan.file.profiles if step.kind == "profile" else plan.file.workflows
            version = plan.present.versions.get((step.kind, step.name), 0)
            if step.do == "remove":
                change, event = noun.removing(owner_uid, step.name, expected=version)
            else:
                change, event = noun.defining(owner_uid, step.name, forms[step.name], expected=version)
            changes.append(change)
            events.append(event)
        if len(changes) > MAX_CHANGES:
            raise Refused("too_large", f"more than {MAX_CHANGES - 1} profiles and workflows change at once: say fewer")
        room = [profiles.room(owner_uid), runs.room(owner_uid)]
        with refusing():
            applied = await self._shop.feed.apply(changes, events, room=room)
        return replace(record, version=applied.documents[0].version)

    async def _do(self, owner_uid: int, plan: _Plan, step: Step) -> list[Step]:
        """The steps that were done: all new items are put on the board at once."""
        shop, file, name = self._shop, plan.file, step.name
        match step.kind, step.do:
            case "common", _:
                await shop.desk.setups.configure(owner_uid, _common_changes(plan.present.setup, step))
            case "agent", "remove":
                await shop.desk.dismiss(owner_uid, name)
            case "agent", "change" if not step.anew:
                await shop.desk.agents.adjust(owner_uid, name, plan.agents[name])
            case "agent", _:
                await shop.desk.agents.define(owner_uid, name, plan.agents[name], exact=True)
            case "worker", do:
                if do != "create":
                    await shop.workers.stop(owner_uid, name, drain_s=_DRAIN_S)
                if do != "remove":
                    await shop.workers.start(owner_uid, name, file.workers[name])
            case "schedule", "remove":
                await shop.schedules.remove(owner_uid, name)
            case "schedule", _:
                settings = ScheduleSettings.from_json(file.schedules[name])
                await shop.schedules.define(owner_uid, name, settings, replace_it=True)
            case "item", _:
                items = [each for each in plan.steps if each.kind == "item"]
                await shop.board.add(owner_uid, [file.items[each.name] for each in items])
                return items
            case "value", _:
                namespace, key = _value_name(name)
                await shop.entries.put(owner_uid, namespace, key, file.values[namespace, key], expected=0)
        return [step]

    # -- helpers --------------------------------------------------------------------------------------------------

    async def _record(self, owner_uid: int, name: str) -> SetupRecord:
        with refusing():
            document = await self._shop.documents.get(SETUP_KIND, document_id(owner_uid, name))
        return SetupRecord(owner_uid=owner_uid, name=name) if document is None else SetupRecord.of(document)

    async def _values(self, owner_uid: int, namespace: str) -> AsyncIterator[tuple[tuple[str, str], Any]]:
        left, after = MAX_WHOLE_BYTES, ""
        while True:
            page = await self._shop.entries.keys(owner_uid, namespace, after=after)
            for entry in page.items:
                left -= entry.size_bytes
                if left < 0:
                    raise Refused("too_large", f"{namespace}: its values are more than one file holds")
                try:
                    found = await self._shop.entries.get(owner_uid, namespace, entry.key)
                except Refused as refused:
                    if refused.code == "not_found":  # meanwhile
                        continue
                    raise
                yield (namespace, entry.key), found.value
            if page.next is None:
                return
            after = page.next

    async def _has_value(self, owner_uid: int, namespace: str, key: str) -> bool:
        try:
            await self._shop.entries.get(owner_uid, namespace, key)
        except Refused as refused:
            if refused.code != "not_found":
                raise
            return False
        return True

    @asynccontextmanager
    async def _alone(self, owner_uid: int) -> AsyncIterator[None]:
        """One file of an owner at a time."""
        if owner_uid in self._busy:
            raise Refused("conflict", "another setup file is being applied; try again when that is done")
        self._busy.add(owner_uid)
        try:
            yield
        finally:
            self._busy.discard(owner_uid)


def _value_name(name: str) -> tuple[str, str]:
    namespace, _, key = name.partition("/")
    return namespace, key


def _there(present: Present) -> dict[str, Collection[str]]:
    """Names of what there is, by kind."""
    return {
        "profile": present.profiles,
        "workflow": present.workflows,
        "agent": present.agents,
        "worker": present.workers,
        "schedule": present.schedules,
        "item": present.items,
        "value": present.values,
    }


def _known_profile(fields: Mapping[str, Any], profiles: Collection[str]) -> Mapping[str, Any]:
    """The settings of an agent, without a profile that is there no more."""
    if fields.get("profile") is None or fields["profile"] in profiles:
        return fields
    return {name: value for name, value in fields.items() if name != "profile"}


def _settings_of(plan: _Plan, worker: str) -> dict[str, Any]:
    """What the agents of a worker will be."""
    wish, setup = plan.file.workers[worker], plan.present.setup
    profile = wish.get("profile")
    under = {} if profile is None else plan.file.profiles.get(profile, plan.present.profiles.get(profile, {}))
    defaults = setup.defaults if plan.file.defaults is None else plan.file.defaults
    return laid_over(defaults, under, wish.get("settings", {}))


def _left(present: Present, steps: Sequence[Step], types: Sequence[str]) -> There:
    """What is there besides the file, when all is done."""
    gone = {(step.kind, step.name) for step in steps if step.do == "remove"}
    return There(
        profiles={name for name in present.profiles if ("profile", name) not in gone},
        agents={*present.hands, *(name for name in present.agents if ("agent", name) not in gone)},
        workers={name for name in present.workers if ("worker", name) not in gone},
        items=present.items,
        types=types,
    )


def _common_changes(setup: Setup, step: Step) -> dict[str, Any]:
    """As `Setups.configure` takes them; null takes away."""
    changes: dict[str, Any] = {}
    defaults = dict(setup.defaults)
    for key, pair in step.fields.items():
        after, (section, _, name) = pair.get("after"), key.partition(".")
        if section == "context":
            changes["context"] = after
        elif section == "budget":
            changes["max_cost_usd"] = after
        elif after is None:
            del defaults[name]
            changes["defaults"] = defaults
        else:
            defaults[name] = after
            changes["defaults"] = defaults
    return changes


def _in_the_middle(refused: Refused, step: Step, done: Sequence[Step], todo: Sequence[Step]) -> Refused:
    message = f"{step.kind} {step.name}: {refused.message}; {len(done)} of {len(todo)} steps are done: apply it again"
    details = {**refused.details, "done": [each.to_json() for each in done]}
    return Refused(refused.code, message, details=details, retry_after_s=refused.retry_after_s)


def _view(plan: _Plan, *, applied: bool) -> dict[str, Any]:
    return {
        "name": plan.file.name,
        "plan": plan_digest(plan.file.name, plan.steps),
        "applied": applied,
        "steps": [step.to_json() for step in plan.steps],
        "held": sum(step.held for step in plan.steps),
    }
