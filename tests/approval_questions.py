"""Questions for the desk of approvals that are under way, and who answers them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from approval_kit import Desk
from skill_actors.errors import Refused
from skill_actors.sessions.approvals import Answer, ApprovalRequest, Approver

__all__ = ["ALLOW", "ANN", "BEN", "Asked", "refused", "under_way"]

ANN, BEN = Approver(1001, "ann"), Approver(1002, "ben")
ALLOW: Mapping[str, Any] = {"decision": "allow"}


def refused(code: str, says: str = "") -> Any:
    return pytest.raises(Refused, match=f"(?s).*{re.escape(says)}", check=lambda error: error.code == code)


class Asked:
    """A question under way."""

    def __init__(self, desk: Desk, request: ApprovalRequest, timeout_s: float = 3600.0, **more: Any) -> None:
        self.desk = desk
        self.request = request
        self.timeout_s = timeout_s
        self.more = more
        self.answer: Answer | None = None
        self.scope = trio.CancelScope()
        self.done = trio.Event()

    @property
    def said(self) -> Answer:
        """The answer, which has come."""
        assert self.answer is not None
        return self.answer

    async def run(self) -> None:
        with self.scope:
            self.answer = await self.desk.desk.ask(
                self.desk.log, self.request.turn, self.request, timeout_s=self.timeout_s, **self.more
            )
        self.done.set()


async def under_way(desk: Desk, nursery: trio.Nursery, **more: Any) -> tuple[Asked, str]:
    """A question of a new turn, and its id, as soon as it is the only one that is pending."""
    asked = Asked(desk, desk.request(await desk.begin()), **more)
    nursery.start_soon(asked.run)
    (id,) = await desk.waiting()
    return asked, id
