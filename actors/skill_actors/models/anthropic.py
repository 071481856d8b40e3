"""The Messages API over the anthropic SDK, streaming, under trio.

The SDK sends the request, authenticates, finds the proxy and the certificates, and takes the event stream
apart; we read its raw events, so that blocks keep every field, and retry nothing ourselves here.
It is imported, and its client built, in a worker thread: see `sdk`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from skill_actors.models.assembly import MessageAssembly
from skill_actors.models.base import ModelError, ModelEvent, ModelRequest
from skill_actors.models.credentials import KeySource
from skill_actors.models.failures import api_failure, protocol_failure, stall_failure
from skill_actors.models.request import count_body, request_body
from skill_actors.models.sdk import ANTHROPIC_URL, SdkClient, reason_of, unwind

if TYPE_CHECKING:
    import anthropic
    import httpx2

__all__ = ["ANTHROPIC_URL", "AnthropicModel"]

# After the last event the server ends the response at once; only then can its connection serve the next call.
_END_GRACE_S: Final = 0.25
_NO_SUCH_ENDPOINT: Final = frozenset({404, 405, 501})


class AnthropicModel:
    """A Model that calls the Messages API. Bound to the trio run in which it is first used.

    HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR are honoured. ANTHROPIC_* variables are not: whoever makes
    the model decides about them.

    Args:
        api_key: called in a worker thread before every call, so that a changed key is used at once.
        base_url: of the API or of a compatible server.
        socket: a Unix socket that all connections are made to instead of the network; see `sdk.SdkClient`.
        stall_timeout_s: a call fails when nothing at all arrives for so long.
        connect_timeout_s: limit for making a connection, TLS included.
        count_timeout_s: limit for counting tokens, from the key to the answer.

    """

    def __init__(
        self,
        api_key: KeySource,
        *,
        base_url: str = ANTHROPIC_URL,
        socket: Path | None = None,
        stall_timeout_s: float = 120.0,
        connect_timeout_s: float = 10.0,
        count_timeout_s: float = 15.0,
    ) -> None:
        self._stall_timeout_s = stall_timeout_s
        self._count_timeout_s = count_timeout_s
        self._sdk = SdkClient(
            api_key,
            base_url=base_url,
            timeout_s=stall_timeout_s,
            connect_timeout_s=connect_timeout_s,
            socket=socket,
        )

    def __repr__(self) -> str:
        socket = "" if self._sdk.socket is None else f", socket={str(self._sdk.socket)!r}"
        return f"AnthropicModel(base_url={self._sdk.base_url!r}{socket})"

    @property
    def provider(self) -> str:
        return "anthropic"

    async def prepare(self) -> None:
        """Import the SDK and build its client, if that has not been done. Calls made meanwhile wait for it.

        Raises:
            ModelError: "not_configured" if there is no key or the base URL cannot be used.

        """
        await self._sdk.prepare()

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Call the model; see Model.stream.

        Raises:
            ModelError: on entering, if the call is refused or fails; while iterating, if the stream breaks.
            ValueError: if `request.extra` repeats a field of the request.

        """
        key, content = await trio.to_thread.run_sync(self._composed, _streamed, request, limiter=self._sdk.threads)
        client = await self._sdk.client_for(key)
        async with AsyncExitStack() as stack:
            response = await self._open(stack, client, content, _options(request), key)
            events = self._events(response, key)
            yield await stack.enter_async_context(aclosing(events))

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """Have the request's input counted; see Model.count_tokens. None where the server has no such endpoint.

        Raises:
            ModelError: if it is refused or fails, "timeout" after `count_timeout_s`.
            ValueError: if `request.extra` repeats a field of the request.

        """
        with trio.move_on_after(self._count_timeout_s):
            key, content = await trio.to_thread.run_sync(self._composed, count_body, request, limiter=self._sdk.threads)
            client = await self._sdk.client_for(key)
            return await self._count(client, content, _options(request), key)
        raise stall_failure(self._count_timeout_s)

    async def aclose(self) -> None:
        """Close all connections; calls that still run fail. Later calls are refused."""
        await self._sdk.aclose()

    def _composed(self, compose: Callable[[ModelRequest], dict[str, Any]], request: ModelRequest) -> tuple[str, bytes]:
        """The key and the request's body. In a worker thread: a key is a file, and a long history takes a while."""
        key, body = self._sdk.key(), compose(request)
        try:
            return key, _utf8(json.dumps(body, ensure_ascii=False, allow_nan=False))
        except ValueError as error:  # a number that JSON does not have
            raise ModelError(
                f"the request cannot be sent as JSON: {error}", code="invalid_request", sent=False
            ) from error

    async def _open(
        self,
        stack: AsyncExitStack,
        client: anthropic.AsyncAnthropic,
        content: bytes,
        options: anthropic.RequestOptions,
        key: str,
    ) -> httpx2.Response:
        import anthropic
        import httpx2

        try:
            # Not messages.create: it copies the history piece by piece and encodes it on the loop, 60 ms for 2 MB.
            opened = await client.post(
                "/v1/messages",
                cast_to=object,
                content=content,
                options=options,
                stream=True,
                stream_cls=anthropic.AsyncStream[object],
            )
            response = (await stack.enter_async_context(opened)).response
        except (anthropic.APIStatusError, anthropic.APIConnectionError, httpx2.HTTPError) as error:
            raise self._failure(error, key) from error
        content_type = response.headers.get("content-type", "")
        if "text/event-stream" not in content_type:
            raise protocol_failure(f"content type {content_type!r} is not an event stream; check base_url")
        return response

    async def _count(
        self, client: anthropic.AsyncAnthropic, content: bytes, options: anthropic.RequestOptions, key: str
    ) -> int | None:
        import anthropic
        import httpx2

        try:
            counted = await client.post("/v1/messages/count_tokens", cast_to=object, content=content, options=options)
        except anthropic.APIStatusError as error:
            if error.status_code in _NO_SUCH_ENDPOINT:
                return None
            raise self._failure(error, key) from error
        except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
            raise self._failure(error, key) from error
        except ValueError as error:  # neither UTF-8 nor JSON
            raise protocol_failure(f"the count of tokens is {reason_of(error)}", secret=key) from error
        tokens = counted.get("input_tokens") if isinstance(counted, dict) else None
        if type(tokens) is not int or tokens < 0:
            raise protocol_failure(f"a count of tokens is not {str(counted)[:80]!r}; check base_url", secret=key)
        return tokens

    def _failure(self, error: Exception, key: str) -> ModelError:
        """What the SDK raised when no answer has begun."""
        import anthropic
        import httpx2

        match error:
            case anthropic.APIStatusError():
                return api_failure(error.status_code, error.response.headers, error.body, secret=key)
            case anthropic.APIConnectionError():
                cause = error.__cause__
                if isinstance(cause, httpx2.ReadTimeout):
                    return stall_failure(self._stall_timeout_s)
                sent = not isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
                return self._sdk.broken(cause or error, secret=key, sent=sent)
            case _:  # while it read the body of an error
                return self._sdk.broken(error, secret=key)

    async def _events(self, response: httpx2.Response, key: str) -> AsyncGenerator[ModelEvent, None]:
        import anthropic
        import httpx2

        assembly = MessageAssembly(secret=key)
        source = anthropic.AsyncStream.raw_events(response)
        try:
            async for event in source:
                for made in assembly.feed(event.json()) if event.data else ():
                    yield made
                if assembly.done:
                    return
        except httpx2.ReadTimeout as error:
            raise stall_failure(self._stall_timeout_s, assembly.usage) from error
        except httpx2.HTTPError as error:
            raise self._sdk.broken(error, assembly.usage, secret=key) from error
        except ValueError as error:  # neither UTF-8 nor JSON
            raise protocol_failure(f"the stream holds {reason_of(error)}", assembly.usage, secret=key) from error
        finally:
            await unwind(source, _END_GRACE_S if assembly.done else 0.0)
        raise assembly.cut()


def _streamed(request: ModelRequest) -> dict[str, Any]:
    return {**request_body(request), "stream": True}


def _options(request: ModelRequest) -> anthropic.RequestOptions:
    """The headers of a call. A client's own would name no beta."""
    betas = {"anthropic-beta": ",".join(request.betas)} if request.betas else {}
    return {"headers": {"content-type": "application/json", **betas}}


def _utf8(text: str) -> bytes:
    """The text's bytes. Half a surrogate pair, which models do write, becomes U+FFFD: the API refuses it for ever."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
