"""What an owner sets for agents made from then on: a context for all, defaults, and one cap over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.sessions.table import Viewer
from skill_actors.store.documents import Change, NewEvent
from skill_actors.workshop.agents.roster import stored
from skill_actors.workshop.agents.settings import DEFAULTS, checked_fields
from skill_actors.workshop.agents.surroundings import AgentSurroundings
from skill_actors.workshop.names import document_id

__all__ = ["Setup", "Setups"]

_KIND: Final = "setup"
_NAME: Final = "agents"
_FIELDS: Final = frozenset({"context", "defaults", "max_cost_usd"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What holds for an owner's later agents.

    Args:
        context: in the system prompt of each that has none of its own.
        defaults: fields of settings, under those of profile and agent.
        max_cost_usd: what all agents made under it may cost together; None for no such cap.
        purse: the conversation that stands above theirs, so that its budget binds them all; "" without one.

    """

    version: int = 0
    context: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    max_cost_usd: float | None = None
    purse: str = ""

    def view(self) -> dict[str, Any]:
        """Its JSON form."""
        return {"context": self.context, "defaults": dict(self.defaults), "max_cost_usd": self.max_cost_usd}


class Setups:
    """Each owner's setup. Belongs to the trio thread."""

    def __init__(self, env: AgentSurroundings) -> None:
        self._env = env

    async def get(self, owner_uid: int) -> Setup:
        """The owner's, an empty one where nothing was set."""
        document = await self._env.documents.get(_KIND, document_id(owner_uid, _NAME))
        if document is None:
            return Setup()
        return Setup(version=document.version, **document.data)

    async def funded(self, owner_uid: int) -> Setup:
        """The owner's, with a purse that is there where there is a cap: the one before may have been deleted."""
        setup = await self.get(owner_uid)
        if setup.max_cost_usd is None:
            return setup
        try:
            await self._env.sessions.get(setup.purse, Viewer(uid=owner_uid))
        except Refused:
            return await self.configure(owner_uid, {"max_cost_usd": setup.max_cost_usd})
        return setup

    async def configure(self, owner_uid: int, changes: Mapping[str, Any]) -> Setup:
        """Change what is named, null takes it away; agents that are there already stay as they are.

        The cap over all is the exception: it binds all that were made while there was one, as it is now.

        Raises:
            Refused: bad_request, conflict (somebody else changes it), storage_full, draining.

        """
        before = await self.get(owner_uid)
        checked = _checked(changes)
        context = str(checked.get("context", "" if "context" in changes else before.context))
        defaults = dict(checked.get("defaults", {} if "defaults" in changes else before.defaults))
        most_usd = checked.get("max_cost_usd", None if "max_cost_usd" in changes else before.max_cost_usd)
        purse = await self._purse(owner_uid, before.purse, most_usd)
        data: dict[str, Any] = {"context": context, "defaults": defaults, "max_cost_usd": most_usd, "purse": purse}
        id = document_id(owner_uid, _NAME)
        change = Change(kind=_KIND, id=id, owner_uid=owner_uid, data=data, expected=before.version)
        event = NewEvent(owner_uid=owner_uid, topic="agent", name="configured", data={"fields": sorted(changes)})
        applied = await stored(self._env.documents, [change], [event])
        return Setup(version=applied.documents[0].version, **data)

    async def _purse(self, owner_uid: int, purse: str, most_usd: float | None) -> str:
        """The conversation whose budget is the cap; the one there is, if it is still there."""
        sessions, viewer = self._env.sessions, Viewer(uid=owner_uid)
        budget = None if most_usd is None else {"usd": most_usd}
        if purse:
            try:
                await sessions.update(purse, viewer, {"budget": budget})
            except Refused as refused:
                if refused.code != "not_found":
                    raise
            else:
                return purse
        if budget is None:
            return ""
        made = await sessions.create(owner_uid, {"title": "workshop: what all agents may cost", "budget": budget})
        return str(made["id"])


def _checked(changes: Mapping[str, Any]) -> dict[str, Any]:
    defaults = changes.get("defaults")
    plain = {name: value for name, value in changes.items() if name != "defaults"}
    checked = checked_fields(plain, allowed=_FIELDS)
    if defaults is None:
        return checked
    if not isinstance(defaults, Mapping):
        raise Refused("bad_request", "defaults: expected an object")
    return {**checked, "defaults": checked_fields(defaults, allowed=DEFAULTS)}
