"""Files of a session: listed, read, written, deleted."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import quote, unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skill_actors.errors import Refused
from skilld.http.answer import JsonAnswer
from skilld.http.file_answer import FileAnswer
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.sessions import session_id

__all__ = ["ROUTES"]

_MAX_PAGE: Final = 1000
_MAX_EXPIRES_S: Final = 604_800  # what the signature allows
_BYTES: Final = "application/octet-stream"
_SOURCE: Final = Parameter(name="source", summary="The place in which the file is, where a session has several.")


async def listing(call: Call) -> Response:
    limit = call.number("limit", 100, low=1, high=_MAX_PAGE)
    if limit != int(limit):
        raise Refused("bad_request", f"limit={limit:g}: expected a whole number")
    found = await call.services.files.listing(
        session_id(call), call.viewer, limit=int(limit), cursor=call.query.get("cursor")
    )
    return JsonAnswer(found)


def _name(call: Call, behind: bytes = b"/files/") -> str:
    """The name in the path as it was sent: what is no UTF-8 is refused, not replaced."""
    _, _, raw = call.raw_path.partition(behind)
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("bad_request", f"file name: it is not UTF-8 at byte {error.start}") from error


async def read(call: Call) -> Response:
    session, name = session_id(call), _name(call)
    ref, file = await call.services.files.open(session, call.viewer, name, source=call.query.get("source"))
    return FileAnswer(ref, file, call.headers)


async def write(call: Call) -> Response:
    assert call.content is not None
    _refuse_conditions(call)
    session, name = session_id(call), _name(call)
    length = call.headers.get("content-length")
    ref, created = await call.services.files.put(
        session,
        call.viewer,
        name,
        call.content,
        size=None if length is None else int(length),
        replace=_may_replace(call),
        source=call.query.get("source"),
    )
    headers = {"location": f"/v1/sessions/{session}/files/{quote(name)}"} if created else {}
    return JsonAnswer(ref.to_dict(), status_code=201 if created else 200, headers=headers)


def _refuse_conditions(call: Call) -> None:
    """What would be done although a condition of the client's does not hold is not done."""
    for name in ("if-match", "if-unmodified-since"):
        if name in call.headers:
            raise Refused("bad_request", f"{name} is not understood here; If-None-Match: * is, for a file that is new")


def _may_replace(call: Call) -> bool:
    header = call.headers.get("if-none-match")
    if header not in (None, "*"):
        raise Refused("bad_request", f"if-none-match: {header[:40]!a}: only * is understood, for a file that is new")
    return header is None


async def delete(call: Call) -> Response:
    _refuse_conditions(call)
    await call.services.files.delete(session_id(call), call.viewer, _name(call), source=call.query.get("source"))
    return Response(status_code=204)


class FetchRequest(BaseModel):
    """Whose stored files are brought in: another session's, which only an admin may; this one's if absent."""

    model_config = ConfigDict(extra="forbid", strict=True)

    session: Annotated[str, Field(min_length=1, max_length=128)] | None = None


async def fetch(call: Call) -> Response:
    request: FetchRequest = call.body
    return JsonAnswer(await call.services.files.fetch(session_id(call), call.viewer, request.session))


async def purge(call: Call) -> Response:
    return JsonAnswer(await call.services.files.purge(session_id(call), call.viewer))


async def presign(call: Call) -> Response:
    expires_s = call.number("expires_s", 3600, low=1, high=_MAX_EXPIRES_S)
    name = _name(call, b"/stored-files/")
    return JsonAnswer(await call.services.files.presigned_url(session_id(call), call.viewer, name, int(expires_s)))


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/sessions/{id}/files",
        handler=listing,
        permission="read",
        summary="The session's files, place by place and by name, and how much of its quota they take.",
        parameters=(
            Parameter(name="limit", summary=f"At most so many, from 1 to {_MAX_PAGE}; 100 if absent."),
            Parameter(name="cursor", summary="`next` of the page before."),
        ),
    ),
    Route(
        method="GET",
        path="/v1/sessions/{id}/files/{name:path}",
        handler=read,
        permission="read",
        summary="A file's content.",
        parameters=(
            _SOURCE,
            Parameter(name="Range", where="header", summary="One range, such as bytes=0-1023."),
            Parameter(name="If-None-Match", where="header", summary="The ETag of what you have: 304 if it is this."),
        ),
        media=(_BYTES,),
    ),
    Route(
        method="PUT",
        path="/v1/sessions/{id}/files/{name:path}",
        handler=write,
        permission="send",
        summary="Write a file whole or not at all: 201 if there was none of this name, else 200.",
        streamed_body=_BYTES,
        parameters=(
            _SOURCE,
            Parameter(name="If-None-Match", where="header", summary="* refuses to replace a file."),
        ),
        status=201,
    ),
    Route(
        method="DELETE",
        path="/v1/sessions/{id}/files/{name:path}",
        handler=delete,
        permission="send",
        summary="Delete a file.",
        parameters=(_SOURCE,),
        status=204,
        media=(),
    ),
    Route(
        method="POST",
        path="/v1/sessions/{id}/stored-files/fetch",
        handler=fetch,
        permission="send",
        summary="Bring what the storage has of a session into the workspace; files of the same content stay.",
        body=FetchRequest,
        optional_body=True,
    ),
    Route(
        method="DELETE",
        path="/v1/sessions/{id}/stored-files",
        handler=purge,
        permission="send",
        summary="Remove for good what the storage has of the session; its workspace stays.",
    ),
    Route(
        method="GET",
        path="/v1/sessions/{id}/stored-files/{name:path}",
        handler=presign,
        permission="read",
        summary="A URL with which anybody can fetch a stored file until it expires.",
        parameters=(Parameter(name="expires_s", summary=f"Seconds, from 1 to {_MAX_EXPIRES_S}; 3600 if absent."),),
    ),
)
