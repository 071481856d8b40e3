"""Routes as data: what is served, to whom, with which body and query. The app and its OpenAPI page both read this."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.responses import Response

from skill_actors.errors import Refused
from skilld.http.peer import Peer, Permission
from skilld.http.services import Services, Viewer

__all__ = ["Call", "Handler", "Parameter", "Route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A query or header parameter that a route reads; it is always text on the way in."""

    name: str
    summary: str
    where: Literal["query", "header"] = "query"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, checked: the peer may make it, the query holds known names only, the body has its model's shape.

    Args:
        permissions: all that the peer may do.
        raw_path: as it was sent, percent-encoded.
        content: the body of a route that streams it, as it comes.

    """

    services: Services
    peer: Peer
    viewer: Viewer
    permissions: frozenset[Permission]
    headers: Headers
    params: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    raw_path: bytes = b""
    content: AsyncIterable[bytes] | None = None

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        """The query parameter as a number.

        Raises:
            Refused: bad_request, if it is none or out of bounds.

        """
        text = self.query.get(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise Refused("bad_request", f"{name}={text[:40]!r}: expected a number from {low:g} to {high:g}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """The query parameter as true or false.

        Raises:
            Refused: bad_request, if it is neither.

        """
        text = self.query.get(name)
        if text is None:
            return default
        if text not in ("true", "false", "1", "0"):
            raise Refused("bad_request", f"{name}={text[:40]!r}: expected true or false")
        return text in ("true", "1")

    def accepts(self, media_type: str) -> bool:
        """Whether the client asked for this type by name."""
        wanted = (part.partition(";")[0].strip().lower() for part in self.headers.get("accept", "").split(","))
        return media_type in wanted


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method on one path.

    Args:
        permission: what the peer must be allowed; "any" serves everybody who can connect.
        body: the model of the JSON body; None where a body is not read.
        streamed_body: media type of a body that the handler reads as it comes, however large; None where there is none.
        raw_body: media type of a body that the handler reads itself, as bytes; None where there is none.
        optional_body: whether no body means an empty object.
        media: what the answer may be.

    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler
    permission: Permission
    summary: str
    body: type[BaseModel] | None = None
    raw_body: str | None = None
    streamed_body: str | None = None
    optional_body: bool = False
    parameters: tuple[Parameter, ...] = ()
    status: int = 200
    media: tuple[str, ...] = ("application/json",)
