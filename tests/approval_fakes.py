"""Approvals without sessions behind them: what the socket and skillctl are tested with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.sessions.approvals import Approver
from skill_actors.telemetry import Bus

__all__ = ["FakeApprovals", "approval"]


def approval(**differs: Any) -> dict[str, Any]:
    """An approval as the daemon shows it."""
    return {
        "id": new_id("apr"),
        "session": new_id("ses"),
        "turn": new_id("trn"),
        "call": "toolu_1",
        "owner_uid": 0,
        "status": "pending",
        "created": "2026-01-15T03:29:51.606Z",
        "expires": "2026-01-15T04:29:51.606Z",
        "updated": "2026-01-15T03:29:51.606Z",
        "tool": "bash_tool",
        "place": "local",
        "backend": "local",
        "input": {"command": "rm -rf build", "description": "clean up"},
        "command": "rm -rf build",
        "argv": None,
        "cwd": "/srv/workspaces/one",
        "environment": ["TOKEN"],
        "files": [{"path": "build", "sha256": None, "note": "a folder"}],
        "skill": None,
        "reason": "rule 2 asks",
        "rule": "rule 2",
        "digest": "d" * 64,
        "shown": "bash_tool: rm -rf build",
        "decision": None,
        **differs,
    }


class FakeApprovals:
    """Keeps approvals in a dict, and tells the bus as the desk does."""

    def __init__(self, bus: Bus) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.pages: list[tuple[str | None, str | None, int, str | None]] = []
        self.said: list[tuple[int, Mapping[str, Any]]] = []
        self._bus = bus

    def add(self, **differs: Any) -> dict[str, Any]:
        made = approval(**differs)
        self.kept[made["id"]] = made
        self._tell("approval.requested", made)
        return made

    def _tell(self, name: str, view: Mapping[str, Any]) -> None:
        self._bus.emit(
            name, {"count": 1}, {key: view[key] for key in ("id", "session", "turn", "call", "tool", "status")}
        )

    async def list(
        self, viewer_uid: int | None, *, status: str | None, session: str | None, limit: int, cursor: str | None
    ) -> dict[str, Any]:
        self.pages.append((status, session, limit, cursor))
        found = [
            view
            for view in reversed(self.kept.values())
            if viewer_uid in (None, view["owner_uid"])
            and status in (None, view["status"])
            and session in (None, view["session"])
        ]
        start = int(cursor or 0)
        more = start + limit < len(found)
        return {"items": found[start : start + limit], "next": str(start + limit) if more else None}

    async def get(self, id: str, viewer_uid: int | None) -> dict[str, Any]:
        view = self.kept.get(id)
        if view is None or viewer_uid not in (None, view["owner_uid"]):
            raise Refused("not_found", f"there is no approval {id}")
        return view

    async def decide(self, id: str, by: Approver, decision: Mapping[str, Any]) -> dict[str, Any]:
        view = await self.get(id, None)
        if view["status"] != "pending":
            raise Refused("conflict", f"approval {id} was {view['status']} by {view['decision']['by']}")
        self.said.append((by.uid, decision))
        view["status"] = "denied" if decision["decision"] == "deny" else "allowed"
        view["decision"] = {**decision, "by_uid": by.uid, "by": str(by)}
        self._tell("approval.resolved", view)
        return view

    async def revoke(self, id: str, by: Approver) -> dict[str, Any]:
        view = await self.get(id, None)
        if (view["decision"] or {}).get("scope") != "session":
            raise Refused("conflict", f"approval {id} is not one that holds for its session")
        view["status"] = "cancelled"
        return view
