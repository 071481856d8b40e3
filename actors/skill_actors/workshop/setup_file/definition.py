"""What a setup file says: every section checked by the rules of what it makes, with all faults and where they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from skill_actors.errors import Refused
from skill_actors.workshop.agents.settings import DEFAULTS, AgentSettings, checked_fields, laid_over
from skill_actors.workshop.board.crew import WORKER_LABEL
from skill_actors.workshop.board.drafts import FIELDS as ITEM_FIELDS
from skill_actors.workshop.board.drafts import read_draft
from skill_actors.workshop.board.worker import FIELDS as WORKER_FIELDS
from skill_actors.workshop.board.worker import Worker
from skill_actors.workshop.entries import check_key
from skill_actors.workshop.names import check_name
from skill_actors.workshop.schedules import RuleFault, ScheduleSettings
from skill_actors.workshop.workflows.definition import Workflow, read_workflow
from skill_actors.workshop.workflows.room import json_fault

__all__ = ["DEFAULT_NAME", "AgentWish", "Fault", "SetupFault", "SetupFile", "read_file", "worker_form"]

DEFAULT_NAME: Final = "workshop"
_MAX_FAULTS: Final = 100
_MAX_EACH: Final = 10_000  # names in a section
_SCHEDULE: Final = frozenset(
    {
        *("agent", "prompt", "every_s", "cron", "timezone", "jitter_s"),
        *("catch_up", "when_busy", "max_runs", "until", "enabled"),
    }
)
_NOW: Final = "2000-01-01T00:00:00.000Z"  # items are checked only; what is stored gets the time of then

_UNKNOWN: Final = re.compile(r"unknown field '([^']+)'")

Table = dict[str, Any]
Tables = Annotated[dict[str, Table], Field(max_length=_MAX_EACH)]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and the keys that lead to it."""

    keys: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.keys))}: {self.message}" if self.keys else self.message


class SetupFault(Refused):
    """A setup file is not good. `faults`: all that was found."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        shown = "; ".join(map(str, faults[:5]))
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        details = {"faults": [{"keys": list(each.keys), "message": each.message} for each in faults[:_MAX_FAULTS]]}
        super().__init__("bad_request", shown + more, details=details)
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentWish:
    """An agent of a file: what is said of it, and which settings of its profile or the defaults it does not have."""

    given: Mapping[str, Any]
    without: frozenset[str] = frozenset()

    def fields(self, *below: Mapping[str, Any]) -> dict[str, Any]:
        """Its settings over those of the defaults and its profile."""
        inherited = laid_over(*below)
        return laid_over({name: value for name, value in inherited.items() if name not in self.without}, self.given)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupFile:
    """A checked file, each section in the form in which such things are stored; None for a section that is not there.

    Args:
        usd: what all agents together may cost.
        items: drafts of items of the board, by id.
        values: of the store, by namespace and key.

    """

    name: str = DEFAULT_NAME
    context: str | None = None
    defaults: Mapping[str, Any] | None = None
    usd: float | None = None
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    agents: Mapping[str, AgentWish] = field(default_factory=dict)
    workers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    workflows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    schedules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    items: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    values: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    def workflow(self, name: str) -> Workflow:
        """One of its workflows."""
        return read_workflow(self.workflows[name])


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Budget(_Part):
    usd: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class _Board(_Part):
    templates: Tables = {}
    items: Annotated[list[Table], Field(max_length=500)] = []


class _Whole(_Part):
    """The shape of the whole."""

    name: str = DEFAULT_NAME
    context: str | None = None
    defaults: Table | None = None
    budget: _Budget | None = None
    profiles: Tables = {}
    agents: Tables = {}
    workers: Tables = {}
    workflows: Tables = {}
    schedules: Tables = {}
    board: _Board = _Board()
    store: Tables = {}


def worker_form(worker: Worker) -> dict[str, Any]:
    """A worker as a file says it."""
    return {key: value for key, value in worker.view().items() if key != "name" and value not in (None, {}, False)}


def read_file(given: Mapping[str, Any], types: Collection[str] | None = None) -> SetupFile:
    """What a file says, if all of it is good.

    Args:
        given: JSON-ready.
        types: of items that there are; None: not known here.

    Raises:
        SetupFault: with all that is wrong, as far as it can be told of each section by itself.

    """
    if (fault := json_fault(given)) is not None:
        raise SetupFault([Fault(*fault)])
    try:
        whole = _Whole.model_validate(given)
    except ValidationError as error:
        raise SetupFault([_fault(item) for item in error.errors(include_url=False)]) from error
    reader = _Reader(types)
    found = reader.read(whole)
    if reader.faults:
        raise SetupFault(reader.faults)
    return found


def _fault(item: Any) -> Fault:
    keys = tuple(item["loc"])
    if item["type"] != "extra_forbidden":
        return Fault(keys, item["msg"].replace("Input should be", "expected"))
    model: Any = {("budget",): _Budget, ("board",): _Board}.get(keys[:-1], _Whole)
    return Fault(keys, f"there is no such key; {_nearest(str(keys[-1]), model.model_fields)}")


def _nearest(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"


class _Reader:
    """Reads section by section, and collects what is wrong."""

    def __init__(self, types: Collection[str] | None) -> None:
        self.faults: list[Fault] = []
        self._types = types

    def read(self, whole: _Whole) -> SetupFile:
        self._one(("name",), lambda: check_name(whole.name, "name"))
        self._one(("context",), lambda: checked_fields({"context": whole.context}))
        defaults = None
        if whole.defaults is not None:
            defaults = self._one(("defaults",), lambda: checked_fields(whole.defaults or {}, allowed=DEFAULTS))
        return SetupFile(
            name=whole.name,
            context=whole.context,
            defaults=defaults,
            usd=None if whole.budget is None else whole.budget.usd,
            profiles=self._each("profiles", whole.profiles, "profile", _profile),
            agents=self._each("agents", whole.agents, "agent", _agent),
            workers=self._each("workers", whole.workers, "worker", self._worker),
            workflows=self._each("workflows", whole.workflows, "workflow", lambda _, given: _workflow(given)),
            schedules=self._each("schedules", whole.schedules, "schedule", lambda _, given: _schedule(given)),
            items=self._items(whole.board),
            values=self._values(whole.store),
        )

    def _one(self, keys: tuple[str | int, ...], check: Callable[[], Any]) -> Any:
        try:
            return check()
        except Refused as refused:
            first, _, rest = refused.message.partition(": ")
            unknown = _UNKNOWN.match(refused.message)
            if unknown is not None:
                self.faults.append(Fault((*keys, unknown[1]), refused.message))
            elif rest and first.isidentifier() and first not in keys:
                self.faults.append(Fault((*keys, first), rest))
            else:
                self.faults.append(Fault(keys, refused.message))
        except RuleFault as error:
            self.faults.append(Fault(keys, str(error)))
        return None

    def _each(
        self, section: str, found: Mapping[str, Any], what: str, read: Callable[[str, Mapping[str, Any]], Any]
    ) -> dict[str, Any]:
        def one(name: str, given: Mapping[str, Any]) -> Any:
            check_name(name, what)
            return read(name, given)

        return {name: self._one((section, name), lambda n=name, g=given: one(n, g)) for name, given in found.items()}  # type: ignore[misc]

    def _worker(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        _known(given, WORKER_FIELDS)
        types = given.get("types")
        if not isinstance(types, list) or not all(isinstance(each, str) for each in types):
            raise Refused("bad_request", "types: expected a list of types of items")
        if not isinstance(given.get("settings", {}), Mapping):
            raise Refused("bad_request", "settings: expected a table")
        settings = checked_fields(given.get("settings") or {})
        if "profile" in settings:
            raise Refused("bad_request", "settings: the profile is named beside them, not in them")
        profile = given.get("profile")
        if profile is not None and not isinstance(profile, str):
            raise Refused("bad_request", "profile: expected a name")
        known = types if self._types is None else self._types
        return worker_form(Worker.read(0, name, {**given, "settings": settings}, known))

    def _items(self, board: _Board) -> dict[str, dict[str, Any]]:
        templates = {
            name: self._one(("board", "templates", name), lambda g=given: _template(g))  # type: ignore[misc]
            for name, given in board.templates.items()
        }
        found: dict[str, dict[str, Any]] = {}
        for number, given in enumerate(board.items):
            keys = ("board", "items", number)
            item = self._one(keys, lambda g=given: self._item(g, templates))  # type: ignore[misc]
            if item is None:
                continue
            if item["id"] in found:
                self.faults.append(Fault((*keys, "id"), f"there is an item {item['id']!r} already"))
            found[item["id"]] = item
        return found

    def _item(self, given: Mapping[str, Any], templates: Mapping[str, Any]) -> dict[str, Any]:
        _known(given, {"id", "template", *ITEM_FIELDS})
        name = given.get("template")
        if name is not None and (not isinstance(name, str) or name not in templates):
            raise Refused("bad_request", f"template: there is no {name!r:.60}; {_nearest(str(name), templates)}")
        draft = {
            **((templates.get(name) if name else None) or {}),
            **{key: given[key] for key in given if key != "template"},
        }
        if not isinstance(draft.get("id"), str):
            raise Refused("bad_request", "id: an item of a setup file has one, so that it is put on the board once")
        read_draft(draft, self._types or (draft.get("type", "custom"),), _NOW)
        return draft

    def _values(self, store: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Any]:
        found: dict[tuple[str, str], Any] = {}
        for namespace, values in store.items():
            self._one(("store", namespace), lambda n=namespace: check_name(n, "namespace"))  # type: ignore[misc]
            for key, value in values.items():
                self._one(("store", namespace, key), lambda k=key: check_key(k))  # type: ignore[misc]
                found[namespace, key] = value
        return found


def _known(given: Mapping[str, Any], known: Collection[str]) -> None:
    for key in given:
        if key not in known:
            raise Refused("bad_request", f"unknown field {key[:60]!r}; {_nearest(key, known)}")


def _profile(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if "profile" in given:
        raise Refused("bad_request", "profile: a profile is not made from another one")
    return checked_fields(given)


def _agent(name: str, given: Mapping[str, Any]) -> AgentWish:
    without = given.get("without", [])
    known = set(AgentSettings.__slots__) - {"profile"}
    if not isinstance(without, list) or not all(isinstance(each, str) for each in without):
        raise Refused("bad_request", "without: expected a list of settings")
    for each in without:
        if each not in known:
            raise Refused("bad_request", f"without: there is no setting {each[:60]!r}; {_nearest(each, known)}")
    fields = checked_fields({key: value for key, value in given.items() if key != "without"})
    if WORKER_LABEL in fields.get("labels", {}):
        raise Refused("bad_request", f"labels: {WORKER_LABEL} is for the agents of workers")
    return AgentWish(given=fields, without=frozenset(without))


def _workflow(given: Mapping[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = read_workflow(given).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return data


def _schedule(given: Mapping[str, Any]) -> dict[str, Any]:
    _known(given, _SCHEDULE)
    for name, kind, what in (
        ("agent", str, "text"),
        ("prompt", str, "text"),
        ("every_s", (int, float), "a number"),
        ("cron", str, "text"),
        ("timezone", str, "text"),
        ("jitter_s", (int, float), "a number"),
        ("max_runs", int, "a whole number"),
        ("until", str, "text"),
        ("enabled", bool, "true or false"),
    ):
        if name not in given and name in ("agent", "prompt"):
            raise Refused("bad_request", f"{name}: a schedule has one")
        value = given.get(name)
        if name in given and (not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))):
            raise Refused("bad_request", f"{name}: expected {what}")
    check_name(given["agent"], "agent")
    return ScheduleSettings.from_json(given).to_json()


def _template(given: Mapping[str, Any]) -> dict[str, Any]:
    _known(given, {key for key in ITEM_FIELDS if key != "depends_on"})
    return dict(given)
