"""Which conversations somebody wants to see of a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from skill_actors.sessions.pause import is_paused
from skill_actors.store.base import SessionRecord
from skill_actors.store.choice import SessionChoice

__all__ = ["Wanted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Filters of a list; what is None filters nothing, and texts are compared without regard to case.

    Args:
        status: "idle", "queued", "running", "waiting" (for people) or "paused".
        label: its key, or key and value as "key=value".
        title: a part of the title.
        text: a part of the title, of a label's value or of the id.
        since: RFC 3339 UTC; only those that were used then or later.

    """

    status: Literal["idle", "queued", "running", "waiting", "paused"] | None = None
    label: str | None = None
    title: str | None = None
    text: str | None = None
    since: str | None = None

    def choice(self, statuses: Mapping[str, str]) -> SessionChoice:
        """For the store, given the status of each session that is in memory; the others are idle, or paused."""
        busy = {id for id, status in statuses.items() if status != "idle"}
        same = {id for id in busy if statuses[id] == self.status}
        return SessionChoice(
            ids=None if self.status in (None, "idle", "paused") else same,
            not_ids=busy if self.status == "idle" else (),
            since=self.since,
            matches=self.matches,
        )

    def matches(self, record: SessionRecord) -> bool:
        """Whether title, labels, id, and what is stored of the status are as wanted."""
        title = str(record.settings.get("title", ""))
        labels: Mapping[str, str] = record.settings.get("labels", {})
        return (
            (self.status not in ("idle", "paused") or is_paused(record) is (self.status == "paused"))
            and (self.title is None or _within(self.title, title))
            and (self.label is None or _is_labelled(self.label, labels))
            and (self.text is None or any(_within(self.text, each) for each in (title, record.id, *labels.values())))
        )


def _within(part: str, whole: str) -> bool:
    return part.casefold() in whole.casefold()


def _is_labelled(label: str, labels: Mapping[str, str]) -> bool:
    key, equals, value = label.partition("=")
    return key in labels and (not equals or labels[key] == value)
