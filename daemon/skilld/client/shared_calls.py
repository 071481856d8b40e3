"""What the clients say about events of the workshop, and about values that agents and users share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, TypeVar

from skilld.client import wire
from skilld.client.events import Event, SseDecoder
from skilld.client.wire import SILENCE_S, Call, Json, Request, Response

__all__ = ["AsyncSharedCalls", "SharedCalls"]

T = TypeVar("T")

_EVENTS: Final = "/v1/workshop/events"
_STORE: Final = "/v1/workshop/store"


class SharedCalls:
    """A part of `Client`, which brings the connection."""

    def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _follow_all(self, request: Callable[[int], Request], after: int, *, follow: bool) -> Iterator[Event]:
        raise NotImplementedError

    def workshop_events(
        self,
        *,
        after: int = 0,
        last: int | None = None,
        topics: Sequence[str] = (),
        names: Sequence[str] = (),
        follow: bool = True,
    ) -> Iterator[Event]:
        """What happened in the workshop behind the event numbered `after`, then what happens: one's own events.

        With the role admin everybody's. A connection that drops is made again from the last event; no event is missed
        or comes twice. Where events are forgotten by then, one of the type `feed.forgotten` says so.

        Args:
            last: begin with the last so many that are stored; 0 for what happens from now on.
            topics, names: only these, such as "agent" and "error"; "custom" is all that users publish.
            follow: wait for further ones; else stop at what there is now.

        """
        return self._follow_all(lambda number: _events(number, last, topics, names, follow), after, follow=follow)

    def last_workshop_events(self, last: int, *, topics: Sequence[str] = (), names: Sequence[str] = ()) -> list[Event]:
        """The last so many events of the workshop that are stored, oldest first, in one answer.

        Args:
            topics, names: as `workshop_events` has them.

        """
        return self._do(_last_events(last, topics, names))

    def publish_event(self, topic: str, name: str, data: Mapping[str, Any] | None = None) -> Json:
        """Publish an event under a topic that begins with "custom."; the event."""
        return self._do(_publish(topic, name, data))

    def put_value(
        self, namespace: str, key: str, value: Any, *, expected: int | None = None, ttl_s: float | None = None
    ) -> Json:
        """Store a value, which may be any JSON; what there is to say of it, with its `version`.

        Args:
            expected: the version it must be at, 0 for none; else SkilldError (`conflict`), with `found` in its details.
            ttl_s: it is gone after so many seconds.

        """
        return self._do(_put(namespace, key, value, expected, ttl_s))

    def value(self, namespace: str, key: str) -> Json:
        """A value, as `value`, and what there is to say of it."""
        return self._do(wire.get(_path(namespace, key)))

    def value_keys(
        self, namespace: str | None = None, *, prefix: str | None = None, page_size: int = 1000
    ) -> Iterator[Json]:
        """What is stored, in one namespace or all, without the values; pages are fetched as needed."""
        cursor: str | None = None
        while True:
            page = self._do(_keys(namespace, prefix, page_size, cursor))
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def delete_value(self, namespace: str, key: str, *, expected: int | None = None) -> None:
        """Delete a value, if it is at the version that is expected."""
        self._do(_delete(namespace, key, expected))

    def clear_values(self, namespace: str) -> int:
        """Delete all values of a namespace; how many."""
        return int(self._do(wire.write("DELETE", _path(namespace)))["removed"])


class AsyncSharedCalls:
    """A part of `AsyncClient`, which brings the connection."""

    async def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _follow_all(
        self, request: Callable[[int], Request], after: int, *, follow: bool
    ) -> AsyncGenerator[Event, None]:
        raise NotImplementedError

    @asynccontextmanager
    async def workshop_events(
        self,
        *,
        after: int = 0,
        last: int | None = None,
        topics: Sequence[str] = (),
        names: Sequence[str] = (),
        follow: bool = True,
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """What happened in the workshop, then what happens. See `Client.workshop_events`."""
        found = self._follow_all(lambda number: _events(number, last, topics, names, follow), after, follow=follow)
        async with aclosing(found) as events:
            yield events

    async def last_workshop_events(
        self, last: int, *, topics: Sequence[str] = (), names: Sequence[str] = ()
    ) -> list[Event]:
        """The last so many that are stored, all at once. See `Client.last_workshop_events`."""
        return await self._do(_last_events(last, topics, names))

    async def publish_event(self, topic: str, name: str, data: Mapping[str, Any] | None = None) -> Json:
        """Publish an event under a topic that begins with "custom."; the event."""
        return await self._do(_publish(topic, name, data))

    async def put_value(
        self, namespace: str, key: str, value: Any, *, expected: int | None = None, ttl_s: float | None = None
    ) -> Json:
        """Store a value. See `Client.put_value`."""
        return await self._do(_put(namespace, key, value, expected, ttl_s))

    async def value(self, namespace: str, key: str) -> Json:
        """A value, as `value`, and what there is to say of it."""
        return await self._do(wire.get(_path(namespace, key)))

    async def value_keys(
        self, namespace: str | None = None, *, prefix: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Json:
        """A page of what is stored, without the values: {"items", "next"}."""
        return await self._do(_keys(namespace, prefix, limit, cursor))

    async def delete_value(self, namespace: str, key: str, *, expected: int | None = None) -> None:
        """Delete a value, if it is at the version that is expected."""
        await self._do(_delete(namespace, key, expected))

    async def clear_values(self, namespace: str) -> int:
        """Delete all values of a namespace; how many."""
        return int((await self._do(wire.write("DELETE", _path(namespace))))["removed"])


def _path(namespace: str, key: str | None = None) -> str:
    path = f"{_STORE}/{wire.segment('namespace', namespace)}"
    return path if key is None else f"{path}/{wire.segment('key', key)}"


def _events(after: int, last: int | None, topics: Sequence[str], names: Sequence[str], follow: bool) -> Request:
    query = {"follow": "true" if follow else "false"}
    if after:
        query["after"] = str(after)
    elif last is not None:  # of the first connection only: the next goes on where that was lost
        query["last"] = str(last)
    if topics:
        query["topic"] = ",".join(topics)
    if names:
        query["name"] = ",".join(names)
    target = f"{_EVENTS}?{_query(query)}"
    return Request(method="GET", target=target, headers={"accept": "text/event-stream"}, timeout_s=SILENCE_S)


def _last_events(last: int, topics: Sequence[str], names: Sequence[str]) -> Call[list[Event]]:
    def read(answer: Response) -> list[Event]:
        wire.check_stream(answer.status, answer.headers, lambda: answer.body)
        return list(SseDecoder().feed(answer.body))

    return Call(_events(0, last, topics, names, False), read)


def _publish(topic: str, name: str, data: Mapping[str, Any] | None) -> Call[Json]:
    return wire.write("POST", _EVENTS, {"topic": topic, "name": name, "data": dict(data or {})})


def _put(namespace: str, key: str, value: Any, expected: int | None, ttl_s: float | None) -> Call[Json]:
    body = {"value": value}
    if expected is not None:
        body["expected"] = expected
    if ttl_s is not None:
        body["ttl_s"] = ttl_s
    return wire.write("PUT", _path(namespace, key), body)


def _keys(namespace: str | None, prefix: str | None, limit: int, cursor: str | None) -> Call[Json]:
    query = {"limit": str(limit)}
    if prefix:
        query["prefix"] = prefix
    if cursor is not None:
        query["cursor"] = cursor
    return wire.get(f"{_STORE if namespace is None else _path(namespace)}?{_query(query)}")


def _delete(namespace: str, key: str, expected: int | None) -> Call[Json]:
    headers = {} if expected is None else {"if-match": f'"{expected}"'}
    return wire.write("DELETE", _path(namespace, key), headers=headers)


def _query(items: Mapping[str, str]) -> str:
    from urllib.parse import urlencode

    return urlencode(items)
