"""Tools of several places in one conversation: what the model sees them as, and where each call goes. Pure.

The first place with an executor keeps the plain names of its tools; those of every further one are
`<place>_<tool>`. Native tools have names of their own, `<skill>_<kind>`, and keep them. A hosted place has no tool
here: the model's provider runs it, and the names it uses are taken. No name is ever given to two: that is refused.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, NamedTuple

from .base import Capabilities
from .tools import BadInput

__all__ = [
    "HAND_OVER",
    "HOSTED_NAMES",
    "HandOver",
    "Merged",
    "PlaceTools",
    "Route",
    "RouteRefused",
    "Routing",
    "hand_over_of",
    "hand_over_tool",
    "merged",
    "routes",
]

HAND_OVER: Final = "hand_over"
HOSTED_NAMES: Final = frozenset({"code_execution", "bash_code_execution", "text_editor_code_execution"})
"""Tools of the provider's own; a client tool of such a name could not be told from them."""

_TOOL: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_SANDBOXES: Final = ("none", "process", "landlock", "namespace", "container", "cloud")  # weakest first
_NETWORKS: Final = ("host", "configurable", "none")  # likewise


class RouteRefused(ValueError):
    """Two tools would have one name, or a name is none. Names both places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceTools:
    """One place of a conversation.

    Args:
        name: unique among its places; the backend's, or one the user gave.
        backend: what it is, as the description of its tools says.
        tools: definitions, by the names that the place itself knows them by.
        kind: "executor"; "native" for tools that keep their names; "hosted", which has none here.

    """

    name: str
    backend: str
    tools: Sequence[Mapping[str, Any]] = ()
    kind: Literal["executor", "native", "hosted"] = "executor"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call goes, and the name that the tool has there: that is also what rules and policies are about."""

    place: str
    tool: str


class Routing(NamedTuple):
    """What the model is offered, in the order of the places, and by the name it is offered under: where it goes."""

    tools: Sequence[Mapping[str, Any]]
    by_name: Mapping[str, Route]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a conversation of several places can do: of each capability the weakest; and each place's own."""

    capabilities: Capabilities
    places: Mapping[str, Capabilities]


@dataclass(frozen=True, slots=True)
class HandOver:
    """A call of `hand_over`: a file's name, and the places it goes from and to."""

    name: str
    source: str
    target: str


def routes(places: Sequence[PlaceTools], *, reserved: Collection[str] = ()) -> Routing:
    """Names for all tools of all places.

    With one place, definitions are as the place has them; with more, each says where it runs.

    Args:
        places: in the order that they were asked for.
        reserved: names of further tools of the conversation.

    Raises:
        RouteRefused: two tools would have the same name, two places have, or a name is none that an API takes.

    """
    owners = dict.fromkeys({*reserved, *HOSTED_NAMES}, "the conversation itself")
    seen: set[str] = set()
    plain: str | None = None
    tools: list[Mapping[str, Any]] = []
    by_name: dict[str, Route] = {}
    for place in places:
        if not place.name or place.name in seen:
            raise RouteRefused(f"the place {place.name!r} needs a name, and one of its own")
        seen.add(place.name)
        if place.kind == "executor" and plain is None:
            plain = place.name
        for tool in place.tools:
            own = str(tool["name"])
            name = own if place.kind == "native" or place.name == plain else f"{place.name}_{own}"
            _claim(name, f"the place {place.name!r}", owners)
            by_name[name] = Route(place.name, own)
            tools.append(_shown(tool, name, place, alone=len(places) == 1))
    return Routing(tools, by_name)


def merged(places: Mapping[str, Capabilities]) -> Merged:
    """The weakest of each claim over all places, by their names. What is partial anywhere is partial, and says where.

    Raises:
        ValueError: there is no place.

    """
    if not places:
        raise ValueError("there is no place, so nothing can be said of it")
    each = list(places.values())
    values: dict[str, Any] = {
        entry.name: all(getattr(one, entry.name) for one in each)
        for entry in fields(Capabilities)
        if entry.name not in ("sandbox", "network", "partial")
    }
    weakest = Capabilities(
        **values,
        sandbox=min((one.sandbox for one in each), key=_SANDBOXES.index),
        network=min((one.network for one in each), key=_NETWORKS.index),
    )
    return Merged(capabilities=replace(weakest, partial=_notes(places)), places=dict(places))


def hand_over_tool(places: Collection[str]) -> dict[str, Any]:
    """The definition of the tool that copies a file from one of these places to another."""
    names = sorted(places)
    return {
        "name": HAND_OVER,
        "description": (
            "Copy a file from one place of this conversation to another, under the same name. "
            "Each place has its own files: a tool sees only those of its own place."
        ),
        "input_schema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "The file, relative to the workspace it is in."},
                "from": {"type": "string", "enum": names, "description": "The place that has it."},
                "to": {"type": "string", "enum": names, "description": "The place that needs it."},
            },
            "required": ["name", "from", "to"],
            "additionalProperties": False,
        },
    }


def hand_over_of(given: object, places: Collection[str]) -> HandOver:
    """What a call of `hand_over` asks for. Raises BadInput; the name is not yet checked to be a file."""
    if not isinstance(given, Mapping) or given.keys() != {"name", "from", "to"}:
        raise BadInput(f"{HAND_OVER}: the input must be an object of name, from and to")
    name, source, target = (given[key] for key in ("name", "from", "to"))
    if not isinstance(name, str) or not name:
        raise BadInput(f"{HAND_OVER}: name must be the name of a file")
    for key, place in (("from", source), ("to", target)):
        if not isinstance(place, str) or place not in places:
            raise BadInput(
                f"{HAND_OVER}: {key}: there is no place {place!r:.100}; there are {', '.join(sorted(places))}"
            )
    if source == target:
        raise BadInput(f"{HAND_OVER}: the file is in {source!r} already")
    return HandOver(name, source, target)


def _claim(name: str, owner: str, owners: dict[str, str]) -> None:
    if not _TOOL.fullmatch(name):
        raise RouteRefused(
            f"{owner}: {name!r:.200} is no name for a tool: letters, digits, _ and -, at most 128; "
            "give the place or the tool another"
        )
    if name in owners:
        raise RouteRefused(f"{owner} and {owners[name]} have both a tool {name!r}; give one place another name")
    owners[name] = owner


def _shown(tool: Mapping[str, Any], name: str, place: PlaceTools, *, alone: bool) -> Mapping[str, Any]:
    if alone or place.kind == "native":
        return tool
    shown = copy.deepcopy(dict(tool))
    what = "" if place.backend == place.name else f" ({place.backend})"
    return {**shown, "name": name, "description": f"In the place {place.name}{what}: {shown.get('description', '')}"}


def _notes(places: Mapping[str, Capabilities]) -> dict[str, str]:
    notes: dict[str, list[str]] = {}
    for name, capabilities in places.items():
        for claim, note in capabilities.partial.items():
            notes.setdefault(claim, []).append(f"{name}: {note}")
    return {claim: "; ".join(told) for claim, told in notes.items()}
