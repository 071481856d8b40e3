"""Who is told of alerts outside the daemon: a receiver by a signed POST, and a program.

waiting --alert--> telling --done--> waiting
                     |---- may work later: pause, which grows while nothing works, then the same alert again
                     |---- so for the tenth time: the next, and this one again behind all others
                     |---- refused for good: given up, counted, and the next

What is not told waits in the store of alerts, so that neither the daemon's end nor a receiver that is away loses one,
but for what the store has to remove meanwhile. After a crash an alert may be told twice; its id says so.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

import trio

from skill_actors.models.credentials import KeyFile
from skill_actors.runtime import Backoff, TrioActor
from skill_actors.telemetry import Bus
from skilld.hooks import HookFailed, Notice
from skilld.hooks.program import Program
from skilld.hooks.webhook import Webhook
from skilld.monitor.alerts.alert import Alert
from skilld.monitor.alerts.alerts import Alerts

if TYPE_CHECKING:
    from pathlib import Path

    from skilld.config import AlertsConfig
    from skilld.parts import Parts

__all__ = ["SINKS", "AlertSender", "notice_of", "sinks_of", "tell_of"]

_log = logging.getLogger(__name__)

SINKS: Final = ("exec", "webhook")
_EVENT: Final = "monitor.alert"
_PAUSES: Final = Backoff(initial_s=1.0, max_s=300.0)
_ATTEMPTS: Final = 10  # a quarter of an hour; then it may be the alert's own fault
_RUNS: Final = 3  # of a program that ends with an error: its next run may find what it needs


def sinks_of(config: AlertsConfig) -> tuple[str, ...]:
    """Who is told by this configuration."""
    return tuple(name for name, given in zip(SINKS, (config.exec, config.url), strict=True) if given)


def notice_of(alert: Alert) -> Notice:
    """What a sink is told: the alert as the socket shows it, which holds nothing that a rule masks."""
    body = {"type": _EVENT, **alert.to_dict()}
    return Notice(event=_EVENT, session=alert.session, turn="", body=json.dumps(body).encode())


def tell_of(parts: Parts, sink: str) -> Callable[[Notice], Awaitable[None]]:
    """What tells this sink; raises HookFailed."""
    config = parts.config.monitor.alerts
    if sink == "exec":
        return Program(config.exec, config.timeout_s, lambda: parts.workers.get()())
    proof = _signature(config.secret_file, time.time)
    return Webhook(config, parts.version, proof, key="monitor.alerts.secret_file")


def _signature(secret_file: Path | None, now: Callable[[], float]) -> Callable[[Notice], Mapping[str, str]]:
    """Headers that only who has the secret can make: HMAC-SHA256 over the time, a dot and the body."""
    secret = None if secret_file is None else KeyFile(secret_file, what="secret")

    def headers(notice: Notice) -> Mapping[str, str]:
        at = str(int(now()))
        if secret is None:
            return {"x-skilld-timestamp": at}
        signed = hmac.new(secret().encode(), at.encode() + b"." + notice.body, hashlib.sha256).hexdigest()
        return {"x-skilld-timestamp": at, "x-skilld-signature": f"sha256={signed}"}

    return headers


class AlertSender(TrioActor):
    """Tells one sink of alerts, the oldest first, one at a time; what fails again and again holds up no other.

    Args:
        alerts: those of now, as soon as there are any.
        pauses: between attempts, the longer the more failed one after the other.
        jitter: a number from 0 to 1, so that many daemons do not come back at once.

    """

    def __init__(
        self,
        sink: str,
        alerts: Callable[[], Awaitable[Alerts]],
        tell: Callable[[Notice], Awaitable[None]],
        bus: Bus,
        *,
        pauses: Backoff = _PAUSES,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self._sink = sink
        self._alerts = alerts
        self._tell = tell
        self._bus = bus
        self._pauses = pauses
        self._jitter = jitter
        self._runs = _RUNS if sink == "exec" else 1
        self._failures = 0
        self._last = 0
        self._passed_over: set[int] = set()

    async def setup(self) -> None:
        self.spawn(self._send_on)

    async def _send_on(self) -> None:
        while True:
            alert = await (await self._alerts()).next_untold(self._sink, self._last)
            if alert is None:  # they ended, and are made again
                continue
            self._last = alert.id
            if await self._send(alert, self._runs if alert.id in self._passed_over else _ATTEMPTS):
                self._passed_over.discard(alert.id)
                await (await self._alerts()).told(self._sink, alert)
            else:
                self._passed_over.add(alert.id)

    async def _send(self, alert: Alert, attempts: int) -> bool:
        """Whether it was told or is given up, after so many attempts at the most, and the pause behind the last."""
        runs = 0
        for _ in range(attempts):
            began = trio.current_time()
            try:
                await self._tell(notice_of(alert))
            except HookFailed as error:
                runs += not error.retry
                given_up = runs >= self._runs
                self._failed(alert, error, began, given_up=given_up)
                if given_up:
                    return True
                await trio.sleep(
                    max(self._pauses.delay_s(self._failures - 1), error.after_s) * (1 + self._jitter() / 4)
                )
            else:
                self._count("ok", began)
                if self._failures:
                    _log.info("alerts: %s takes them again", self._sink)
                self._failures = 0
                return True
        return False

    def _failed(self, alert: Alert, error: HookFailed, began: float, *, given_up: bool) -> None:
        self._count("given_up" if given_up else "failed", began)
        self._failures += 1
        if given_up or self._failures == 1:
            what = "is not told of it" if given_up else "is told again later; further failures are only counted"
            _log.warning("alerts: %s was not told of alert %d, and %s: %s", self._sink, alert.id, what, error)

    def _count(self, outcome: str, began: float) -> None:
        facts = {"duration": trio.current_time() - began}
        self._bus.emit("monitor.alert.told", facts, {"sink": self._sink, "outcome": outcome})
