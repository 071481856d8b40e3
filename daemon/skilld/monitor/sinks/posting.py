"""POSTs to one receiver: one connection that is kept, again where it may take it later, left alone while it is down.

A receiver that does not know us (401, 403, 404) may know us later, as when its token is replaced: it is asked again.
What it will never take (400, 413, 422) is the caller's to divide, and in the end to give up.
"""

from __future__ import annotations

import gzip
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import trio

from skill_actors.models.breaker import Breaker, BreakerPolicy
from skill_actors.models.credentials import CredentialError
from skill_actors.models.failures import retry_after_s
from skilld.monitor.sinks.status import SinkStatus

if TYPE_CHECKING:
    import httpx

__all__ = ["NeverTaken", "Poster", "Receiver"]

_log = logging.getLogger(__name__)

_NEVER: Final = frozenset({400, 411, 413, 414, 415, 422, 431})
_FIRST_WAIT_S: Final = 0.5
_MAX_WAIT_S: Final = 60.0
_MAX_RETRY_AFTER_S: Final = 600.0
_MAX_ANSWER_BYTES: Final = 64 << 10
_BREAKER: Final = BreakerPolicy(failures=5, open_s=10.0, max_open_s=300.0)


class NeverTaken(Exception):
    """The receiver will not take this body, now or later. The message is its status."""


class _Failed(Exception):
    """It did not take it this time."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where and how.

    Args:
        headers: those that are no secret.
        secrets: header to where its text comes from; called before every request, in a thread.

    """

    headers: Mapping[str, str]
    secrets: Mapping[str, Callable[[], str]]
    gzip: bool
    timeout_s: float
    ca_file: Path | None
    version: str


class Poster:
    """Posts bodies, one after the other."""

    def __init__(self, receiver: Receiver, status: SinkStatus, rng: Random | None = None) -> None:
        self._receiver = receiver
        self._status = status
        self._rng = rng or Random()
        self._breaker = Breaker(_BREAKER)
        self._client: httpx.AsyncClient | None = None

    async def post(self, url: str, body: bytes, content_type: str) -> bytes:
        """Deliver it, however long that takes; the answer's body.

        Raises:
            NeverTaken: if the receiver will not have it.

        """
        attempt = 0
        while True:
            permit = self._breaker.begin(trio.current_time())
            if isinstance(permit, float):
                await trio.sleep(permit)
                continue
            try:
                answer = await self._post_once(url, body, content_type)
            except NeverTaken:
                self._breaker.succeeded(permit)
                raise
            except _Failed as error:
                attempt += 1
                self._breaker.failed(permit, trio.current_time(), error.after_s)
                self._complain(str(error))
                await trio.sleep(self._pause_s(attempt, error.after_s))
            except trio.Cancelled:
                self._breaker.abandoned(permit)
                raise
            else:
                self._breaker.succeeded(permit)
                self._status.state, self._status.problem = "following", ""
                return answer

    async def close(self) -> None:
        """Let the connection go."""
        if self._client is not None:
            await self._client.aclose()
        self._client = None

    def _pause_s(self, attempt: int, asked_s: float | None) -> float:
        """What the receiver asks for, and a bit more; else exponential, less up to a half."""
        if asked_s is not None:
            return min(asked_s, _MAX_RETRY_AFTER_S) * (1 + 0.1 * self._rng.random())
        return min(_FIRST_WAIT_S * 2.0 ** min(attempt - 1, 16), _MAX_WAIT_S) * (1 - 0.5 * self._rng.random())

    def _complain(self, problem: str) -> None:
        status = self._status
        if status.problem != problem:  # a log that fills helps nobody
            _log.warning("%s: %s; its events wait in the store", status.name, problem)
        status.state, status.problem = "waiting", problem
        status.retries += 1

    async def _post_once(self, url: str, body: bytes, content_type: str) -> bytes:
        try:
            headers, packed = await trio.to_thread.run_sync(self._prepare, url, body, abandon_on_cancel=True)
        except CredentialError as error:
            raise _Failed(str(error)) from error
        except (OSError, ValueError) as error:  # of the certificates; of a proxy in the environment
            raise _Failed(f"the client cannot be made: {error}") from error
        import httpx  # imported by the thread above, where it holds nobody up

        assert self._client is not None
        headers["content-type"] = content_type
        try:
            with trio.fail_after(self._receiver.timeout_s):
                async with self._client.stream("POST", url, content=packed, headers=headers) as answer:
                    return await _read(answer)
        except httpx.RequestError as error:
            raise _Failed(_words(error)) from error
        except trio.TooSlowError as error:
            raise _Failed(f"no answer within {self._receiver.timeout_s:g} s") from error

    def _prepare(self, url: str, body: bytes) -> tuple[dict[str, str], bytes]:
        """Headers with the secrets of now, and the body as it is sent. Makes the client first. Blocks.

        Raises:
            CredentialError: a secret is missing.
            OSError, ValueError: the certificates cannot be read, or the environment names no proxy where it should.

        """
        receiver = self._receiver
        headers = {"user-agent": f"skilld/{receiver.version}", "accept-encoding": "identity", **receiver.headers}
        headers.update({name: secret() for name, secret in receiver.secrets.items()})
        if receiver.gzip:
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=3, mtime=0)
        if self._client is None:
            self._client = _make_client(url, receiver.ca_file)
        return headers, body


def _make_client(url: str, ca_file: Path | None) -> httpx.AsyncClient:
    import httpx

    if urlsplit(url).scheme == "http":  # no certificates, and no proxy that reads along
        return httpx.AsyncClient(verify=False, trust_env=False, timeout=None)
    trusted = True if ca_file is None else ssl.create_default_context(cafile=ca_file)
    return httpx.AsyncClient(verify=trusted, timeout=None)


async def _read(answer: httpx.Response) -> bytes:
    """The body of a success, as far as it may be long. Raises NeverTaken or _Failed."""
    status = answer.status_code
    if status in _NEVER:
        raise NeverTaken(f"it answers {status}")
    if not 200 <= status < 300:
        raise _Failed(f"it answers {status}", retry_after_s(answer.headers, time.time()))
    found = b""
    async for part in answer.aiter_raw():  # not unpacked: out of a few bytes may come any number
        if len(found) <= _MAX_ANSWER_BYTES:
            found += part
    is_plain = answer.headers.get("content-encoding", "identity") == "identity"
    return found if is_plain and len(found) <= _MAX_ANSWER_BYTES else b""


def _words(error: httpx.RequestError) -> str:
    """For the log: nothing that the receiver wrote, which may be what it was sent, a secret too."""
    import httpx

    name = type(error).__name__
    quotes = isinstance(error, (httpx.ProtocolError, httpx.DecodingError))
    return f"{name}: what it answers is not HTTP" if quotes else f"{name}: {_reason(error)}"[:300]


def _reason(error: BaseException) -> str:
    """What is behind an error that httpx has wrapped, which says nothing itself where trio connects."""
    while not str(error) and (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error)
