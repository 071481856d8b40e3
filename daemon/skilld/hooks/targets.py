"""The targets that the configuration names, and the queue of each, which outlives whoever empties it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from skill_actors.backends.workers import WorkersRef
from skill_actors.runtime import ChildSpec
from skill_actors.telemetry import Bus, Measurements, Metadata
from skilld.hooks.notice import BUS_EVENTS, notice_of
from skilld.hooks.program import Program
from skilld.hooks.queue import NoticeQueue
from skilld.hooks.sender import LAST_S, HookSender
from skilld.hooks.webhook import Webhook, bearer

if TYPE_CHECKING:
    from skilld.config import HooksConfig

__all__ = ["Hooks"]


class Hooks:
    """Makes a notice of each event that is asked for, and puts it into the queue of each target.

    Args:
        config: the section in force. Its events may change meanwhile; the targets are those of the start.
        workers: as `Program` has it.
        version: of the daemon, for receivers.

    """

    def __init__(
        self, config: Callable[[], HooksConfig], bus: Bus, workers: Callable[[], WorkersRef], version: str
    ) -> None:
        self._current = config
        self._config = config()
        self._bus = bus
        self._workers = workers
        self._version = version
        named = {"exec": bool(self._config.exec), "webhook": bool(self._config.url)}
        self.queues = {name: self._queue(name) for name, is_named in named.items() if is_named}
        if self.queues:
            bus.attach("hooks", BUS_EVENTS, self._hear)

    def children(self) -> list[ChildSpec]:
        """The senders, one for each target."""
        tells: dict[str, Callable[[], Program | Webhook]] = {"exec": self._program, "webhook": self._webhook}
        return [
            ChildSpec(
                id=f"hook-{name}",
                factory=partial(self._sender, name, queue, tells[name]),
                isolated=True,
                shutdown_s=LAST_S + 3.0,
            )
            for name, queue in self.queues.items()
        ]

    def _sender(self, name: str, queue: NoticeQueue, make: Callable[[], Program | Webhook]) -> HookSender:
        return HookSender(name, queue, make(), self._bus, attempts=self._config.attempts)

    def _program(self) -> Program:
        return Program(self._config.exec, self._config.timeout_s, self._workers)

    def _webhook(self) -> Webhook:
        return Webhook(self._config, self._version, bearer(self._config.token_file), key="hooks.token_file")

    def _queue(self, target: str) -> NoticeQueue:
        def tell_of_a_drop() -> None:
            self._bus.emit("hook.stop", {}, {"target": target, "outcome": "dropped"})

        return NoticeQueue(self._config.queue, tell_of_a_drop)

    def _hear(self, name: str, facts: Measurements, meta: Metadata) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        notice = notice_of(name, facts, meta, now)
        if notice.event in self._current().events:
            for queue in self.queues.values():
                queue.add(notice)
