"""The ASGI app of the dashboard: its pages, and calls that go to the daemon.

Order of checks: host and origin, then cookie and token, then whether there is such a thing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skill_actors.errors import Refused
from skilld.dashboard.assets import INDEX, load_assets
from skilld.dashboard.gate import Gate
from skilld.dashboard.relay import Relay
from skilld.http.answer import JsonAnswer
from skilld.http.connection import ClientGone, Header
from skilld.http.errors import error_response

__all__ = ["HEADERS", "DashboardApp"]

_log = logging.getLogger(__name__)

# Of every answer, refusals too. Scripts, styles and calls are ours alone; nothing is kept, framed or told to others;
# and where a browser knows trusted types, no text can be made markup, not even by mistake.
HEADERS: Final[tuple[Header, ...]] = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
        b"require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)

_API: Final = "/api"
_STATIC: Final = "/static/"


class DashboardApp:
    """Serves the pages and passes calls on.

    Args:
        about: what the pages are told of this program.

    """

    def __init__(self, gate: Gate, relay: Relay, about: Mapping[str, Any]) -> None:
        self._gate = gate
        self._relay = relay
        self._about = about
        self._assets = load_assets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever happens; a failure after the first byte cuts the connection."""
        begun = False

        async def noted(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._answer(scope, receive, noted)
        except ClientGone:
            raise
        except Refused as error:
            await self._refuse(error, scope, receive, send)
        except Exception as error:
            if begun:
                raise
            _log.error("the dashboard failed on %s", ascii(scope["path"][:200]), exc_info=error)
            await error_response(Refused("internal", "the dashboard failed on this request"))(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._gate.check_names(headers)
        path: str = scope["path"]
        if path.startswith(f"{_API}/"):
            self._gate.check_call(headers)
            if path == f"{_API}/about" and scope["method"] == "GET":
                await JsonAnswer(dict(self._about))(scope, receive, send)
                return
            await self._relay(path.removeprefix(_API), scope, receive, send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            raise Refused("not_found", "pages are only read")
        await self._page(path, headers, scope)(scope, receive, send)

    def _page(self, path: str, headers: Mapping[str, str], scope: Scope) -> Response:
        name = INDEX
        if path == "/":
            self._gate.check_page(headers, _token(scope["query_string"]))
        else:
            self._gate.check_part(headers)
            name = path.removeprefix(_STATIC) if path.startswith(_STATIC) else ""
        asset = self._assets.get(name)
        if asset is None or (name == INDEX and path != "/"):
            raise Refused("not_found", f"no such page: {path[:120]!a}")
        answer = Response(asset.content, media_type=asset.media_type)
        if path == "/":
            answer.headers["set-cookie"] = self._gate.cookie
        return answer

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        """As JSON to a program, as a sentence to whoever has opened an address."""
        if scope["path"].startswith(f"{_API}/"):
            await error_response(refused)(scope, receive, send)
            return
        text = f"skilld dashboard: {refused.message}\n"
        await Response(text, refused.status, media_type="text/plain; charset=utf-8")(scope, receive, send)


def _token(query: bytes) -> str | None:
    """None where there is none; that of a malformed query is no token."""
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("token")
    return None if given is None else given[0] if len(given) == 1 else ""
