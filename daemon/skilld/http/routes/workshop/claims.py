"""Claims of items: taken under a lease, renewed, and what became of the work, said by whoever has the token."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import trio
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from skill_actors.workshop.board import DEFAULT_LEASE_S, Item, Outcome
from skilld.http.answer import JsonAnswer
from skilld.http.descent import refuse_own
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.workshop.board import item_view

__all__ = ["ROUTES"]

_MAX_WAIT_S: Final = 60.0


class ClaimRequest(BaseModel):
    """Who takes an item, and for how long. `names`: agents and profiles that the taker goes by."""

    model_config = ConfigDict(extra="forbid", strict=True)

    holder: str | None = None
    lease_s: float = DEFAULT_LEASE_S
    types: list[str] | None = None
    names: list[str] = []


class ItemClaim(BaseModel):
    """Who takes this item, and for how long."""

    model_config = ConfigDict(extra="forbid", strict=True)

    holder: str | None = None
    lease_s: float = DEFAULT_LEASE_S


class HolderRequest(BaseModel):
    """The token of the claim."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: str


class StartRequest(HolderRequest):
    """`turn`: in which it is done, if that is a turn of an agent."""

    turn: str | None = None


class CompleteRequest(HolderRequest):
    """What came of it. `waive`: why it counts although its verification was not made."""

    result: str | None = None
    structured: Any = None
    waive: str | None = None


class FailRequest(HolderRequest):
    """Why it could not be done. `final`: it is not to be tried again."""

    error: str
    final: bool = False


class ReleaseRequest(HolderRequest):
    """Why it is given back."""

    note: str = ""


async def claim_best(call: Call) -> Response:
    request: ClaimRequest = call.body
    board, owner = call.services.workshop().board, call.viewer.uid
    item = None
    with trio.move_on_after(call.number("wait", 0.0, low=0.0, high=_MAX_WAIT_S)):
        while item is None:
            work = board.work(owner)
            with trio.CancelScope(shield=True):  # what was taken is told
                item = await board.claim(
                    owner, _holder(call), types=request.types, names=request.names, lease_s=request.lease_s
                )
            if item is None:
                await work.wait()
    return JsonAnswer({"item": None, "token": None} if item is None else _claimed(item))


async def claim(call: Call) -> Response:
    board, id = call.services.workshop().board, call.params["id"]
    item = await board.claim(call.viewer.uid, _holder(call), id=id, lease_s=call.body.lease_s)
    assert item is not None  # else it has raised
    return JsonAnswer(_claimed(item))


async def start(call: Call) -> Response:
    request: StartRequest = call.body
    board = call.services.workshop().board
    return _answer(await board.start(call.viewer.uid, call.params["id"], request.token, turn=request.turn))


async def heartbeat(call: Call) -> Response:
    board = call.services.workshop().board
    return _answer(await board.heartbeat(call.viewer.uid, call.params["id"], call.body.token))


async def complete(call: Call) -> Response:
    request: CompleteRequest = call.body
    if request.waive is not None:
        refuse_own(call.peer, "waive a verification")
    outcome = Outcome(result=request.result, structured=request.structured, waived=request.waive)
    board = call.services.workshop().board
    return _answer(await board.complete(call.viewer.uid, call.params["id"], request.token, outcome))


async def fail(call: Call) -> Response:
    request: FailRequest = call.body
    board = call.services.workshop().board
    return _answer(
        await board.fail(call.viewer.uid, call.params["id"], request.token, request.error, final=request.final)
    )


async def release(call: Call) -> Response:
    board = call.services.workshop().board
    return _answer(await board.release(call.viewer.uid, call.params["id"], call.body.token, call.body.note))


def _holder(call: Call) -> str:
    given = call.body.holder
    return f"uid-{call.peer.uid}" if given is None else str(given)


def _claimed(item: Item) -> dict[str, Any]:
    assert item.lease is not None
    return {"item": item_view(item, datetime.now(UTC)), "token": item.lease.token}


def _answer(item: Item) -> Response:
    return JsonAnswer(item_view(item, datetime.now(UTC)))


_ITEM: Final = "/v1/workshop/board/items/{id}"

ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/workshop/board/claim",
        handler=claim_best,
        permission="send",
        summary="Take the best item that is ready, with the token of the claim; both null where there is none.",
        body=ClaimRequest,
        optional_body=True,
        parameters=(Parameter(name="wait", summary=f"Seconds to wait for one, 0 to {_MAX_WAIT_S:g}; 0 if absent."),),
    ),
    Route(
        method="POST",
        path=f"{_ITEM}/claim",
        handler=claim,
        permission="send",
        summary="Take this item, which has to be ready.",
        body=ItemClaim,
        optional_body=True,
    ),
    Route(
        method="POST",
        path=f"{_ITEM}/start",
        handler=start,
        permission="send",
        summary="Say that the work on a claimed item begins.",
        body=StartRequest,
    ),
    Route(
        method="POST",
        path=f"{_ITEM}/heartbeat",
        handler=heartbeat,
        permission="send",
        summary="Let the lease run anew. `conflict` with the reason `lease_lost` where somebody else may have it.",
        body=HolderRequest,
    ),
    Route(
        method="POST",
        path=f"{_ITEM}/complete",
        handler=complete,
        permission="send",
        summary="Say that it is done. `conflict` with the reason `unverified` where its verification does not hold.",
        body=CompleteRequest,
    ),
    Route(
        method="POST",
        path=f"{_ITEM}/fail",
        handler=fail,
        permission="send",
        summary="Say that it could not be done: it is ready again while attempts are left, else failed.",
        body=FailRequest,
    ),
    Route(
        method="POST",
        path=f"{_ITEM}/release",
        handler=release,
        permission="send",
        summary="Give it back as if it had not been taken.",
        body=ReleaseRequest,
    ),
)
