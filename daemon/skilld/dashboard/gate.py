"""Who may come in: one browser that was given the address, and no page but ours in it. Pure decisions.

Three things are asked for. The name in the address bar (Host) is that of this machine's own loopback, so that no name
of somebody else's can be made to lead here (DNS rebinding). The cookie came with the first page, which takes the token
of the printed address. Calls of the interface need that token once more, in a header: cookies know no ports, so
another server of this machine that the browser visits is sent ours, but it never sees the token, and no page of
another origin can set the header.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Final

from skill_actors.errors import Refused

__all__ = ["LOOPBACK", "TOKEN_HEADER", "Gate"]

LOOPBACK: Final = "127.0.0.1"
TOKEN_HEADER: Final = "x-skilld-token"

_NAMES: Final = (LOOPBACK, "localhost")
_TOKEN_BYTES: Final = 32
_AGAIN: Final = "open the address that 'skillctl dashboard' has printed"


def _secret() -> str:
    return secrets.token_urlsafe(_TOKEN_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The secrets of one dashboard, and what they open.

    Args:
        port: where it listens.
        token: in the address that is printed, later in a header.
        pass_value: of the cookie.

    """

    port: int
    token: str = field(default_factory=_secret, repr=False)
    pass_value: str = field(default_factory=_secret, repr=False)

    @property
    def address(self) -> str:
        """What is to be opened in a browser."""
        return f"http://{LOOPBACK}:{self.port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """The header that gives a browser its cookie. Scripts cannot read it, and no other site's request brings it."""
        return f"{self._cookie_name}={self.pass_value}; Path=/; HttpOnly; SameSite=Strict"

    @property
    def _cookie_name(self) -> str:
        return f"skilld_dashboard_{self.port}"

    def check_names(self, headers: Mapping[str, str]) -> None:
        """Refuse what was sent to another name, or by a page of another origin.

        Raises:
            Refused: forbidden.

        """
        known = {f"{name}:{self.port}" for name in _NAMES}
        host = headers.get("host", "")
        if host not in known:
            raise Refused("forbidden", f"the host {host[:80]!a} is not this dashboard's: {_AGAIN}")
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            raise Refused("forbidden", f"a page of {origin[:80]!a} is not served")

    def check_page(self, headers: Mapping[str, str], token: str | None) -> None:
        """Refuse the first page to whoever shows neither the token nor the cookie.

        A link anywhere may lead here, but brings the token only from where it was given.

        Raises:
            Refused: unauthorized, or forbidden.

        """
        if token is not None and self._is_token(token):
            return
        if token is not None:
            raise Refused("unauthorized", f"the token is not that of this dashboard: {_AGAIN}")
        self._check_site(headers, ("none", "same-origin"))
        self._check_cookie(headers)

    def check_part(self, headers: Mapping[str, str]) -> None:
        """Refuse a part of a page to whoever does not show the cookie. Raises Refused."""
        self._check_site(headers, ("same-origin",))
        self._check_cookie(headers)

    def check_call(self, headers: Mapping[str, str]) -> None:
        """Refuse a call to whoever does not show the cookie and, in the header, the token. Raises Refused."""
        self.check_part(headers)
        if not self._is_token(headers.get(TOKEN_HEADER, "")):
            raise Refused("unauthorized", f"the header {TOKEN_HEADER} has not this dashboard's token: {_AGAIN}")

    def _is_token(self, given: str) -> bool:
        return _same(given, self.token)

    def _check_site(self, headers: Mapping[str, str], allowed: tuple[str, ...]) -> None:
        site = headers.get("sec-fetch-site")
        if site is not None and site not in allowed:
            raise Refused("forbidden", f"a request from a page elsewhere ({site[:20]!a}) is not served")

    def _check_cookie(self, headers: Mapping[str, str]) -> None:
        if not _same(_cookie(headers.get("cookie", ""), self._cookie_name), self.pass_value):
            raise Refused("unauthorized", f"this browser was not let in yet: {_AGAIN}")


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode())


def _cookie(text: str, name: str) -> str:
    """The value of a cookie; empty where there is none, or what was sent is malformed."""
    try:
        found = SimpleCookie(text).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value
