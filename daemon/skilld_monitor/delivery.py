"""The way to the daemon: batches of records over its ingest socket, each acknowledged when it is written there.

A batch is one line, `{"batch", "run", "agent", "pid", "program", "environment", "events": [...]}`. The answer is
`{"ack": batch, "stored", "refused"}`, or `{"error": {"code", "message"}}` after which the daemon closes. A batch that
was sent and not acknowledged may be written or not: it is sent again, and the daemon knows a record by its run and
number.
"""

from __future__ import annotations

import json
import socket
import time

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_RECORDS", "Delivery", "DeliveryError", "Refusal"]

MAX_BATCH_BYTES = 512 << 10
MAX_BATCH_RECORDS = 2_000
_MAX_ANSWER_BYTES = 64 << 10


class DeliveryError(OSError):
    """The batch is not acknowledged: the daemon is away, or too slow."""


class _Closed(DeliveryError):
    """It ended the connection instead of answering."""


class Refusal(DeliveryError):
    """The daemon answered that it will not take it. `code` is `overloaded` where it will later."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Delivery:
    """One connection to the ingest socket at `path`, made when it is needed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._unread = b""
        self._batch = 0
        self._is_settled = True  # nothing is on its way

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def send(self, head: dict[str, object], records: list[bytes], timeout_s: float) -> int:
        """Deliver one batch; how many of its records the daemon refused for good.

        Args:
            head: `run`, `agent` and so on.
            records: each as JSON.
            timeout_s: for all of it: connecting, sending, and the daemon's writing.

        Raises:
            DeliveryError: if it was not acknowledged in time; the connection is closed then.

        """
        deadline = time.monotonic() + timeout_s
        self._batch += 1
        line = json.dumps({"batch": self._batch, **head}).encode()[:-1] + b',"events":[' + b",".join(records) + b"]}\n"
        was_connected = self._socket is not None
        try:
            return self._exchange(line, deadline)
        except _Closed:
            self.close()
            if not was_connected:
                raise
            return self._exchange(line, deadline)  # the daemon was made again since: its socket is another one
        finally:
            if not self._is_settled:
                self.close()

    def _exchange(self, line: bytes, deadline: float) -> int:
        self._is_settled = False
        try:
            connection = self._connect(deadline)
            connection.settimeout(_left_s(deadline))
            connection.sendall(line)
            refused = self._await_ack(connection, deadline)
        except DeliveryError:
            raise
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _Closed(str(error)) from error
        except OSError as error:
            raise DeliveryError(str(error)) from error
        self._is_settled = True
        return refused

    def close(self) -> None:
        """Forget the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._unread = b""

    def _connect(self, deadline: float) -> socket.socket:
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.settimeout(_left_s(deadline))
                made.connect(self._path)
            except BaseException:
                made.close()
                raise
            self._socket = made
        return self._socket

    def _await_ack(self, connection: socket.socket, deadline: float) -> int:
        while True:
            line, ending, rest = self._unread.partition(b"\n")
            if ending:
                self._unread = rest
                answer = _parse(line)
                if answer.get("ack") == self._batch:
                    refused = answer.get("refused")
                    return refused if isinstance(refused, int) else 0
                continue  # of a batch that was given up
            if len(line) > _MAX_ANSWER_BYTES:
                raise DeliveryError("its answer has no end")
            connection.settimeout(_left_s(deadline))
            received = connection.recv(4096)
            if not received:
                raise _Closed("it closed the connection")
            self._unread += received


def _parse(line: bytes) -> dict[str, object]:
    try:
        answer = json.loads(line)
    except ValueError:
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
