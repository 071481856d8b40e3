"""A store with events, and receivers that take, refuse or are away."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h11
import trio

from skilld.monitor.batch import read_batch
from skilld.monitor.inspected import Inspected, Origin
from skilld.monitor.monitor import Monitor
from skilld.monitor.store import EventStore

__all__ = ["Answer", "Asked", "Collector", "collector", "event", "opened", "report"]

NOW_US = 1_700_000_000_000_000
JSON = dict[str, Any]


@contextmanager
def opened(folder: Path) -> Iterator[Monitor]:
    """A store in a folder, as followers see it."""
    store = EventStore(folder / "events.db")
    try:
        yield Monitor(store=store)
    finally:
        store.close()


def report(monitor: Monitor, *events: JSON, first: int = 0, run: str = "ab" * 16) -> None:
    """Store events, as a program reports them. Blocks."""
    made = [
        {"seq": n, "time_us": NOW_US + n * 1_000_000, "name": "x", "level": "INFO", "data": {"n": n}, **given}
        for n, given in enumerate(events, first)
    ]
    batch = read_batch(json.dumps({"batch": 1, "run": run, "agent": "shop", "pid": 7, "events": made}).encode())
    assert batch.refused == 0
    monitor.store.write([(Inspected(batch), Origin(1000, 7))])


def event(**changes: Any) -> JSON:
    """An event as a follower gets it."""
    return {
        "id": 1,
        "time": "2026-01-15T09:30:00.000000Z",
        "agent": "shop",
        "name": "x",
        "channel": "SYSTEM",
        "level": "INFO",
        "data": {},
        "trace": None,
        "span": None,
        "parent": None,
        "duration_ms": None,
        "status": None,
        "uid": 1000,
        "pid": 7,
        "sender_pid": 7,
        "program": "p",
        "environment": "",
        "run": "ab",
        "seq": 1,
        "session": None,
        "user": None,
        "tags": [],
        **changes,
    }


@dataclass(frozen=True)
class Asked:
    """A request as it arrived, its body unpacked."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """Status 0: none at all."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass
class Collector:
    """A running receiver: answers each request as it is told to."""

    port: int
    answer: Callable[[Asked], Answer] = lambda asked: Answer()
    asked: list[Asked] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)
    _connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def wait_asked(self, count: int) -> list[Asked]:
        with trio.fail_after(20):
            while len(self.asked) < count:
                self.changed = trio.Event()
                await self.changed.wait()
        return self.asked

    async def serve(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        number, connection = self._connections, h11.Connection(h11.SERVER)
        try:
            while await self._serve_one(stream, connection, number):
                connection.start_next_cycle()
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass

    async def _serve_one(self, stream: trio.SocketStream, connection: h11.Connection, number: int) -> bool:
        head, body = None, b""
        while True:
            found = connection.next_event()
            if found is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65_536))
            elif isinstance(found, h11.Request):
                head = found
            elif isinstance(found, h11.Data):
                body += bytes(found.data)
            elif isinstance(found, h11.EndOfMessage):
                break
            else:
                return False
        assert head is not None
        headers = {name.decode(): value.decode() for name, value in head.headers}
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        asked = Asked(head.target.decode(), headers, body, number)
        self.asked.append(asked)
        answer = self.answer(asked)
        self.changed.set()
        if answer.status == 0:
            await trio.sleep_forever()
        named = [*answer.headers, ("content-length", str(len(answer.body)))]
        for part in (h11.Response(status_code=answer.status, headers=named), h11.Data(data=answer.body)):
            await stream.send_all(connection.send(part) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        return True


@asynccontextmanager
async def collector(answer: Callable[[Asked], Answer] = lambda asked: Answer()) -> AsyncIterator[Collector]:
    """A receiver on a port of loopback."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        found = Collector(port=listener.socket.getsockname()[1], answer=answer)
        nursery.start_soon(partial(trio.serve_listeners, found.serve, [listener]))
        yield found
        nursery.cancel_scope.cancel()
