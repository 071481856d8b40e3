"""The way to the daemon: batches of records over its ingest socket, each acknowledged when it is written there.

A connection begins with `{"hello": 1, "agent", "run", "policy": version}`, and the answer is `{"policy": ...}`: null if
that version is the daemon's own. A batch is one line, `{"batch", "run", "agent", "pid", "program", "environment",
"events": [...]}`. The answer is `{"ack": batch, "stored", "refused", "policy": version}`, or `{"error": {"code",
"message"}}` after which the daemon closes. A batch that was sent and not acknowledged may be written or not: it is sent
again, and the daemon knows a record by its run and number. A batch may follow before the one before is acknowledged:
the daemon answers in the order that they came. A daemon that knows no hello calls it a bad batch: it gets none from
then on.
"""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_RECORDS", "Closed", "Delivery", "DeliveryError", "ForeignHead", "Refusal"]

MAX_BATCH_BYTES = 512 << 10
MAX_BATCH_RECORDS = 2_000
_MAX_ANSWER_BYTES = 4 << 20
# Events wait: who may not report now may be let in; a program that was stopped in the middle of a batch is slow.
_LATER = ("overloaded", "slow", "forbidden")


class DeliveryError(OSError):
    """The batch is not acknowledged: the daemon is away, or too slow."""


class Closed(DeliveryError):
    """It ended the connection instead of answering."""


class _NoHello(Closed):
    """It ended the connection because it knows no hello; another one begins without."""


class Refusal(DeliveryError):
    """The daemon answered that it will not take it. `code` is `overloaded` where it will later."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code

    @property
    def is_final(self) -> bool:
        """Whether it will take it at no other time either."""
        return self.code not in _LATER


class ForeignHead(dict[str, object]):
    """The head of batches that another run left behind. `on_refused` is told of events that the daemon will never
    have, and why."""

    def __init__(self, head: dict[str, object], on_refused: Callable[[int, str], None]) -> None:
        super().__init__(head)
        self.on_refused = on_refused


class Delivery:
    """One connection to the ingest socket at `path`, made when it is needed.

    Args:
        hello: what is said first, as an object; None to say nothing.
        on_policy: told what the daemon answers: a policy, or None if the version in the hello is its own.

    """

    def __init__(
        self,
        path: str,
        hello: Callable[[], dict[str, object]] | None = None,
        on_policy: Callable[[dict[str, object] | None], None] | None = None,
    ) -> None:
        self._path = path
        self._hello = hello
        self._on_policy = on_policy
        self.policy_version: str | None = None  # the daemon's, as it said last
        self._socket: socket.socket | None = None
        self._unread = b""
        self._batch = 0
        self._is_given_up = False
        self._begun: list[tuple[int, int]] = []  # batches on their way, the oldest first: number and records

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def give_up(self) -> None:
        """Whoever waits for an answer, in another thread, waits no longer, and nothing more is sent."""
        self._is_given_up = True
        connection = self._socket
        if connection is not None:
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)

    def greet(self, timeout_s: float) -> None:
        """Connect anew and say hello. Raises DeliveryError."""
        self.close()
        try:
            self._connect(time.monotonic() + timeout_s)
        except OSError as error:
            self.close()
            raise error if isinstance(error, DeliveryError) else DeliveryError(f"{self._path}: {error}") from error

    def send(self, head: dict[str, object], records: list[bytes], timeout_s: float) -> int:
        """Deliver one batch, while none is on its way; how many of its records the daemon refused for good.

        Args:
            head: `run`, `agent` and so on. A `ForeignHead` is told what was refused as well.
            records: each as JSON.
            timeout_s: for all of it: connecting, sending, and the daemon's writing.

        Raises:
            DeliveryError: if it was not acknowledged in time; the connection is closed then.

        """
        told = head.on_refused if isinstance(head, ForeignHead) else None
        try:
            refused = self._send_again(head, records, time.monotonic() + timeout_s)
        except Refusal as refusal:
            if told is not None and refusal.is_final:
                told(len(records), str(refusal))
            raise
        if told is not None and refused:
            told(refused, "the daemon takes no such events")
        return refused

    def _send_again(self, head: dict[str, object], records: list[bytes], deadline: float) -> int:
        """As `send`, once more where the daemon was made again since."""
        line = self._line(head, records)
        was_connected = self._socket is not None
        try:
            return self._exchange(line, len(records), deadline)
        except Closed as error:
            if not was_connected and not isinstance(error, _NoHello):
                raise
            # The daemon was made again since: its socket is another one.
            return self._exchange(line, len(records), deadline)

    def begin(self, head: dict[str, object], records: list[bytes], timeout_s: float) -> None:
        """Send one batch over the connection that there is; `finish` tells what became of it.

        Raises:
            DeliveryError: if it could not be sent in time; the connection is closed then, and what was on its way is
                not acknowledged.

        """
        deadline = time.monotonic() + timeout_s
        line = self._line(head, records)

        def work() -> int:
            self._send(self._open(), line, deadline)
            self._begun.append((self._batch, len(records)))
            return 0

        self._guarded(work)

    def finish(self, timeout_s: float) -> int:
        """Of the oldest batch that is on its way, how many of its records the daemon refused for good.

        Raises:
            DeliveryError: if it was not acknowledged in time, or refused; the connection is closed then, and those
                behind it are not acknowledged either.

        """
        deadline = time.monotonic() + timeout_s

        def work() -> int:
            if not self._begun:
                raise Closed("nothing is on its way")
            return self._await_ack(self._open(), deadline, *self._begun[0])

        refused = self._guarded(work)
        del self._begun[0]
        return refused

    def _exchange(self, line: bytes, records: int, deadline: float) -> int:
        def work() -> int:
            connection = self._connect(deadline)
            self._send(connection, line, deadline)
            return self._await_ack(connection, deadline, self._batch, records)

        return self._guarded(work)

    def _guarded(self, work: Callable[[], int]) -> int:
        """What the work says. If it fails in any way, nobody knows what was read: the connection is closed."""
        is_done = False
        try:
            found = work()
            is_done = True
        except DeliveryError:
            raise
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed(str(error)) from error
        except OSError as error:
            raise DeliveryError(f"{self._path}: {error}") from error
        finally:
            if not is_done:
                self.close()
        return found

    def _line(self, head: dict[str, object], records: list[bytes]) -> bytes:
        self._batch += 1
        return json.dumps({"batch": self._batch, **head}).encode()[:-1] + b',"events":[' + b",".join(records) + b"]}\n"

    def _open(self) -> socket.socket:
        if self._socket is None:
            raise Closed("there is no connection")
        return self._socket

    @staticmethod
    def _send(connection: socket.socket, line: bytes, deadline: float) -> None:
        connection.settimeout(_left_s(deadline))
        connection.sendall(line)

    def close(self) -> None:
        """Forget the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._unread = b""
        self._begun = []

    def _connect(self, deadline: float) -> socket.socket:
        if self._is_given_up:
            raise DeliveryError("no answer before the end")
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.settimeout(_left_s(deadline))
                made.connect(self._path)
            except BaseException:
                made.close()
                raise
            self._socket = made
            self._say_hello(made, deadline)
        return self._socket

    def _say_hello(self, connection: socket.socket, deadline: float) -> None:
        if self._hello is None:
            return
        connection.settimeout(_left_s(deadline))
        connection.sendall(json.dumps(self._hello()).encode() + b"\n")
        try:
            answer = _parse(self._await_line(connection, deadline))
        except Refusal as refusal:
            if refusal.code != "bad":
                raise
            self._hello = None
            raise _NoHello("it knows no hello") from refusal
        said = answer.get("policy")
        if said is not None and not isinstance(said, dict):
            raise DeliveryError("its policy is no JSON object")
        self.policy_version = None if said is None else str(said.get("version", ""))
        if self._on_policy is not None:
            self._on_policy(said)

    def _await_ack(self, connection: socket.socket, deadline: float, batch: int, records: int) -> int:
        """How many of the batch's records were refused: no more than it has, whatever is answered."""
        while True:
            answer = _parse(self._await_line(connection, deadline))
            if answer.get("ack") == batch:
                if isinstance(answer.get("policy"), str):
                    self.policy_version = str(answer["policy"])
                refused = answer.get("refused")
                return min(max(0, refused), records) if isinstance(refused, int) else 0
            # otherwise of a batch that was given up

    def _await_line(self, connection: socket.socket, deadline: float) -> bytes:
        while True:
            line, ending, rest = self._unread.partition(b"\n")
            if ending:
                self._unread = rest
                return line
            if len(line) > _MAX_ANSWER_BYTES:
                raise DeliveryError("its answer has no end")
            connection.settimeout(_left_s(deadline))
            received = connection.recv(64 << 10)
            if not received:
                raise Closed("it closed the connection")
            self._unread += received


def _parse(line: bytes) -> dict[str, object]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise DeliveryError("its answer is no JSON object")
    error = answer.get("error")
    if isinstance(error, dict):
        raise Refusal(str(error.get("code")), str(error.get("message")))
    return answer


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise DeliveryError("no answer in time")
    return left_s
