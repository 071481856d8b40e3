"""The URL that is told: one POST for each notice, over https, and again where the receiver may take it later."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import trio

from skill_actors.models.credentials import CredentialError, KeyFile
from skill_actors.models.failures import retry_after_s
from skilld.hooks.notice import Notice
from skilld.hooks.sender import HookFailed

if TYPE_CHECKING:
    import httpx

__all__ = ["Receiver", "Webhook", "bearer"]

_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class Receiver(Protocol):
    """The section of the configuration that names a receiver."""

    @property
    def url(self) -> str: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def ca_file(self) -> Path | None: ...


class Webhook:
    """Posts notices. The answer is its status; its body is not read, and a redirect is not followed.

    Args:
        version: of the daemon, for receivers.
        proof: the headers by which a receiver knows that it is this daemon. Blocks; raises CredentialError.
        key: of the configuration, which names the file of the credential.

    """

    def __init__(
        self, receiver: Receiver, version: str, proof: Callable[[Notice], Mapping[str, str]], *, key: str
    ) -> None:
        self._url = receiver.url
        self._timeout_s = receiver.timeout_s
        self._ca_file = receiver.ca_file
        self._proof = proof
        self._key = key
        self._agent = f"skilld/{version}"

    async def __call__(self, notice: Notice) -> None:
        """Post one. Raises HookFailed."""
        with trio.move_on_after(self._timeout_s):
            await self._post(notice)
            return
        raise HookFailed(f"no answer within {self._timeout_s:g} s", retry=True)

    async def _post(self, notice: Notice) -> None:
        try:
            headers, client = await trio.to_thread.run_sync(self._prepare, notice, abandon_on_cancel=True)
        except CredentialError as error:
            raise HookFailed(f"{self._key}: {error}", retry=True) from error
        except (OSError, ValueError) as error:  # of the certificates; of a proxy in the environment
            raise HookFailed(f"the client cannot be made: {error}", retry=True) from error
        import httpx  # imported by the thread above, where it holds nobody up

        async with client:
            try:
                async with client.stream("POST", self._url, content=notice.body, headers=headers) as answer:
                    _judge(answer)
            except httpx.TransportError as error:
                raise HookFailed(f"{type(error).__name__}: {_reason(error)}", retry=True) from error

    def _prepare(self, notice: Notice) -> tuple[dict[str, str], httpx.AsyncClient]:
        """The headers with the proof of now, and a client for one request. Blocks.

        Raises:
            CredentialError: there is no token.
            OSError, ValueError: the certificates cannot be read, or the environment names no proxy where it should.

        """
        import httpx

        headers = {"content-type": "application/json", "user-agent": self._agent, **self._proof(notice)}
        if not self._url.startswith("https:"):  # this host itself: no certificates, and no proxy that gets the token
            return headers, httpx.AsyncClient(verify=False, trust_env=False, timeout=None)
        trusted = True if self._ca_file is None else ssl.create_default_context(cafile=self._ca_file)
        return headers, httpx.AsyncClient(verify=trusted, timeout=None)


def bearer(token_file: Path | None) -> Callable[[Notice], Mapping[str, str]]:
    """The token of the file as it is at each notice; no header without a file."""
    if token_file is None:
        return lambda _notice: {}
    token = KeyFile(token_file, what="token")
    return lambda _notice: {"authorization": f"Bearer {token()}"}


def _reason(error: BaseException) -> str:
    """What is behind an error that httpx has wrapped, which says nothing itself where trio connects."""
    while not str(error) and (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error)


def _judge(answer: httpx.Response) -> None:
    """Raise HookFailed unless the receiver took it."""
    status = answer.status_code
    if 200 <= status < 300:
        return
    after_s = retry_after_s(answer.headers, time.time())
    raise HookFailed(f"it answers {status}", retry=status in _AGAIN, after_s=after_s or 0.0)
