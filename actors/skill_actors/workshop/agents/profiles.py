"""Profiles: settings under a name, from which agents are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.store.documents import Change, Document, NewEvent, Room
from skill_actors.workshop.agents.roster import room_for, stored
from skill_actors.workshop.agents.settings import checked_fields
from skill_actors.workshop.agents.surroundings import AgentSurroundings
from skill_actors.workshop.names import check_name, document_id

__all__ = ["Profiles"]

_KIND: Final = "profile"
_PAGE: Final = 500


class Profiles:
    """Profiles of all owners. Belongs to the trio thread. Results are JSON-ready."""

    def __init__(self, env: AgentSurroundings) -> None:
        self._env = env

    async def define(self, owner_uid: int, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Make a profile, or replace the one of this name; agents that were made from it stay as they are.

        Raises:
            Refused: bad_request, storage_full, draining.

        """
        change, told = self.defining(owner_uid, name, settings)
        applied = await stored(self._env.documents, [change], [told], room=[self.room(owner_uid)])
        return _view(applied.documents[0])

    def defining(
        self, owner_uid: int, name: str, settings: Mapping[str, Any], *, expected: int | None = None
    ) -> tuple[Change, NewEvent]:
        """What makes a profile, or replaces the one of this name and version. Raises Refused("bad_request")."""
        check_name(name, "profile")
        if settings.get("profile") is not None:
            raise Refused("bad_request", "profile: a profile is not made from another one")
        data = {"settings": checked_fields(settings)}
        id = document_id(owner_uid, name)
        change = Change(kind=_KIND, id=id, owner_uid=owner_uid, data=data, expected=expected)
        return change, _told(owner_uid, "defined", name)

    def removing(self, owner_uid: int, name: str, *, expected: int | None = None) -> tuple[Change, NewEvent]:
        """What removes a profile."""
        id = document_id(owner_uid, name)
        change = Change(kind=_KIND, id=id, owner_uid=owner_uid, data=None, expected=expected)
        return change, _told(owner_uid, "removed", name)

    def room(self, owner_uid: int) -> Room:
        """How many profiles an owner may have."""
        return room_for(_KIND, owner_uid, self._env.max_agents)

    async def get(self, owner_uid: int, name: str) -> dict[str, Any]:
        """One profile. Raises Refused("not_found") naming the nearest."""
        document = await self._env.documents.get(_KIND, document_id(owner_uid, check_name(name, "profile")))
        if document is None:
            raise await self._unknown(owner_uid, name)
        return _view(document)

    async def settings_of(self, owner_uid: int, name: str) -> Mapping[str, Any]:
        """What agents are made with. Raises as `get`."""
        settings: Mapping[str, Any] = (await self.get(owner_uid, name))["settings"]
        return settings

    async def list(self, owner_uid: int) -> Sequence[dict[str, Any]]:
        """All of one owner, by name."""
        found: list[dict[str, Any]] = []
        after = ""
        while page := await self._env.documents.list(_KIND, owner_uid=owner_uid, after=after, limit=_PAGE):
            found.extend(map(_view, page))
            after = page[-1].id
        return found

    async def remove(self, owner_uid: int, name: str) -> None:
        """Remove a profile; agents that were made from it stay. Raises Refused: not_found, draining."""
        await self.get(owner_uid, name)
        change, told = self.removing(owner_uid, name)
        await stored(self._env.documents, [change], [told])

    async def _unknown(self, owner_uid: int, name: str) -> Refused:
        names = [profile["name"] for profile in await self.list(owner_uid)]
        near = get_close_matches(name, names, n=1)
        known = f"known: {', '.join(names[:20])}" if names else "there are none"
        return Refused("not_found", f"there is no profile {name!r}; " + (f"did you mean {near[0]}?" if near else known))


def _view(document: Document) -> dict[str, Any]:
    return {
        "name": document.name,
        "settings": dict(document.data["settings"]),
        "version": document.version,
        "created": document.created,
        "updated": document.updated,
    }


def _told(owner_uid: int, name: str, profile: str) -> NewEvent:
    return NewEvent(owner_uid=owner_uid, topic="profile", name=name, data={"profile": profile})
