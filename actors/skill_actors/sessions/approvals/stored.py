"""All approvals of the store that fit a question, read a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from skill_actors.store.base import ApprovalRecord, Journal

__all__ = ["stored_approvals"]

_PAGE: Final = 500


async def stored_approvals(
    journal: Journal, *, status: str | None, session: str | None = None, turn: str | None = None
) -> AsyncIterator[ApprovalRecord]:
    """Newest first; None does not choose. Raises what reading the store raises."""
    cursor: str | None = None
    while True:
        page = await journal.list_approvals(status=status, session=session, turn=turn, limit=_PAGE, cursor=cursor)
        for record in page.items:
            yield record
        if (cursor := page.next) is None:
            return
