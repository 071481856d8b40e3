"""Which sessions a list is asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from skill_actors.store.base import SessionRecord

__all__ = ["SessionChoice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChoice:
    """A restriction of `Journal.list_sessions`; what is None restricts nothing.

    Args:
        ids: only these.
        not_ids: all but these.
        since: RFC 3339 UTC with milliseconds; only those updated then or later.
        matches: looks at one record; called in a worker thread.

    """

    ids: Collection[str] | None = None
    not_ids: Collection[str] = ()
    since: str | None = None
    matches: Callable[[SessionRecord], bool] | None = None

    def may_have(self, session: str) -> bool:
        """Whether a session of this id is worth reading."""
        return session not in self.not_ids and (self.ids is None or session in self.ids)
