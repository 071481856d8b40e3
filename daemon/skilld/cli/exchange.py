"""A message and its answer, written as it arrives; Ctrl-C cancels the turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from skilld.cli.failure import EXIT, Failure, exit_code_of
from skilld.cli.narrator import Narrator
from skilld.cli.output import Console
from skilld.client import Client, Event, RequestTimeout, SkilldError

__all__ = ["Exchange"]

_CANCEL_WAIT_S: Final = 2.0


class Exchange:
    """One message and its answer.

    Args:
        made: whether the session was made for this message, so that all that waits in it is this.
        as_json: write events rather than what they tell.

    """

    def __init__(self, client: Client, session: str, *, made: bool, as_json: bool = False) -> None:
        self._client = client
        self._session = session
        self._made = made
        self._as_json = as_json
        self._console = Console()
        self._narrator = Narrator(self._console)
        self._turn: str | None = None

    def run(self, text: str, key: str | None, timeout_s: float | None, schema: Mapping[str, Any] | None = None) -> int:
        """Send, and write the answer until it ends. Returns the exit code."""
        try:
            return self._stream(
                self._client.send_streaming(
                    self._session, text, idempotency_key=key, timeout_s=timeout_s, schema=schema
                )
            )
        except KeyboardInterrupt:
            return self._interrupted()
        except RequestTimeout as error:
            if timeout_s is None:
                raise
            self._cancel()
            raise Failure(f"no answer within {timeout_s:g} s; the turn was cancelled", EXIT.TIMED_OUT) from error

    def _stream(self, events: Iterator[Event]) -> int:
        for event in events:
            self._turn = event.turn or self._turn
            if self._as_json:
                print(event.to_json(), flush=True)
            else:
                self._narrator.tell(event)
            if event.type == "approval.requested":
                return EXIT.WAITING_FOR_APPROVAL
            if event.is_ending:
                return self._ended(event)
        raise Failure("the daemon ended the stream before the turn ended")

    def _ended(self, event: Event) -> int:
        error = event.data.get("error") or {}
        status = event.type.removeprefix("turn.")
        if status != "finished":
            raise Failure(f"the turn {_WAS[status]}: {error.get('message') or 'no reason given'}", _code(status, error))
        return EXIT.DONE

    def _interrupted(self) -> int:
        """Cancel the turn and say how that went. A second Ctrl-C ends the program wherever it is."""
        try:
            self._console.end_line()
            self._console.warn("cancelling; Ctrl-C again leaves at once")
            status = self._cancel()
            self._console.warn("cancelled" if status == "cancelled" else f"the turn is {status}")
        except KeyboardInterrupt:
            pass
        except SkilldError as error:
            raise Failure(f"interrupted, and the turn could not be cancelled: {error}", EXIT.CANCELLED) from error
        return EXIT.CANCELLED

    def _cancel(self) -> str:
        """Cancel what was sent and wait for its end for 2 s. Returns the turn's status."""
        if self._turn is None:
            if not self._made:
                return f"unknown: it may have been taken just now; see 'skillctl show {self._session}'"
            self._client.cancel(self._session, queued=True)
            return "cancelled"
        self._client.cancel_turn(self._turn)
        return str(self._client.turn(self._turn, wait_s=_CANCEL_WAIT_S)["status"])


_WAS: Final = {"failed": "failed", "cancelled": "was cancelled", "interrupted": "was interrupted"}


def _code(status: str, error: dict[str, Any]) -> int:
    return exit_code_of(status, error.get("code"))
