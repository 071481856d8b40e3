"""Items of the board: added, listed, looked at, edited, removed, cancelled, wanted again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.workshop.board import Item
from skill_actors.workshop.board.choosing import ItemChoice, is_overdue, page_of
from skilld.http.answer import JsonAnswer
from skilld.http.descent import refuse_own
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.workshop.places import OWNER, owner_of

__all__ = ["ROUTES", "item_view"]

_MAX_PAGE: Final = 1000


class ItemFields(BaseModel):
    """What an item is to be. `verify`: {"argv": [...], "timeout_s": 300, "schema": {...}}, or a part of that."""

    model_config = ConfigDict(extra="forbid", strict=True)

    spec: str = ""
    type: str = "custom"
    priority: int = 3
    depends_on: list[str] = []
    agent: str | None = None
    max_attempts: int = 3
    due: str | None = None
    labels: dict[str, str] = {}
    verify: dict[str, Any] | None = None
    meta: dict[str, Any] = {}


class NewItem(ItemFields):
    """An item for the board. `from_agent`: what this agent has answered last is added to `spec`."""

    title: str
    id: str | None = None
    from_agent: str | None = None


class ItemChanges(ItemFields):
    """What is to be changed. `expected_updated`: only if the item was `updated` at this time, and not since."""

    title: str = ""
    expected_updated: str | None = None


class CancelItemRequest(BaseModel):
    """Why it is not wanted any more."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = ""


async def add(call: Call) -> Response:
    draft = call.body.model_dump(exclude_unset=True)
    if (draft.get("verify") or {}).get("argv"):
        refuse_own(call.peer, "say what runs to verify work")
    agent = draft.pop("from_agent", None)
    workshop = call.services.workshop()
    if agent is None:
        (item,) = await workshop.board.add(call.viewer.uid, [draft])
    else:
        item = await workshop.workers.item_from_result(call.viewer.uid, agent, draft)
    return await _answer(call, item, status=201)


async def listing(call: Call) -> Response:
    now, choice = datetime.now(UTC), _choice(call)
    board = call.services.workshop().board
    items = await board.list(owner_of(call), lambda item: choice.wants(item, now))
    limit = int(call.number("limit", 100, low=1, high=_MAX_PAGE))
    page, following = page_of(items, call.query.get("cursor"), limit)
    return JsonAnswer({"items": [item_view(item, now) for item in page], "next": following})


async def show(call: Call) -> Response:
    item = await call.services.workshop().board.get(owner_of(call), call.params["id"])
    return await _answer(call, item)


async def edit(call: Call) -> Response:
    changes = call.body.model_dump(exclude_unset=True)
    expected = changes.pop("expected_updated", None)
    if "verify" in changes:
        refuse_own(call.peer, "say how work is verified")
    board = call.services.workshop().board
    return await _answer(call, await board.edit(call.viewer.uid, call.params["id"], changes, expected_updated=expected))


async def remove(call: Call) -> Response:
    await call.services.workshop().board.remove(call.viewer.uid, [call.params["id"]])
    return Response(status_code=204)


async def cancel(call: Call) -> Response:
    board = call.services.workshop().board
    return await _answer(call, await board.cancel(call.viewer.uid, call.params["id"], call.body.reason))


async def retry(call: Call) -> Response:
    return await _answer(call, await call.services.workshop().board.retry(call.viewer.uid, call.params["id"]))


async def summary(call: Call) -> Response:
    return JsonAnswer(await call.services.workshop().board.summary(owner_of(call)))


def item_view(item: Item, now: datetime) -> dict[str, Any]:
    """As lists show it: the whole item, and whether it is overdue."""
    return {**item.view(), "overdue": is_overdue(item, now)}


async def _answer(call: Call, item: Item, *, status: int = 200) -> Response:
    """One item, and what it still waits for."""
    waits_for = await call.services.workshop().board.blockers(owner_of(call), item.id)
    headers = {"location": f"/v1/workshop/board/items/{item.id}"} if status == 201 else None
    view = {**item_view(item, datetime.now(UTC)), "waits_for": list(waits_for)}
    return JsonAnswer(view, status_code=status, headers=headers)


def _choice(call: Call) -> ItemChoice:
    return ItemChoice(
        statuses=_words(call, "status"),
        types=_words(call, "type"),
        claimed_by=call.query.get("claimed_by"),
        agent=call.query.get("agent"),
        labels=dict(map(_label, _words(call, "label"))),
        depends_on=call.query.get("depends_on"),
        overdue=call.flag("overdue", True) if "overdue" in call.query else None,
    )


def _words(call: Call, name: str) -> Sequence[str]:
    return tuple(filter(None, call.query.get(name, "").split(",")))


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Refused("bad_request", f"label={text[:60]!a}: expected NAME=VALUE")
    return name, value


_ITEM: Final = "/v1/workshop/board/items/{id}"

ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/workshop/board/items",
        handler=add,
        permission="send",
        summary="Put an item on the board: `ready`, `new` while it waits for others, or `blocked` by failed ones.",
        body=NewItem,
        status=201,
    ),
    Route(
        method="GET",
        path="/v1/workshop/board/items",
        handler=listing,
        permission="read",
        summary="Items in the order in which they are taken: by priority, the oldest first.",
        parameters=(
            Parameter(name="status", summary="Only in these states, with commas between them."),
            Parameter(name="type", summary="Only of these types, with commas between them."),
            Parameter(name="claimed_by", summary="Only those that this holder has."),
            Parameter(name="agent", summary="Only those that are meant for this agent, worker or profile."),
            Parameter(name="label", summary="Only with these labels, NAME=VALUE, with commas between them."),
            Parameter(name="depends_on", summary="Only those that wait for this item directly."),
            Parameter(name="overdue", summary="true: only those that should be done by now and have not ended."),
            Parameter(name="limit", summary=f"How many at most, 1 to {_MAX_PAGE}; 100 if absent."),
            Parameter(name="cursor", summary="`next` of the page before."),
            OWNER,
        ),
    ),
    Route(
        method="GET",
        path="/v1/workshop/board/summary",
        handler=summary,
        permission="read",
        summary="How many items there are: in all, by state, and by type and state.",
        parameters=(OWNER,),
    ),
    Route(
        method="GET",
        path=_ITEM,
        handler=show,
        permission="read",
        summary="One item with its history, and what it still waits for.",
        parameters=(OWNER,),
    ),
    Route(
        method="PATCH",
        path=_ITEM,
        handler=edit,
        permission="send",
        summary="Change an item. While somebody has it only labels, due and priority; when it is done labels and due.",
        body=ItemChanges,
    ),
    Route(
        method="DELETE",
        path=_ITEM,
        handler=remove,
        permission="send",
        summary="Take an item off the board: one that nobody has and no other depends on.",
        status=204,
    ),
    Route(
        method="POST",
        path=f"{_ITEM}/cancel",
        handler=cancel,
        permission="send",
        summary="Say that an item is not wanted any more. Whoever has it loses it; what depends on it is blocked.",
        body=CancelItemRequest,
        optional_body=True,
    ),
    Route(
        method="POST",
        path=f"{_ITEM}/retry",
        handler=retry,
        permission="send",
        summary="Want a failed or cancelled item again, with all its attempts; what it blocked waits again.",
    ),
)
