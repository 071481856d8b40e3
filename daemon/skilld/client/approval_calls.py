"""What the client for ordinary programs says about approvals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from skilld.client import wire
from skilld.client.events import Event
from skilld.client.wire import Call, Json, Request

__all__ = ["ApprovalCalls"]

T = TypeVar("T")


class ApprovalCalls:
    """A part of `Client`, which brings the connection."""

    def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _follow_all(self, request: Callable[[int], Request], after: int, *, follow: bool) -> Iterator[Event]:
        raise NotImplementedError

    def approvals(self, *, status: str = "pending", session: str | None = None, page_size: int = 100) -> Iterator[Json]:
        """Calls that wait for an approval, or have waited, the newest first; pages are fetched as needed.

        Those of one's own sessions, and with the role approve those of all.

        Args:
            status: pending, allowed, denied, expired, cancelled, or all.
            session: only those of this one.

        """
        cursor: str | None = None
        while True:
            page = self._do(wire.approvals(status, session, page_size, cursor))
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def approval(self, approval: str) -> Json:
        """One approval: what would run, where and with what, and what became of it."""
        return self._do(wire.get(wire.approval_path(approval)))

    def decide(
        self,
        approval: str,
        decision: Literal["allow", "deny", "edit"],
        *,
        scope: Literal["once", "session"] = "once",
        input: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> Json:
        """Say whether a call that waits may run; the approval as it is then.

        SkilldError (`conflict`) if somebody has decided before, or its time was over.

        Args:
            scope: "session" also allows the same call later on in its session.
            input: what an edited call is made with; the model is told.
            reason: why it is denied, for the model.

        """
        return self._do(wire.decide(approval, decision, scope, input, reason))

    def revoke_approval(self, approval: str) -> Json:
        """Take back what was allowed for a session: the same call is asked for again."""
        return self._do(wire.revoke_approval(approval))

    def approval_events(self, *, session: str | None = None, follow: bool = True) -> Iterator[Event]:
        """What waits now as `approval.requested`, then what comes, and as `approval.resolved` what is decided.

        The data of each is the approval. A connection that drops is made again, and begins again with what waits by
        then: an approval may come more than once, and one that was resolved meanwhile is not told of.

        Args:
            session: only those of this one.
            follow: wait for further ones; else stop behind what waits now.

        """
        return self._follow_all(lambda _: wire.approval_events(session, follow), 0, follow=follow)
