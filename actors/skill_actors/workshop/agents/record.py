"""An agent as it is stored: what it is to be, its conversations, and how it fares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from skill_actors.sessions.account import NO_LINEAGE, Lineage
from skill_actors.store.documents import Change, Document
from skill_actors.workshop.agents.crashes import CrashRecord
from skill_actors.workshop.agents.settings import AgentSettings
from skill_actors.workshop.names import document_id

__all__ = ["AGENT_KIND", "AgentRecord", "AgentState"]

AGENT_KIND: Final = "agent"
_MAX_BEFORE: Final = 100  # earlier conversations that are remembered

AgentState = Literal["live", "crashed", "dismissed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """An agent of one owner.

    Args:
        version: of its document; 0: not stored yet.
        fields: its settings as they are stored, the owner's defaults and its profile laid under them.
        session: the conversation it has now.
        before: those it had, the latest first.
        state: "crashed" is given up; "dismissed" is not there any more, but for what it has spent.
        turns: that ended, in all its conversations.
        ended: likewise, in the one it has now.
        last: the turn that ended last, in the one it has now.
        capped: whether the cap over it is the one of its settings.
        folder: where it works in the conversation it has now, if not where its settings say.
        lineage: for whom it works, in each of its conversations: who made it, where an agent did.

    """

    owner_uid: int
    name: str
    version: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)
    session: str
    before: tuple[str, ...] = ()
    state: AgentState = "live"
    turns: int = 0
    ended: int = 0
    last: str | None = None
    capped: bool = False
    folder: str | None = None
    lineage: Lineage = NO_LINEAGE
    crashes: CrashRecord = field(default_factory=CrashRecord)
    created: str = ""
    updated: str = ""

    @classmethod
    def of(cls, document: Document) -> AgentRecord:
        """As the document holds it."""
        data = document.data
        return cls(
            owner_uid=document.owner_uid,
            name=document.name,
            version=document.version,
            fields=data["settings"],
            session=data["session"],
            before=tuple(data["before"]),
            state=data["state"],
            turns=data["turns"],
            ended=data["ended"],
            last=data["last"],
            capped=data["capped"],
            folder=data.get("folder"),
            lineage=Lineage.of(data),
            crashes=CrashRecord.of(data["crashes"]),
            created=document.created,
            updated=document.updated,
        )

    def change(self) -> Change:
        """What stores it, unless somebody else has stored it since it was read."""
        data = {
            "settings": dict(self.fields),
            "session": self.session,
            "before": list(self.before),
            "state": self.state,
            "turns": self.turns,
            "ended": self.ended,
            "last": self.last,
            "capped": self.capped,
            **({} if self.folder is None else {"folder": self.folder}),
            **self.lineage.settings(),
            "crashes": self.crashes.to_json(),
        }
        id = document_id(self.owner_uid, self.name)
        return Change(kind=AGENT_KIND, id=id, owner_uid=self.owner_uid, data=data, expected=self.version)

    @property
    def settings(self) -> AgentSettings:
        return AgentSettings.of(self.fields)

    def begun_anew(self, session: str) -> AgentRecord:
        """The same in another conversation: what was spent stays, and nothing of a crash does."""
        return replace(
            self,
            session=session,
            before=(self.session, *self.before)[:_MAX_BEFORE],
            state="live",
            ended=0,
            last=None,
            crashes=CrashRecord(),
        )
