"""Tools of the board: what is to be done, taken, and what came of it."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from skilld.client import SkilldError
from skilld.mcp.claims import LEASE_S
from skilld.mcp.desk import Desk
from skilld.mcp.texts import item_line, unless_none
from skilld.mcp.tool import Parameters, Tool, ToolFailure, tool

__all__ = ["TOOLS"]

_LIMIT: Final = 200
_LOST: Final = "lease_lost"


class Work(Parameters):
    """Something to be done."""

    id: str | None = Field(None, description="A name of its own; one is made if absent.")
    title: str
    type: str = "custom"
    spec: str = Field("", description="What is to be done, in full.")
    priority: int = Field(3, description="1 is taken first, 5 last.")
    depends_on: list[str] = Field(default_factory=list, description="Items that have to be done before.")
    agent: str | None = Field(None, description="The agent, worker or profile that it is meant for.")


class Board(Parameters):
    """Which items."""

    status: str | None = Field(None, description="new, ready, claimed, in_progress, done, failed, blocked, cancelled.")
    type: str | None = None


class Claim(Parameters):
    """Who takes which item."""

    id: str
    agent: str | None = Field(None, description="Who takes it.")


class Complete(Parameters):
    """What came of an item."""

    id: str
    result: str | None = None


class Fail(Parameters):
    """Why an item could not be done."""

    id: str
    error: str


class Cancel(Parameters):
    """Why an item is not wanted any more."""

    id: str
    reason: str = ""


@tool("add_work", Work, "Put an item on the board.")
async def add_work(desk: Desk, given: Work) -> str:
    draft: dict[str, Any] = given.model_dump(exclude_unset=True, exclude={"title"}, exclude_none=True)
    return f"Added {item_line(await desk.client.add_item(given.title, **draft))}"


@tool("board", Board, "List items of the board in the order in which they are taken.", reads=True)
async def board(desk: Desk, given: Board) -> str:
    found = await desk.client.items(limit=_LIMIT, status=given.status, type=given.type)
    more = ("... and more: name a status or a type",) if found["next"] else ()
    return unless_none((*map(item_line, found["items"]), *more), "There are no such items.")


@tool("claim_work", Claim, "Take an item that is ready. It is yours until you complete or fail it.")
async def claim_work(desk: Desk, given: Claim) -> str:
    if desk.agent is not None and given.agent not in (None, desk.agent):
        raise ToolFailure(f"claim_work: this is the bridge of agent {desk.agent!r}: leave 'agent' out")
    holder = desk.agent or given.agent
    taken = await desk.client.claim_item(given.id, holder=holder, lease_s=LEASE_S)
    desk.claims.add(given.id, taken["token"])
    await desk.client.start_item(given.id, taken["token"])
    item = taken["item"]
    spec = f"\n\n{item['spec']}" if item["spec"] else ""
    return f"Claimed by {item['claimed_by']}: {item['title']} ({item['type']}){spec}"


@tool("complete_work", Complete, "Say that an item that you have claimed is done, and what came of it.")
async def complete_work(desk: Desk, given: Complete) -> str:
    token = desk.claims.token(given.id)
    item = await _said(desk, given.id, desk.client.complete_item(given.id, token, given.result))
    return f"Completed {item_line(item)}"


@tool("fail_work", Fail, "Say that an item that you have claimed could not be done, and why.")
async def fail_work(desk: Desk, given: Fail) -> str:
    token = desk.claims.token(given.id)
    item = await _said(desk, given.id, desk.client.fail_item(given.id, token, given.error))
    return f"Failed {item_line(item)}"


@tool("cancel_work", Cancel, "Say that an item is not wanted any more; what depends on it is blocked.")
async def cancel_work(desk: Desk, given: Cancel) -> str:
    item = await desk.client.cancel_item(given.id, given.reason)
    desk.claims.forget(given.id)
    return f"Cancelled {item_line(item)}"


async def _said(desk: Desk, id: str, saying: Any) -> dict[str, Any]:
    """What the daemon makes of it. The token is kept until the item is not ours any more: a verification may fail."""
    try:
        item: dict[str, Any] = await saying
    except SkilldError as error:
        if error.details.get("reason") == _LOST:
            desk.claims.forget(id)
        raise
    desk.claims.forget(id)
    return item


TOOLS: Final[tuple[Tool, ...]] = (add_work, board, claim_work, complete_work, fail_work, cancel_work)
