"""The anthropic SDK's client as it is used here: imported late, in a thread, its key looked up at every call.

Importing the SDK takes seconds of CPU time, which would stall every task of the loop: it is imported, and its client
built, in a worker thread, by `prepare` or the first call, whichever comes first. It retries nothing by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from skill_actors.models.base import ModelError, Usage
from skill_actors.models.credentials import KeySource
from skill_actors.models.failures import connection_failure
from skill_actors.models.model_socket import check_socket, socket_failure

if TYPE_CHECKING:
    import anthropic
    import httpx2

__all__ = ["ANTHROPIC_URL", "SdkClient", "reason_of", "unwind"]

ANTHROPIC_URL: Final = "https://api.anthropic.com"


class SdkClient:
    """One client and its connections. Bound to the trio run in which it is first used.

    HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR are honoured. ANTHROPIC_* variables are not: whoever makes
    the client decides about them.

    With a socket every connection is made there, whatever the base URL and the proxy variables say. Its scheme then
    says what is spoken: https is TLS with the URL's host, through a relay; http is for a proxy that needs none.

    Args:
        api_key: called in a worker thread before every call, so that a changed key is used at once.
        base_url: of the API or of a compatible server.
        timeout_s: a call fails when nothing at all arrives for so long.
        connect_timeout_s: limit for making a connection, TLS included.
        socket: the Unix socket to connect to; None for the network.

    """

    def __init__(
        self,
        api_key: KeySource,
        *,
        base_url: str,
        timeout_s: float,
        connect_timeout_s: float,
        socket: Path | None = None,
    ) -> None:
        self.threads = trio.CapacityLimiter(4)  # our own: others' slow work in threads must not delay a call
        self.base_url = base_url
        self.socket = socket
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._preparing = trio.Lock()
        self._client: anthropic.AsyncAnthropic | None = None
        self._closed = False

    def key(self) -> str:
        """The key as it is now, if it may be sent where it is to go. Blocks.

        Raises:
            CredentialError: there is none.
            ModelError: nothing can or should be sent to the socket; see `check_socket`.

        """
        if self.socket is not None:
            check_socket(self.socket)
        return self._api_key()

    def broken(
        self, error: BaseException, usage: Usage | None = None, *, secret: str = "", sent: bool = True
    ) -> ModelError:
        """What a connection that failed is to our callers; `sent`: the request may have reached the server."""
        if self.socket is not None:
            return socket_failure(self.socket, error, reason_of(error), usage, secret=secret, sent=sent)
        return connection_failure(reason_of(error), usage, secret=secret, sent=sent)

    async def prepare(self) -> tuple[anthropic.AsyncAnthropic, str]:
        """The client, imported and built if that has not been done, and the key that it has.

        Raises:
            ModelError: "not_configured" if there is no key or the base URL cannot be used; as `key` for a socket.

        """
        key = await trio.to_thread.run_sync(self.key, limiter=self.threads)
        return await self.client_for(key), key

    async def client_for(self, key: str) -> anthropic.AsyncAnthropic:
        """The client with this key. A new key gets a copy that shares the connections."""
        async with self._preparing:
            if self._closed:
                raise ModelError("the model client is closed", code="not_configured", sent=False)
            if self._client is None:
                # Abandoned rather than waited for: a cancelled call must not last until the import is through.
                self._client = await trio.to_thread.run_sync(
                    self._build, key, abandon_on_cancel=True, limiter=self.threads
                )
            if self._client.api_key != key:
                self._client = self._client.with_options(api_key=key)
            return self._client

    async def aclose(self) -> None:
        """Close all connections; calls that still run fail. Later calls are refused."""
        self._closed = True
        async with self._preparing:
            client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _build(self, key: str) -> anthropic.AsyncAnthropic:
        import anthropic
        import httpx2

        timeout = anthropic.Timeout(self._timeout_s, connect=self._connect_timeout_s)
        try:
            return anthropic.AsyncAnthropic(
                api_key=key,
                base_url=self.base_url,
                max_retries=0,
                timeout=timeout,
                http_client=None if self.socket is None else _client_at(self.socket, timeout),
            )
        except (httpx2.InvalidURL, OSError, ValueError) as error:
            # OSError: a certificate file that the environment names but that is not there.
            raise ModelError(
                f"the model API client cannot be made: {error}", code="not_configured", sent=False
            ) from error


def _client_at(socket: Path, timeout: httpx2.Timeout) -> httpx2.AsyncClient:
    """The SDK's usual client, but that it knows no way but this socket: a transport of ours keeps proxies out."""
    import anthropic
    import httpx2

    transport = httpx2.AsyncHTTPTransport(uds=str(socket), limits=anthropic.DEFAULT_CONNECTION_LIMITS)
    return anthropic.DefaultAsyncHttpxClient(transport=transport, timeout=timeout)


async def unwind(source: AsyncIterator[object], grace_s: float) -> None:
    """Let the SDK's generators end: read to the end for `grace_s`, then cancel them where they read.

    Closing the outermost would leave those inside it to the garbage collector, which trio reports.
    """
    import httpx2

    deadline = trio.current_time() + grace_s
    # The errors do not matter any more: the answer is complete, or nobody wants the rest of it.
    with trio.CancelScope(shield=True, deadline=deadline), suppress(httpx2.HTTPError, ValueError):
        async for _ in source:
            pass


def reason_of(error: BaseException) -> str:
    """The kind of an error and the text of what is at the bottom of it: a refused certificate, say."""
    text = ""
    cause: BaseException | None = error
    while cause is not None:
        # httpcore breaks the chain of causes ("from None"); the contexts are still there.
        text, cause = str(cause) or text, cause.__cause__ or cause.__context__
    return f"{type(error).__name__} {text}".strip()
