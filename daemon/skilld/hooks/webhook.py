"""The URL that is told: one POST for each notice, over https, and again where the receiver may take it later."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Final

import trio

from skill_actors.models.credentials import CredentialError, KeyFile
from skill_actors.models.failures import retry_after_s
from skilld.hooks.notice import Notice
from skilld.hooks.sender import HookFailed

if TYPE_CHECKING:
    import httpx

    from skilld.config import HooksConfig

__all__ = ["Webhook"]

_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class Webhook:
    """Posts notices. The answer is its status; its body is not read, and a redirect is not followed."""

    def __init__(self, config: HooksConfig, version: str) -> None:
        self._url = config.url
        self._timeout_s = config.timeout_s
        self._ca_file = config.ca_file
        self._token = None if config.token_file is None else KeyFile(config.token_file, what="token")
        self._agent = f"skilld/{version}"

    async def __call__(self, notice: Notice) -> None:
        """Post one. Raises HookFailed."""
        with trio.move_on_after(self._timeout_s):
            await self._post(notice)
            return
        raise HookFailed(f"no answer within {self._timeout_s:g} s", retry=True)

    async def _post(self, notice: Notice) -> None:
        try:
            headers, client = await trio.to_thread.run_sync(self._prepare, abandon_on_cancel=True)
        except CredentialError as error:
            raise HookFailed(f"hooks.token_file: {error}", retry=True) from error
        except (OSError, ValueError) as error:  # of the certificates; of a proxy in the environment
            raise HookFailed(f"the client cannot be made: {error}", retry=True) from error
        import httpx  # imported by the thread above, where it holds nobody up

        async with client:
            try:
                async with client.stream("POST", self._url, content=notice.body, headers=headers) as answer:
                    _judge(answer)
            except httpx.TransportError as error:
                raise HookFailed(f"{type(error).__name__}: {_reason(error)}", retry=True) from error

    def _prepare(self) -> tuple[dict[str, str], httpx.AsyncClient]:
        """The headers with the token of now, and a client for one request. Blocks.

        Raises:
            CredentialError: there is no token.
            OSError, ValueError: the certificates cannot be read, or the environment names no proxy where it should.

        """
        import httpx

        headers = {"content-type": "application/json", "user-agent": self._agent}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token()}"
        if not self._url.startswith("https:"):  # this host itself: no certificates, and no proxy that gets the token
            return headers, httpx.AsyncClient(verify=False, trust_env=False, timeout=None)
        trusted = True if self._ca_file is None else ssl.create_default_context(cafile=self._ca_file)
        return headers, httpx.AsyncClient(verify=trusted, timeout=None)


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
