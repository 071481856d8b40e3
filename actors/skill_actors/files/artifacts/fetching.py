"""Fetches https URLs that a model or a user has named, without being led into the network it runs in.

A host is resolved once for each request, every address it has is judged, and the connection goes to an address that
was judged; so an answer of the DNS that changes meanwhile changes nothing. A redirect is a new request and judged as
one. All of it has one deadline, which a server that drips cannot stretch, and a bound of size.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import h11
import trio

from skill_actors.files.artifacts.addresses import BLOCKED_HOSTS, is_blocked_host, why_not_public
from skill_actors.files.artifacts.errors import ArtifactError
from skill_actors.files.artifacts.uris import parse_uri

__all__ = ["FetchRules", "Fetched", "fetch", "resolve"]

_READ_BYTES: Final = 64 << 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """What may be fetched.

    Args:
        max_bytes: of one answer.
        timeout_s: for everything: resolving, redirects and the last byte.
        redirects: that are followed.
        ports: that may be connected to.
        blocked_hosts: names and domains that are never asked.
        allowed: addresses with their ports that are asked although they are not public: for an operator's own
            server, and for tests.
        ca_file: whose certificates are trusted instead of the system's.

    """

    max_bytes: int = 10 << 20
    timeout_s: float = 30.0
    redirects: int = 5
    ports: frozenset[int] = frozenset({443})
    blocked_hosts: tuple[str, ...] = BLOCKED_HOSTS
    allowed: frozenset[tuple[str, int]] = frozenset()
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a URL gave in the end."""

    content: bytes
    content_type: str
    url: str


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a host, as the system knows them."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


async def fetch(url: str, rules: FetchRules = FetchRules(), *, resolver: Resolve = resolve) -> Fetched:
    """Fetch a URL.

    Raises:
        ArtifactError: artifact_invalid, artifact_blocked, artifact_not_found, artifact_too_large, artifact_timeout,
            artifact_unreachable.

    """
    with trio.move_on_after(rules.timeout_s):
        for _ in range(rules.redirects + 1):
            answer = await _request(url, rules, resolver)
            if isinstance(answer, Fetched):
                return answer
            url = _led(url, answer)
        raise ArtifactError("artifact_unreachable", f"{_shown(url)}: more than {rules.redirects} redirects")
    raise ArtifactError("artifact_timeout", f"{_shown(url)}: it was not here after {rules.timeout_s:g} s")


async def _request(url: str, rules: FetchRules, resolver: Resolve) -> Fetched | str:
    """One request: what it gave, or where it leads to."""
    reference = parse_uri(url)
    if reference.kind != "https":
        raise ArtifactError("artifact_blocked", f"{_shown(url)}: only https is fetched")
    host, port = reference.name, urlsplit(url).port or 443
    addresses = await _judged(host, port, rules, resolver)
    async with _connected(host, port, addresses, rules) as stream:
        return await _exchange(stream, url, host, port, rules)


def _led(url: str, location: str) -> str:
    """Where a redirect leads."""
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise ArtifactError("artifact_invalid", f"{_shown(url)}: it redirects to what is no URL") from error


async def _judged(host: str, port: int, rules: FetchRules, resolver: Resolve) -> Sequence[str]:
    """The addresses of the host, if each of them may be asked."""
    if is_blocked_host(host, rules.blocked_hosts):
        raise _blocked(host, "the host is one that is never asked")
    try:
        addresses = await resolver(host, port)
    except (OSError, UnicodeError) as error:
        raise ArtifactError("artifact_unreachable", f"{host[:100]}: its address is not known") from error
    for address in addresses:
        if (address, port) in rules.allowed:
            continue
        if port not in rules.ports:
            raise _blocked(host, f"port {port} is not asked; {', '.join(map(str, sorted(rules.ports)))} is")
        if why := why_not_public(address):
            raise _blocked(host, f"it leads to {why}")
    if not addresses:
        raise ArtifactError("artifact_unreachable", f"{host[:100]}: it has no address")
    return addresses


@asynccontextmanager
async def _connected(
    host: str, port: int, addresses: Sequence[str], rules: FetchRules
) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    context = await trio.to_thread.run_sync(_context, rules.ca_file)
    problem: Exception | None = None
    for address in addresses:
        try:
            plain = await trio.open_tcp_stream(address, port)
        except OSError as error:
            problem = error
            continue
        stream = trio.SSLStream(plain, context, server_hostname=host, https_compatible=True)
        try:
            await stream.do_handshake()
            yield stream
        except trio.BrokenResourceError as error:
            why = str(error.__cause__ or error)
            raise ArtifactError("artifact_unreachable", f"{host[:100]}: {why[:200]}") from error
        finally:
            await trio.aclose_forcefully(stream)
        return
    raise ArtifactError("artifact_unreachable", f"{host[:100]}: {problem}") from problem


def _context(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))


async def _exchange(
    stream: trio.SSLStream[trio.SocketStream], url: str, host: str, port: int, rules: FetchRules
) -> Fetched | str:
    http = h11.Connection(h11.CLIENT)
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    named = f"[{host}]" if ":" in host else host
    headers = [
        ("host", named if port == 443 else f"{named}:{port}"),
        ("accept-encoding", "identity"),
        ("connection", "close"),
        ("user-agent", "skilld"),
    ]
    try:
        request = h11.Request(method="GET", target=_escaped(target), headers=headers)
        await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        response = await _head(stream, http)
        told = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        if response.status_code in _REDIRECTS and "location" in told:
            return told["location"]
        _check_head(url, response.status_code, told, rules)
        content = await _body(stream, http, url, rules)
    except h11.ProtocolError as error:
        raise ArtifactError("artifact_unreachable", f"{_shown(url)}: what answers does not speak HTTP") from error
    kind = told.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    return Fetched(content=content, content_type=kind[:100], url=url)


async def _head(stream: trio.SSLStream[trio.SocketStream], http: h11.Connection) -> h11.Response:
    while True:
        event = http.next_event()
        if isinstance(event, h11.Response):
            return event
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
        elif not isinstance(event, h11.InformationalResponse):
            raise h11.RemoteProtocolError("it was closed before the answer began")


def _check_head(url: str, status: int, headers: Mapping[str, str], rules: FetchRules) -> None:
    if status in (404, 410):
        raise ArtifactError("artifact_not_found", f"{_shown(url)}: the server says {status}")
    if status != 200:
        raise ArtifactError("artifact_unreachable", f"{_shown(url)}: the server says {status}")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise ArtifactError("artifact_unreachable", f"{_shown(url)}: it is sent compressed, which was not asked for")
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > rules.max_bytes:
        raise _too_large(url, rules)


async def _body(stream: trio.SSLStream[trio.SocketStream], http: h11.Connection, url: str, rules: FetchRules) -> bytes:
    content = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
        elif isinstance(event, h11.Data):
            content += event.data
            if len(content) > rules.max_bytes:
                raise _too_large(url, rules)
        elif isinstance(event, h11.EndOfMessage):
            return bytes(content)
        else:
            raise h11.RemoteProtocolError("it was closed in the middle of the answer")


def _escaped(target: str) -> bytes:
    """What URLs allow is kept; anything else is written as its UTF-8 bytes."""
    return b"".join(bytes([byte]) if 0x21 <= byte <= 0x7E else b"%%%02X" % byte for byte in target.encode())


def _too_large(url: str, rules: FetchRules) -> ArtifactError:
    return ArtifactError("artifact_too_large", f"{_shown(url)}: it is larger than {rules.max_bytes} bytes")


def _blocked(host: str, why: str) -> ArtifactError:
    return ArtifactError("artifact_blocked", f"{host[:100]}: {why}", details={"host": host[:200]})


def _shown(url: str) -> str:
    """Without what may be a secret: the query stays out."""
    return url.partition("?")[0][:120]
