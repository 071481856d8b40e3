"""A message and its answer, written as it arrives; Ctrl-C cancels the turn.

sending --events--> answering --an ending--> over
answering --a call waits for an approval, and nobody decides here--> left, with exit code 3: `go_on` takes it up again
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any, Final

from skilld.cli.aside import Aside
from skilld.cli.failure import EXIT, Failure, exit_code_of
from skilld.cli.holdup import holdup
from skilld.cli.inquiry import Inquiry
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
        aside: listens meanwhile to what else is typed; None: nobody does.

    """

    def __init__(
        self, client: Client, session: str, *, made: bool, as_json: bool = False, aside: Aside | None = None
    ) -> None:
        self._client = client
        self._aside = aside
        self._session = session
        self._made = made
        self._as_json = as_json
        self._console = Console()
        self._narrator = Narrator(self._console)
        self._inquiry = Inquiry(client, self._console)
        self._turn: str | None = None
        self._position = ""
        self._left: str | None = None  # the approval that it was left for

    def run(
        self,
        text: str,
        key: str | None,
        timeout_s: float | None,
        schema: Mapping[str, Any] | None = None,
        asked: Mapping[str, Any] = MappingProxyType({}),
    ) -> int:
        """Send, and write the answer until it ends. Returns the exit code.

        Args:
            asked: further arguments of `Client.send_streaming`.

        """
        return self._run(
            self._client.send_streaming(
                self._session, text, idempotency_key=key, timeout_s=timeout_s, schema=schema, **asked
            ),
            timeout_s,
        )

    def follow(self, turn: str, after: int, timeout_s: float | None = None) -> int:
        """Write the answer of a turn that waits or runs, from behind an event on. Returns the exit code.

        Args:
            timeout_s: in all; then the turn is cancelled.

        """
        self._turn = turn
        events = self._client.events(self._session, after=after, turn=turn, timeout_s=timeout_s)
        return self._run(events, timeout_s)

    def go_on(self) -> int:
        """Ask once more about the approval that the turn was left for, and write on from there."""
        if self._left is None:
            return EXIT.DONE
        try:
            if not self._inquiry.settle(self._left):
                return EXIT.WAITING_FOR_APPROVAL
        except KeyboardInterrupt:
            return self._interrupted()
        self._left = None
        return self._run(self._client.events(self._session, after=self._position, turn=self._turn), None)

    @property
    def is_left(self) -> bool:
        """Whether its turn waits for an approval that nobody has given here."""
        return self._left is not None

    def _run(self, events: Iterator[Event], timeout_s: float | None) -> int:
        try:
            with self._aside or nullcontext():
                return self._stream(events)
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
            self._position = event.position
            if event.type == "turn.queued" and not self._made:
                self._tell_holdup()
            if event.type == "approval.requested" and not self._settle(str(event.data.get("id"))):
                return EXIT.WAITING_FOR_APPROVAL
            if event.is_ending:
                return self._ended(event)
        raise Failure("the daemon ended the stream before the turn ended")

    def _tell_holdup(self) -> None:
        if why := holdup(self._client, self._session, self._turn):
            self._console.warn(why)

    def _settle(self, approval: str) -> bool:
        """Whether the call waits no longer."""
        with nullcontext() if self._aside is None else self._aside.hushed():
            settled = self._inquiry.settle(approval, ask=not self._as_json)
        if settled:
            return True
        self._left = approval
        return False

    def _ended(self, event: Event) -> int:
        error = event.data.get("error") or {}
        status = event.type.removeprefix("turn.")
        if status != "finished":
            raise Failure(f"the turn {_WAS[status]}: {error.get('message') or 'no reason given'}", _code(status, error))
        return EXIT.DONE

    def _interrupted(self) -> int:
        """Cancel the turn and say how that went. A second Ctrl-C ends the program wherever it is."""
        self._left = None
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
