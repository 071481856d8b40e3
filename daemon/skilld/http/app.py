"""The ASGI app: the table of routes, and what holds for every one of them.

Order of checks: path (404), method (405), browser and permission (403), query and headers (400), body (413, 400),
handler.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skill_actors.errors import Refused
from skill_actors.store import DamagedRow
from skilld.http.agents_rights import may_be_used_by_agents
from skilld.http.audited import Heard, body_hash, facts_of, is_audited
from skilld.http.body import parse_body, read_body, stream_body
from skilld.http.connection import ClientGone
from skilld.http.errors import damage_refusal, error_response, internal_error
from skilld.http.openapi import openapi, plain_path
from skilld.http.peer import Authority, Peer
from skilld.http.route import Call, Route
from skilld.http.routes import ALL_ROUTES
from skilld.http.services import Services, Viewer

__all__ = ["build_app", "build_routes"]

_MAX_STREAM_BYTES: Final = 1 << 50
_OF_BROWSERS: Final = ("origin", "sec-fetch-site")
_CLIENT_LEFT: Final = 499  # for the metrics only; nobody is there to read it


def build_routes() -> tuple[Route, ...]:
    """Every route, by path and method."""

    async def describe(call: Call) -> Response:
        return Response(page(call.services.version), media_type="application/json")

    described = Route(
        method="GET",
        path="/v1/openapi.json",
        handler=describe,
        permission="any",
        summary="This interface, as an OpenAPI document.",
    )
    routes = tuple(sorted((*ALL_ROUTES, described), key=lambda route: (route.path, route.method)))

    def page(version: str) -> bytes:
        return openapi(routes, version)

    return routes


def build_app(services: Services) -> ASGIApp:
    """The whole interface over these services."""
    by_path: dict[str, dict[str, Route]] = {}
    for route in build_routes():
        by_path.setdefault(route.path, {})[route.method] = route
    return _Router(
        {path: _Endpoint(plain_path(path), routes, services) for path, routes in by_path.items()}, _Unknown(services)
    )


class _Router:
    """Finds the endpoint of a path: those without parameters by one look-up, the few others one after the other.

    One without parameters that does not have the method gives way to one that does: a skill may be named `reload`.
    """

    def __init__(self, endpoints: Mapping[str, _Endpoint], unknown: ASGIApp) -> None:
        self._fixed = {path: endpoint for path, endpoint in endpoints.items() if "{" not in path}
        self._patterns = [(_pattern(path), endpoint) for path, endpoint in endpoints.items() if "{" in path]
        self._unknown = unknown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        endpoint = self._fixed.get(path)
        if endpoint is None or not endpoint.offers(scope["method"]):
            matched, params = self._match(path)
            if matched is not None and (endpoint is None or matched.offers(scope["method"])):
                endpoint, scope["path_params"] = matched, params
        await (endpoint or self._unknown)(scope, receive, send)

    def _match(self, path: str) -> tuple[_Endpoint | None, dict[str, str]]:
        for pattern, endpoint in self._patterns:
            match = pattern.match(path)
            if match is not None:
                return endpoint, match.groupdict()
        return None, {}


class _Unknown:
    """Answers every path that nothing serves."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = ascii(scope["path"][:200])
        answer = error_response(Refused("not_found", f"no such path: {path}; GET /v1/openapi.json lists them"))
        _count(self._services, "unknown", scope["method"], 404, 0.0)
        await answer(scope, receive, send)


def _pattern(path: str) -> re.Pattern[str]:
    """What a path with parameters matches; a `path` in it any character, since a file's name may have line breaks."""
    return re.compile(compile_path(path)[0].pattern, re.DOTALL)


class _Endpoint:
    """All methods of one path."""

    def __init__(self, path: str, routes: Mapping[str, Route], services: Services) -> None:
        self._path = path
        self._routes = routes
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever happens; only a failure after the first byte goes up, and cuts the connection."""
        began = time.monotonic()
        status = 0
        heard = Heard()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                heard.note_headers(message.get("headers", ()))
            await send(message)

        try:
            answer = await self._handle(scope, receive, heard)
            await answer(scope, receive, observed)
        except (ClientGone, ConnectionAbortedError):
            status = status or _CLIENT_LEFT
        except Exception as error:
            if status:
                raise
            heard.code = error.code if isinstance(error, Refused) else "internal"
            await self._failed(error, scope["method"])(scope, receive, observed)
        finally:
            duration_s = time.monotonic() - began
            _count(self._services, self._path, scope["method"], status or _CLIENT_LEFT, duration_s)
            self._audit(scope, heard, status or _CLIENT_LEFT, duration_s)

    def _audit(self, scope: Scope, heard: Heard, status: int, duration_s: float) -> None:
        method, peer = scope["method"], scope["skilld.peer"]
        if not is_audited(method, status, reads=self._services.audit_reads):
            return
        params = scope.get("path_params", {})
        facts = facts_of(self._path, method, peer, params, heard, status=status, duration_s=duration_s)
        self._services.audit("request", facts)

    def _failed(self, error: Exception, method: str) -> Response:
        if isinstance(error, Refused):
            return error_response(error)
        if isinstance(error, DamagedRow):
            return error_response(damage_refusal(error))
        return internal_error(error, f"{method} {self._path}")

    def offers(self, method: str) -> bool:
        """Whether there is an answer to this method."""
        return _served_by(method) in self._routes

    async def _handle(self, scope: Scope, receive: Receive, heard: Heard) -> Response:
        route = self._routes.get(_served_by(scope["method"]))
        if route is None:
            return _wrong_method(scope["method"], self._routes)
        _check_browser(Headers(scope=scope))
        peer = scope["skilld.peer"] = await self._acting(scope["skilld.peer"], route)
        permissions = Authority(self._services.roles(), self._services.own_uid).permissions(peer)
        if route.permission not in permissions:
            raise Refused("forbidden", _forbidden(peer, route))
        request = Request(scope, receive)
        call = Call(
            services=self._services,
            peer=peer,
            viewer=Viewer(uid=peer.uid, admin="admin" in permissions),
            permissions=permissions,
            headers=request.headers,
            params=request.path_params,
            query=_query(request.query_params, route),
            raw_path=scope["raw_path"],
        )
        if route.streamed_body is not None:
            return await self._stream(route, call, scope, receive)
        if route.body is None and route.raw_body is None:
            return await route.handler(call)
        _check_encoding(request.headers)
        raw = await read_body(receive)
        heard.body = await body_hash(raw) if raw else None
        if route.body is None:
            return await route.handler(replace(call, body=raw))
        body = await parse_body(b"{}" if not raw and route.optional_body else raw, route.body)
        return await route.handler(replace(call, body=body))

    async def _acting(self, peer: Peer, route: Route) -> Peer:
        """The peer as whom it acts for: an agent's program as its agent's owner, where agents may come at all."""
        if peer.agent is None:
            return peer
        owner_uid = await self._services.agent_owner(peer.agent)
        if not may_be_used_by_agents(route.method, route.path):
            raise Refused("forbidden", f"{route.method} {route.path} is not for agents; see the manual, docs/mcp.md")
        return replace(peer, uid=owner_uid, groups=frozenset())

    async def _stream(self, route: Route, call: Call, scope: Scope, receive: Receive) -> Response:
        """The handler decides how much it takes."""
        _check_encoding(call.headers)
        scope["skilld.widen_body"](_MAX_STREAM_BYTES)
        async with aclosing(stream_body(receive)) as content:
            return await route.handler(replace(call, content=content))


def _served_by(method: str) -> str:
    return "GET" if method == "HEAD" else method


def _wrong_method(method: str, routes: Mapping[str, Route]) -> Response:
    allowed = sorted({*routes, *({"HEAD"} if "GET" in routes else ())})
    refused = Refused("bad_request", f"{method[:20]!a} is not offered here; allowed: {', '.join(allowed)}")
    return error_response(refused, status=405, headers={"allow": ", ".join(allowed)})


def _forbidden(peer: Peer, route: Route) -> str:
    return (
        f"uid {peer.uid} lacks the role {route.permission!r}, which {route.method} {route.path} needs: "
        f"an operator grants it in [roles.{'read' if route.permission == 'any' else route.permission}]"
    )


def _query(given: QueryParams, route: Route) -> dict[str, str]:
    """Each parameter once, none that the route does not read."""
    known = [parameter.name for parameter in route.parameters if parameter.where == "query"]
    result: dict[str, str] = {}
    for name, value in given.multi_items():
        if name not in known:
            listed = ", ".join(known) or "none"
            raise Refused("bad_request", f"unknown query parameter {name[:60]!a}; this path knows: {listed}")
        if name in result:
            raise Refused("bad_request", f"query parameter {name!r} occurs twice")
        result[name] = value
    return result


def _check_browser(headers: Headers) -> None:
    """No page of a browser can reach a Unix socket, but for somebody who has put a port in front of it."""
    for name in _OF_BROWSERS:
        if name in headers:
            raise Refused("forbidden", f"a request with the header {name!r} comes from a web page: not served")


def _check_encoding(headers: Headers) -> None:
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise Refused("bad_request", f"content-encoding {encoding[:40]!a}: send the body uncompressed")


def _count(services: Services, path: str, method: str, status: int, duration: float) -> None:
    known: Sequence[str] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    services.bus.emit(
        "http.stop",
        {"duration": duration},
        {"route": path, "method": method if method in known else "other", "status": status},
    )
