"""The actor that tells one target: one notice at a time, in order, again where that may help, and never in a hurry.

waiting --notice--> telling --done--> waiting
                      |---- failed, may work later: pause, then telling again; after `attempts` it is given up
any state -- stop --> what is in hand and what waits has LAST_S; what is left then stays in the queue
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from skill_actors.runtime import Backoff, TrioActor
from skill_actors.telemetry import Bus
from skilld.hooks.notice import Notice
from skilld.hooks.queue import NoticeQueue

__all__ = ["LAST_S", "HookFailed", "HookSender"]

LAST_S: Final = 5.0
"""Seconds for what is left when the daemon stops."""

_MAX_PAUSE_S: Final = 60.0

_log = logging.getLogger(__name__)


class HookFailed(Exception):
    """The target was not told. The message names neither a token nor the path of a URL.

    Args:
        retry: whether it is worth another attempt, and harmless.
        after_s: what the target asked for.

    """

    def __init__(self, message: str, *, retry: bool, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry = retry
        self.after_s = after_s


class HookSender(TrioActor):
    """Empties one queue.

    Args:
        target: "exec" or "webhook", for the log and the bus, which gets `hook.stop` for each notice.
        tell: tells one notice; raises HookFailed.
        attempts: for each notice.
        jitter: a number from 0 to 1, so that many daemons do not come back at once.

    """

    def __init__(
        self,
        target: str,
        queue: NoticeQueue,
        tell: Callable[[Notice], Awaitable[None]],
        bus: Bus,
        *,
        attempts: int,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self._target = target
        self._queue = queue
        self._tell = tell
        self._bus = bus
        self._attempts = attempts
        self._jitter = jitter
        self._scope = trio.CancelScope(shield=True)  # a stop lets what is in hand be told
        self._waits = False
        self._stopping = False
        self._failing = False

    async def setup(self) -> None:
        """Begin with what waits."""
        self.spawn(self._send_on)
        self.spawn(self._hear_the_stop)

    async def _hear_the_stop(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._stopping = True
            if self._waits and not self._queue:
                self._scope.cancel()
            else:
                self._scope.deadline = trio.current_time() + LAST_S

    async def _send_on(self) -> None:
        with self._scope:
            while not self._stopping or self._queue:
                self._waits = True
                await self._queue.wait()
                self._waits = False
                await self._send(self._queue.take())
        if self._queue:
            _log.warning("hooks: %d notices for %s are not sent", len(self._queue), self._target)

    async def _send(self, notice: Notice) -> None:
        began = trio.current_time()
        try:
            error = await self._try(notice)
        except Exception:
            self._count("failed", began)
            raise
        self._count("ok" if error is None else "failed", began)
        if error is not None and not self._failing:
            _log.warning(
                "hooks: %s was not told of %s of turn %s of session %s: %s; further ones are only counted",
                *(self._target, notice.event, notice.turn, notice.session, error),
            )
        elif error is None and self._failing:
            _log.info("hooks: %s takes notices again", self._target)
        self._failing = error is not None

    def _count(self, outcome: str, began: float) -> None:
        facts = {"duration": trio.current_time() - began}
        self._bus.emit("hook.stop", facts, {"target": self._target, "outcome": outcome})

    async def _try(self, notice: Notice) -> HookFailed | None:
        """Why it was given up; None if it was told."""
        pauses = Backoff(initial_s=1.0, max_s=_MAX_PAUSE_S)
        for attempt in range(1, self._attempts + 1):
            try:
                await self._tell(notice)
                return None
            except HookFailed as error:
                if not error.retry or attempt == self._attempts:
                    return error
                pause_s = max(pauses.delay_s(attempt - 1), min(error.after_s, _MAX_PAUSE_S))
            try:
                await trio.sleep(pause_s * (1 + self._jitter() / 4))
            except trio.Cancelled:
                self._queue.give_back(notice)
                raise
        raise AssertionError("at least one attempt returns")
