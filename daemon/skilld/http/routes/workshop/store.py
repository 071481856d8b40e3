"""Values that agents and users share: put, read, listed, deleted."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.workshop.entries import Entry
from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.workshop.places import owner_of

__all__ = ["ROUTES"]

_MAX_PAGE: Final = 1000
_KEY_PART: Final = 5  # of /v1/workshop/store/NAMESPACE/KEY
_ETAG: Final = re.compile(r'"([1-9][0-9]{0,17})"')
_OWNER: Final = Parameter(name="owner", summary="The uid whose values are meant, for the role admin; one's own.")
_IF_MATCH: Final = Parameter(
    name="If-Match", where="header", summary='Only if it is at this version, such as "3"; the answer names it as ETag.'
)


class PutRequest(BaseModel):
    """A value: any JSON. `expected`: the version it must be at, 0 for none. `ttl_s`: it is gone after so many seconds.

    What `expected` says can be said by If-Match and If-None-Match as well.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    value: Any
    expected: int | None = None
    ttl_s: float | None = None


async def read(call: Call) -> Response:
    entry = await call.services.workshop().entries.get(owner_of(call), call.params["namespace"], _key(call))
    return _answer(entry)


async def write(call: Call) -> Response:
    request: PutRequest = call.body
    expected = _expected(call, request.expected)
    entry = await call.services.workshop().entries.put(
        call.viewer.uid,
        call.params["namespace"],
        _key(call),
        request.value,
        expected=expected,
        ttl_s=request.ttl_s,
    )
    return _answer(entry, with_value=False)


async def delete(call: Call) -> Response:
    expected = _expected(call, None)
    await call.services.workshop().entries.delete(
        owner_of(call), call.params["namespace"], _key(call), expected=expected
    )
    return Response(status_code=204)


async def keys(call: Call) -> Response:
    limit = call.number("limit", 100, low=1, high=_MAX_PAGE)
    if limit != int(limit):
        raise Refused("bad_request", f"limit={limit:g}: expected a whole number")
    page = await call.services.workshop().entries.keys(
        owner_of(call),
        call.params.get("namespace"),
        prefix=call.query.get("prefix", ""),
        after=call.query.get("cursor", ""),
        limit=int(limit),
    )
    return JsonAnswer({"items": [entry.to_dict() for entry in page.items], "next": page.next})


async def clear(call: Call) -> Response:
    removed = await call.services.workshop().entries.clear(call.viewer.uid, call.params["namespace"])
    return JsonAnswer({"removed": removed})


def _answer(entry: Entry, *, with_value: bool = True) -> Response:
    value = entry.to_dict()
    if not with_value:
        del value["value"]
    created = not with_value and entry.version == 1
    return JsonAnswer(value, status_code=201 if created else 200, headers={"etag": f'"{entry.version}"'})


def _key(call: Call) -> str:
    """The key in the path as it was sent: what is no UTF-8 is refused, not replaced."""
    raw = call.raw_path.split(b"/", _KEY_PART)[_KEY_PART]
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("bad_request", f"key: it is not UTF-8 at byte {error.start}") from error


def _expected(call: Call, stated: int | None) -> int | None:
    """The version that the change is for, from the body or the headers, which must not contradict each other."""
    match, none_match = call.headers.get("if-match"), call.headers.get("if-none-match")
    versions = set() if stated is None else {stated}
    if match is not None:
        found = _ETAG.fullmatch(match)
        if found is None:
            raise Refused("bad_request", f'if-match: {match[:40]!a}: expected a version such as "3"')
        versions.add(int(found[1]))
    if none_match is not None:
        if none_match != "*":
            raise Refused("bad_request", f"if-none-match: {none_match[:40]!a}: only * is understood")
        versions.add(0)
    if len(versions) > 1:
        raise Refused("bad_request", "the conditions of the body and the headers contradict each other")
    return next(iter(versions), None)


_LISTING: Final = (
    Parameter(name="prefix", summary="Only keys that begin so; without a namespace, NAMESPACE/KEY does."),
    Parameter(name="limit", summary=f"At most so many, from 1 to {_MAX_PAGE}; 100 if absent."),
    Parameter(name="cursor", summary="`next` of the page before."),
    _OWNER,
)

ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/workshop/store",
        handler=keys,
        permission="read",
        summary="What is stored in all namespaces, without the values, by namespace and key.",
        parameters=_LISTING,
    ),
    Route(
        method="GET",
        path="/v1/workshop/store/{namespace}",
        handler=keys,
        permission="read",
        summary="What is stored in a namespace, without the values, by key.",
        parameters=_LISTING,
    ),
    Route(
        method="DELETE",
        path="/v1/workshop/store/{namespace}",
        handler=clear,
        permission="send",
        summary="Delete all values of a namespace; `removed` says how many.",
    ),
    Route(
        method="GET",
        path="/v1/workshop/store/{namespace}/{key:path}",
        handler=read,
        permission="read",
        summary="A value, with its version in the ETag too.",
        parameters=(_OWNER,),
    ),
    Route(
        method="PUT",
        path="/v1/workshop/store/{namespace}/{key:path}",
        handler=write,
        permission="send",
        summary="Store a value; 201 if it is new, `conflict` with the version `found` if it is not the one expected.",
        body=PutRequest,
        parameters=(
            _IF_MATCH,
            Parameter(name="If-None-Match", where="header", summary="`*`: only if there is none."),
        ),
    ),
    Route(
        method="DELETE",
        path="/v1/workshop/store/{namespace}/{key:path}",
        handler=delete,
        permission="send",
        summary="Delete a value.",
        parameters=(_IF_MATCH, _OWNER),
        status=204,
    ),
)
