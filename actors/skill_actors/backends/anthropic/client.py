"""The hosted side's client: the anthropic SDK's, with our errors and with retries where they are safe.

A call that changes something is made again only where the server said that it did nothing (429, 503, 529) or was never
reached. After anything else it may have happened: whoever called looks first.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from skill_actors.backends.anthropic.errors import HostedError
from skill_actors.models.base import ModelError
from skill_actors.models.credentials import CredentialError, KeySource, find_key_source
from skill_actors.models.failures import api_failure, protocol_failure, stall_failure
from skill_actors.models.retry import RETRY, RetryPolicy, backoff
from skill_actors.models.sdk import ANTHROPIC_URL, SdkClient

if TYPE_CHECKING:
    import anthropic

    from skill_actors.backends.anthropic.files_api import FilesApi
    from skill_actors.backends.anthropic.skills_api import SkillsApi

__all__ = ["HostedClient", "all_pages", "api_error", "checked_id", "is_refused_before", "told_id"]

_T = TypeVar("_T")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
# Where an answer of another shape is read; of lists in lists in lists the JSON reader has enough.
_MISSHAPEN: Final = (AttributeError, KeyError, RecursionError, TypeError, ValueError)
_MAX_PAGES: Final = 10_000
_NOTHING_DONE: Final = frozenset({429, 503, 529})


class HostedClient:
    """Calls the Messages, Skills and Files endpoints. Bound to the trio run in which it is first used.

    Args:
        api_key: called in a worker thread before every call; None for ANTHROPIC_API_KEY.
        base_url: of the API or of a compatible server; None for ANTHROPIC_BASE_URL, else the API's.
        timeout_s: a call of Skills or Files fails when nothing at all arrives for so long.
        turn_timeout_s: the same for an answer of the model, which comes whole, after all the code it ran.
        connect_timeout_s: limit for making a connection, TLS included.
        retry: how often and how patiently.
        socket: a Unix socket that all connections are made to instead of the network; see `models.sdk.SdkClient`.

    """

    def __init__(
        self,
        api_key: KeySource | None = None,
        *,
        base_url: str | None = None,
        timeout_s: float = 120.0,
        turn_timeout_s: float = 600.0,
        connect_timeout_s: float = 10.0,
        retry: RetryPolicy = RETRY,
        rng: Random | None = None,
        socket: Path | None = None,
    ) -> None:
        url = base_url or os.environ.get("ANTHROPIC_BASE_URL") or ANTHROPIC_URL
        self._sdk = SdkClient(
            api_key or _environment_key,
            base_url=url,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            socket=socket,
        )
        self._turn_timeout_s = turn_timeout_s
        self._timeout_s = timeout_s
        self._retry = retry
        self._rng = rng or Random()

    def __repr__(self) -> str:
        return f"HostedClient(base_url={self._sdk.base_url!r})"

    @property
    def base_url(self) -> str:
        """Where the calls go."""
        return self._sdk.base_url

    @property
    def skills(self) -> SkillsApi:
        """The Skills API."""
        from skill_actors.backends.anthropic.skills_api import SkillsApi

        return SkillsApi(self)

    @property
    def files(self) -> FilesApi:
        """The Files API."""
        from skill_actors.backends.anthropic.files_api import FilesApi

        return FilesApi(self)

    async def prepare(self) -> None:
        """Import the SDK and build its client now. Raises HostedError if there is no key or the URL cannot be used."""
        try:
            await self._sdk.prepare()
        except ModelError as error:
            raise api_error(error) from error

    async def __aenter__(self) -> HostedClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Later calls are refused."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await self._sdk.aclose()

    async def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a whole request of the Messages API (see `build_request`), without streaming; its answer as JSON.

        Raises:
            HostedError: "anthropic_api_error". It is retried before only where nothing was done.

        """
        content = await trio.to_thread.run_sync(_encoded, request)

        async def post(client: anthropic.AsyncAnthropic) -> Mapping[str, Any]:
            import anthropic

            answer = await client.post(
                "/v1/messages",
                cast_to=object,
                content=content,
                options={
                    "headers": {"content-type": "application/json"},
                    "timeout": anthropic.Timeout(self._turn_timeout_s, connect=10.0),
                },
            )
            if not isinstance(answer, dict):
                raise protocol_failure(f"it is {type(answer).__name__}, not an object")
            return answer

        return await self.call(post, repeatable=False, timeout_s=self._turn_timeout_s)

    async def call(
        self,
        operation: Callable[[anthropic.AsyncAnthropic], Awaitable[_T]],
        *,
        repeatable: bool,
        timeout_s: float | None = None,
    ) -> _T:
        """Make one call of the SDK, and again after failures that may pass.

        Args:
            operation: makes the call; it may run more than once.
            repeatable: whether it does no harm to make it twice.
            timeout_s: which one the call has, for the error; None for the client's.

        Raises:
            HostedError: "anthropic_api_error", with the SDK's as its cause.

        """
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self.opened(timeout_s) as client:
                    try:
                        return await operation(client)
                    except _MISSHAPEN as error:
                        # The SDK checks no answer: what has another shape shows where it is read.
                        raise protocol_failure(f"{type(error).__name__} {error}") from error
            except HostedError as error:
                wait_s = self._wait_s(error, attempt, repeatable)
                if wait_s is None:
                    raise
            await trio.sleep(wait_s)

    @asynccontextmanager
    async def opened(self, timeout_s: float | None = None) -> AsyncIterator[anthropic.AsyncAnthropic]:
        """The SDK's client; what it raises inside the block becomes a HostedError. Nothing is retried."""
        try:
            client, key = await self._sdk.prepare()
        except ModelError as error:
            raise api_error(error, reached=error.sent) from error
        import anthropic
        import httpx2

        try:
            yield client
        except anthropic.APIStatusError as error:
            failure = api_failure(error.status_code, error.response.headers, error.body, secret=key)
            raise api_error(failure, error) from error
        except anthropic.APIConnectionError as error:
            if isinstance(error.__cause__, httpx2.ReadTimeout):
                raise api_error(stall_failure(timeout_s or self._timeout_s)) from error
            made = not isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
            failure = self._sdk.broken(error.__cause__ or error, secret=key, sent=made)
            raise api_error(failure, reached=made) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:  # while it read a body
            raise api_error(self._sdk.broken(error, secret=key)) from error
        except anthropic.APIError as error:  # an answer that the SDK does not understand
            raise api_error(protocol_failure(str(error), secret=key)) from error
        except ModelError as error:
            raise api_error(error) from error

    def _wait_s(self, error: HostedError, attempt: int, repeatable: bool) -> float | None:
        if not repeatable and not is_refused_before(error):
            return None
        failure = ModelError(error.message, code="server", retryable=error.retryable, retry_after_s=error.retry_after_s)
        return backoff(attempt, failure, self._rng, self._retry)


def checked_id(id: str) -> str:
    """An id that becomes part of a path, as it is. Raises HostedError, "anthropic_api_error", if it can be none."""
    if not _ID.fullmatch(id):
        raise api_error(ModelError(f"{id[:80]!r} is no id of the API", code="invalid_request"))
    return id


def told_id(body: Mapping[str, Any]) -> str:
    """The id in an answer. Raises TypeError if it has none, which `HostedClient.call` makes an error of ours."""
    id = body.get("id")
    if not isinstance(id, str) or not id:
        raise TypeError(f"its id is {id!r:.80}")
    return id


async def all_pages(
    fetch: Callable[[str | None], Awaitable[Any]], read: Callable[[Any], _T], *, at_most: int | None = None
) -> list[_T]:
    """The items of all pages of a list, or the first `at_most`.

    Args:
        fetch: gets the token of a page, None for the first.
        read: makes an item of the SDK's.

    Raises:
        HostedError: as `fetch`; or the pages never end, or are none.

    """
    found: list[_T] = []
    page: str | None = None
    seen: set[str] = set()
    while at_most is None or len(found) < at_most:
        shown = await fetch(page)
        try:
            items = [read(item) for item in shown.data]
            page = shown.next_page
        except _MISSHAPEN as error:
            raise api_error(protocol_failure(f"{type(error).__name__} {error}")) from error
        found += items
        if not page or not items:
            break
        if page in seen or len(seen) >= _MAX_PAGES:
            raise api_error(protocol_failure(f"a list does not end: page {page[:80]!r} comes again"))
        seen.add(page)
    return found if at_most is None else found[:at_most]


def is_refused_before(error: HostedError) -> bool:
    """Whether the server did nothing of a call that failed so, or never saw it."""
    return error.details.get("status") in _NOTHING_DONE or error.details.get("reached") is False


def api_error(failure: ModelError, answer: Any = None, *, reached: bool = True) -> HostedError:
    """What a failed call of the API is to our callers. `answer` is the SDK's error, where there was an answer."""
    details: dict[str, Any] = {
        "status": failure.status,
        "reason": failure.code,
        "api_type": getattr(answer, "type", None),
        "api_message": str(failure),
        "error_code": getattr(answer, "error_code", None),
        "request_id": getattr(answer, "request_id", None),
    }
    details = {name: value for name, value in details.items() if value is not None}
    if not reached:
        details["reached"] = False
    return HostedError(
        "anthropic_api_error",
        str(failure),
        details=details,
        retryable=failure.retryable,
        retry_after_s=failure.retry_after_s,
    )


def _encoded(request: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps({**request, "stream": False}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise api_error(ModelError(f"the request cannot be sent as JSON: {error}", code="invalid_request")) from error
    return text.encode("utf-8", "replace")


def _environment_key() -> str:
    source = find_key_source()
    if source is None:
        raise CredentialError("there is no API key: set ANTHROPIC_API_KEY, or give HostedClient a key source")
    return source()
