"""The HTTP server that the fake APIs have in common: it takes requests and records what becomes of each."""

from __future__ import annotations

import json
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

import h11
import trio

from skill_actors.testing.connection import Connection, ConnectionOver
from skill_actors.testing.replies import Answer, Respond

__all__ = ["FakeServer", "RecordedRequest", "serve_in_thread"]

_SECRET_HEADERS: Final = frozenset({"authorization", "x-api-key"})

Outcome = Literal["open", "complete", "failed", "client_gone"]


@dataclass(slots=True, kw_only=True)
class RecordedRequest:
    """One request and what became of it.

    Args:
        path: with its query.
        headers: names in lower case; of keys only the last four characters are shown.
        body: parsed JSON, or None if there was none; of a form its fields, and name and file name of each file.
        connection: number of the connection it came on, from 1.
        status: of the answer; 0 before it.
        outcome: "client_gone" means that the client closed the connection before the answer was complete.
        ended_s: time.monotonic() at the outcome.

    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any = None
    connection: int = 0
    status: int = 0
    outcome: Outcome = "open"
    received_s: float = 0.0
    ended_s: float | None = None

    @property
    def resource(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]


_Given = TypeVar("_Given")  # what an API has answers of


class FakeServer(ABC, Generic[_Given]):
    """An API on loopback that answers what a test tells it to.

    Args:
        respond: asked when no answer is queued.
        api_keys: keys that are accepted; None for any.

    Attributes:
        requests: all so far.
        port: where it listens; 0 before that, and at a socket.

    """

    def __init__(self, respond: Respond, api_keys: Collection[str] | None) -> None:
        self.requests: list[RecordedRequest] = []
        self.port = 0
        self._answers: deque[Answer] = deque()
        self._respond = respond
        self._api_keys = api_keys
        self._changed = trio.Event()
        self._connections = 0

    def enqueue(self, *answers: Answer) -> None:
        """Append answers to the queue; from any thread."""
        self._answers.extend(answers)

    def forget_answers(self) -> None:
        """Drop those that no request has been given yet; from any thread."""
        self._answers.clear()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, looking again at whatever happens to a request. In the server's own loop."""
        while not condition():
            await self._changed.wait()

    async def serve(
        self,
        *,
        port: int = 0,
        socket: Path | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen on loopback until cancelled; port 0 takes a free one. Started once connections are taken.

        Args:
            socket: a path, where nothing may be yet, to listen at instead; the base URL then is http://localhost.

        Raises:
            OSError: it cannot listen there.

        """
        if socket is not None:
            listeners = [_unix_listener(socket)]
        else:
            listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
            self.port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._serve_connection, listeners)
            task_status.started()

    @property
    def _origin(self) -> str:
        return f"http://127.0.0.1:{self.port}" if self.port else "http://localhost"

    @abstractmethod
    def _answer(self, record: RecordedRequest, headers: Mapping[str, str], content: bytes) -> _Given:
        """What a request is answered. `headers` are those of the request with the key, which `record` has not."""

    @abstractmethod
    async def _send(self, connection: Connection, record: RecordedRequest, answer: _Given) -> None:
        """Send the answer, and note its status."""

    def _takes(self, key: str | None) -> bool:
        return key is not None and (self._api_keys is None or key in self._api_keys)

    def _next(self, body: Mapping[str, Any]) -> Answer:
        return self._answers.popleft() if self._answers else self._respond(body)

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        connection = Connection(stream, self._connections)
        try:
            async with stream:
                while (request := await connection.receive()) is not None:
                    await self._serve_request(connection, *request)
        except (ConnectionOver, h11.ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # of one client; recorded with its request where there was one

    async def _serve_request(self, connection: Connection, head: h11.Request, content: bytes) -> None:
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        record = _record(head, headers, content)
        record.connection = connection.number
        self.requests.append(record)
        self._notify()
        connection.request_id = f"req_fake_{len(self.requests):06}"
        outcome: Outcome = "failed"
        try:
            answer = self._answer(record, headers, content)
            if await connection.watch(self._send, connection, record, answer):
                outcome = "client_gone"
                raise ConnectionOver
            outcome = "complete"
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            outcome = "client_gone"
            raise
        finally:
            record.outcome, record.ended_s = outcome, time.monotonic()
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _record(head: h11.Request, headers: Mapping[str, str], content: bytes) -> RecordedRequest:
    """What is kept of a request: not its key."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    return RecordedRequest(
        method=head.method.decode("ascii"),
        path=head.target.decode("ascii", "replace"),
        headers={name: f"***{value[-4:]}" if name in _SECRET_HEADERS else value for name, value in headers.items()},
        body=body,
        received_s=time.monotonic(),
    )


def _unix_listener(path: Path) -> trio.SocketListener:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(str(path))
        made.listen(128)
        return trio.SocketListener(trio.socket.from_stdlib_socket(made))
    except BaseException:
        made.close()
        raise


_Server = TypeVar("_Server", bound=FakeServer[Any])


@contextmanager
def serve_in_thread(api: _Server, *, socket: Path | None = None) -> Iterator[_Server]:
    """Serve `api` in a thread of its own while the block runs: for tests that start real processes.

    Raises:
        RuntimeError: if it does not take connections within 30 s.

    """
    ready = threading.Event()
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: api.serve(socket=socket, task_status=task_status))
            stop.append(lambda: token.run_sync_soon(nursery.cancel_scope.cancel))
            ready.set()

    thread = threading.Thread(target=trio.run, args=(main,), name=type(api).__name__, daemon=True)
    thread.start()
    if not ready.wait(30):
        raise RuntimeError(f"{type(api).__name__} did not start within 30 s")
    try:
        yield api
    finally:
        stop[0]()
        thread.join(30)
