"""A board worker as it is stored: which items its agents do, how many at once, and what these agents are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

from skill_actors.errors import Refused
from skill_actors.store.documents import Change, Document
from skill_actors.workshop.board.board import DEFAULT_LEASE_S
from skill_actors.workshop.names import check_name, document_id

__all__ = ["FIELDS", "WORKER_KIND", "Worker"]

WORKER_KIND: Final = "worker"
_MAX_HANDS: Final = 64
_MAX_NAME: Final = 60  # its agents have a number behind it
FIELDS: Final = ("types", "count", "profile", "settings", "lease_s", "worktree", "merge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """N agents that do items of some types.

    Args:
        types: of the items.
        count: how many agents, each with one item at a time.
        profile: what the agents are made from.
        settings: of the agents, over those of the profile.
        lease_s: how long after a crash an item is taken back that none of its agents takes up again.
        worktree: each item is worked on in a worktree of its own.
        merge: when its branch is merged: "on_done", or never by the worker.

    """

    owner_uid: int
    name: str
    types: tuple[str, ...]
    count: int = 1
    profile: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    lease_s: float = DEFAULT_LEASE_S
    worktree: bool = False
    merge: Literal["on_done"] | None = None

    @classmethod
    def read(cls, owner_uid: int, name: str, given: Mapping[str, Any], types: Collection[str]) -> Self:
        """What a client asks for. Raises Refused("bad_request")."""
        check_name(name, "worker")
        if len(name) > _MAX_NAME:
            raise Refused("bad_request", f"worker {name!r}: expected at most {_MAX_NAME} characters")
        unknown = sorted(given.keys() - set(FIELDS))
        if unknown:
            raise Refused("bad_request", f"{unknown[0][:60]!a}: a worker has {', '.join(FIELDS)}")
        wanted = tuple(dict.fromkeys(given.get("types") or ()))
        wrong = [type for type in wanted if type not in types]
        if wrong or not wanted:
            raise Refused("bad_request", f"types {list(wanted)}: expected some of {', '.join(types)}")
        profile, worktree, merge = given.get("profile"), given.get("worktree"), given.get("merge")
        if not isinstance(worktree, bool | None):
            raise Refused("bad_request", f"worktree: expected true or false, got {worktree!r:.40}")
        if merge is not None and (merge != "on_done" or not worktree):
            raise Refused("bad_request", f"merge: expected on_done, with worktree, got {merge!r:.40}")
        return cls(
            owner_uid=owner_uid,
            name=name,
            types=wanted,
            count=_number("count", given.get("count", 1), 1, _MAX_HANDS),
            profile=None if profile is None else check_name(profile, "profile"),
            settings=dict(given.get("settings") or {}),
            lease_s=_number("lease_s", given.get("lease_s", DEFAULT_LEASE_S), 5, 86_400),
            worktree=bool(worktree),
            merge=merge,
        )

    @classmethod
    def of(cls, document: Document) -> Self:
        """As the document holds it."""
        data = {**document.data, "types": tuple(document.data["types"])}
        return cls(owner_uid=document.owner_uid, name=document.name, **data)

    def change(self) -> Change:
        """What stores it, unless there is one of its name."""
        id = document_id(self.owner_uid, self.name)
        return Change(kind=WORKER_KIND, id=id, owner_uid=self.owner_uid, data=self._data(), expected=0)

    def _data(self) -> dict[str, Any]:
        return {
            "types": list(self.types),
            "count": self.count,
            "profile": self.profile,
            "settings": dict(self.settings),
            "lease_s": self.lease_s,
            "worktree": self.worktree,
            "merge": self.merge,
        }

    def view(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"name": self.name, **self._data()}

    @property
    def names(self) -> frozenset[str]:
        """What items may be meant for, so that this worker takes them, besides the single agents."""
        return frozenset({self.name} if self.profile is None else {self.name, self.profile})

    @property
    def agent_settings(self) -> Mapping[str, Any]:
        """Of each agent."""
        return dict(self.settings) if self.profile is None else {**self.settings, "profile": self.profile}

    def agent(self, number: int) -> str:
        """The name of one agent, from 1 on."""
        return f"{self.name}-{number}"


def _number(name: str, value: Any, low: int, high: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refused("bad_request", f"{name}: expected a number from {low} to {high}, got {value!r:.40}")
    if name == "count" and not isinstance(value, int):
        raise Refused("bad_request", f"count: expected a whole number, got {value!r:.40}")
    return value
