"""What there is, as a setup file that makes the same. Pure.

Agents are written over their profiles and the defaults as these are now, so that the file gives exactly the settings
that they have: what they lack of those is named in `without`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.workshop.agents.settings import laid_over
from skill_actors.workshop.board.item import Item
from skill_actors.workshop.setup_file.definition import DEFAULT_NAME, Fault, SetupFault, read_file
from skill_actors.workshop.setup_file.present import Present
from skill_actors.workshop.setup_file.references import There, dangling

__all__ = ["Exported", "exported", "item_drafts"]

_NAMED: Final = ("profiles", "agents", "workers", "workflows", "schedules")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file, and what is not in it, each with the reason."""

    file: Mapping[str, Any]
    left_out: Sequence[str] = field(default_factory=tuple)


def exported(
    present: Present,
    *,
    name: str = DEFAULT_NAME,
    items: Sequence[Mapping[str, Any]] = (),
    values: Mapping[tuple[str, str], Any] | None = None,
) -> Exported:
    """The file. What no file can say, or what names something that is gone, is left out.

    Args:
        items: drafts of items of the board that are to be in it.
        values: of the store, likewise.

    """
    whole: dict[str, Any] = {"name": name}
    setup = present.setup
    if setup.context:
        whole["context"] = setup.context
    if setup.defaults:
        whole["defaults"] = dict(setup.defaults)
    if setup.max_cost_usd is not None:
        whole["budget"] = {"usd": setup.max_cost_usd}
    whole["profiles"] = {name: dict(form) for name, form in present.profiles.items()}
    whole["agents"] = {name: _agent(form, present) for name, form in present.agents.items()}
    for section in ("workers", "workflows", "schedules"):
        whole[section] = {name: dict(form) for name, form in getattr(present, section).items()}
    whole["board"] = {"items": [dict(item) for item in items]}
    whole["store"] = {}
    for (namespace, key), value in (values or {}).items():
        whole["store"].setdefault(namespace, {})[key] = value
    return _without_faults(whole)


def item_drafts(items: Sequence[Item]) -> list[dict[str, Any]]:
    """What has to be said of the items that are still to be done, so that they are put on a board as they were."""
    done = {item.id for item in items if item.status == "done"}
    return [_draft(item, done) for item in items if item.status not in ("done", "cancelled")]


def _draft(item: Item, done: Collection[str]) -> dict[str, Any]:
    plain = Item(id=item.id, title=item.title, created="", updated="")
    depends_on = [id for id in item.depends_on if id not in done]
    whole = {
        **{name: getattr(item, name) for name in ("spec", "type", "priority", "agent", "max_attempts", "due")},
        "labels": dict(item.labels),
        "meta": dict(item.meta),
    }
    chosen = {name: value for name, value in whole.items() if value != getattr(plain, name)}
    more: dict[str, Any] = {"depends_on": depends_on} if depends_on else {}
    if item.verify is not None:
        more["verify"] = item.verify.to_dict()
    return {"id": item.id, "title": item.title, **chosen, **more}


def _agent(fields: Mapping[str, Any], present: Present) -> dict[str, Any]:
    """What has to be said of an agent so that it has these settings."""
    setup = present.setup
    context = {"context": setup.context} if setup.context else {}
    profile = fields.get("profile")
    inherited = laid_over(context, setup.defaults, {} if profile is None else present.profiles[profile])
    without = {key for key in inherited if key not in fields}
    given = {key: value for key, value in fields.items() if inherited.get(key) != value or key not in inherited}
    kept = {key: value for key, value in inherited.items() if key not in without}
    if laid_over(kept, given).get("options") != fields.get("options"):
        without.add("options")
        given |= {"options": fields["options"]} if "options" in fields else {}
    return {**given, **({"without": sorted(without)} if without else {})}


def _without_faults(whole: dict[str, Any]) -> Exported:
    """The same without what is not good: until all the rest is."""
    left_out: list[str] = []
    for keys, why in _nulls(whole):
        left_out += _drop(whole, keys, why)
    while True:
        try:
            faults: Sequence[Fault] = dangling(read_file(whole), There())
        except SetupFault as fault:
            faults = fault.faults
        except Refused as refused:
            faults = [Fault((), refused.message)]
        dropped = [line for keys, why in _once(faults) for line in _drop(whole, keys, why)]
        if not dropped:
            return Exported(
                file={key: value for key, value in whole.items() if value not in ({}, {"items": []})},
                left_out=tuple(left_out),
            )
        left_out += dropped


def _once(faults: Sequence[Fault]) -> list[tuple[tuple[str | int, ...], str]]:
    """Each thing once that has a fault; of a list the last comes first, so that numbers stay good."""
    found = {
        fault.keys[:3] if fault.keys[:1] in (("board",), ("store",)) else fault.keys[:2]: fault.message
        for fault in faults
    }
    return sorted(found.items(), key=lambda pair: [(isinstance(key, int), key) for key in pair[0]], reverse=True)


def _nulls(whole: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """What holds null somewhere, which TOML has not."""
    why = "it holds null, which no such file can say"
    found: list[tuple[tuple[str | int, ...], str]] = []
    for section in (*_NAMED, "defaults"):
        found += [((section, name), why) for name, each in whole.get(section, {}).items() if _has_null(each)]
    found += [(("board", "items", n), why) for n, item in enumerate(whole["board"]["items"]) if _has_null(item)]
    for namespace, values in whole["store"].items():
        found += [(("store", namespace, key), why) for key, value in values.items() if _has_null(value)]
    return list(reversed(found))


def _has_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_null, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_null, value))
    return value is None


def _drop(whole: dict[str, Any], keys: Sequence[str | int], why: str) -> list[str]:
    """Take out what these keys lead into; what is told of it, nothing where it is gone already."""
    section = keys[0] if keys else ""
    if section == "board" and len(keys) > 2 and isinstance(keys[2], int):
        items = whole["board"]["items"]
        if keys[2] >= len(items):
            return []
        return [f"item {items.pop(keys[2])['id']}: {why}"]
    place, depth = whole, 3 if section == "store" else 2
    for key in keys[: depth - 1]:
        place = place.get(str(key), {})
    if len(keys) < depth or keys[depth - 1] not in place:
        return []
    del place[str(keys[depth - 1])]
    return [f"{'.'.join(map(str, keys[:depth]))}: {why}"]
