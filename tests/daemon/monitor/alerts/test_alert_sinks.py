"""Sinks are told of alerts at least once, signed, in order, and later where that helps; nobody waits for them."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from pydantic import ValidationError

from hook_kit import receiver
from skill_actors.runtime import Backoff
from skill_actors.telemetry import Bus
from skilld.config import AlertsConfig
from skilld.hooks import HookFailed, Notice
from skilld.monitor.alerts.alert import AlertRules, Seen
from skilld.monitor.alerts.alerts import Alerts
from skilld.monitor.alerts.sinks import AlertSender, notice_of, sinks_of
from skilld.monitor.alerts.store import AlertStore, WantedAlerts
from support import run
from tree_kit import open_tree

RULES = AlertRules(min_severity="low", dedup_s=300, per_minute=100, keep_s=86_400, max_alerts=1_000, sinks=("webhook",))
KEY = "AKIA" + "QWERTYUIOPASDFGH"  # well-formed, and nobody's


def seen(id: int) -> Seen:
    return Seen(
        id=id,
        event=id,
        uid=1,
        agent="shop",
        session=f"s{id}",
        rule="r",
        category="sensitive_data",
        severity="high",
        confidence=0.9,
        direction="input",
        sample="[masked]",
        trace="ab",
        span=None,
        told=True,
    )


class Target:
    """Does what a test says for the next calls, and remembers what it was told."""

    def __init__(self, *answers: HookFailed | None) -> None:
        self.answers = list(answers)
        self.told: list[dict[str, Any]] = []
        self.tried: list[tuple[float, int]] = []

    async def __call__(self, notice: Notice) -> None:
        body = json.loads(notice.body)
        self.tried.append((trio.current_time(), body["id"]))
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.told.append(body)


@asynccontextmanager
async def sending(
    folder: Path, sink: str, tell: Callable[[Notice], Awaitable[None]]
) -> AsyncIterator[tuple[Alerts, list[Any]]]:
    """A sender on a store of its own, and the outcomes that it tells the bus."""
    store, bus = AlertStore(folder / "alerts.db"), Bus()
    alerts, outcomes = Alerts(store), list[Any]()
    bus.attach("test", ("monitor.alert.told",), lambda _n, _f, meta: outcomes.append(meta["outcome"]))

    async def ready() -> Alerts:
        return alerts

    sender = AlertSender(sink, ready, tell, bus, pauses=Backoff(initial_s=0.01, max_s=0.02), jitter=lambda: 0.0)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender._send_on)
            yield alerts, outcomes
            nursery.cancel_scope.cancel()
    finally:
        store.close()


async def until(alerts: Alerts, sink: str) -> None:
    """Return when this sink was told of everything."""
    with trio.fail_after(60):
        while await alerts.run(partial(alerts.store.untold, sink)) is not None:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


def later() -> HookFailed:
    return HookFailed("away", retry=True)


def never() -> HookFailed:
    return HookFailed("it answers 400", retry=False)


@pytest.mark.parametrize("answers", [[], [later()], [later(), later()]])
def test_each_alert_is_told_in_order_also_when_it_fails_first(tmp_path: Path, answers: Sequence[HookFailed]) -> None:
    async def main() -> None:
        target = Target(*answers)
        async with sending(tmp_path, "webhook", target) as (alerts, outcomes):
            await alerts.take_in([seen(1), seen(2)], RULES)
            await until(alerts, "webhook")
            assert [body["id"] for body in target.told] == [1, 2]
            assert outcomes == ["failed"] * len(answers) + ["ok", "ok"]
            await alerts.take_in([seen(3)], RULES)
            await until(alerts, "webhook")
            assert target.told[-1]["id"] == 3

    run(main)


def test_one_alert_that_is_never_taken_holds_up_no_other(tmp_path: Path) -> None:
    class Picky(Target):
        bad = True

        async def __call__(self, notice: Notice) -> None:
            self.answers = [later()] if self.bad and json.loads(notice.body)["id"] == 1 else []
            await super().__call__(notice)

    async def main() -> None:
        target = Picky()
        async with sending(tmp_path, "webhook", target) as (alerts, outcomes):
            await alerts.take_in([seen(1), seen(2), seen(3)], RULES)
            with trio.fail_after(20):
                while len(target.told) < 2:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.01)
            assert [id for _, id in target.tried][:12] == [1] * 10 + [2, 3]
            await alerts.take_in([seen(4)], RULES)
            with trio.fail_after(20):
                while len(target.told) < 3:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            assert outcomes[:12] == ["failed"] * 10 + ["ok"] * 2
            target.bad = False
            await until(alerts, "webhook")
            assert [body["id"] for body in target.told] == [2, 3, 4, 1]

    run(main)


def test_what_a_receiver_refuses_for_good_is_given_up_and_the_next_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        target = Target(never(), None)
        async with sending(tmp_path, "webhook", target) as (alerts, outcomes):
            await alerts.take_in([seen(1), seen(2)], RULES)
            await until(alerts, "webhook")
            assert ([body["id"] for body in target.told], outcomes) == ([2], ["given_up", "ok"])

    run(main)


def test_a_program_that_fails_is_run_again_and_then_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        rules = AlertRules(**{**{name: getattr(RULES, name) for name in RULES.__slots__}, "sinks": ("exec",)})
        target = Target(never(), never(), never())
        async with sending(tmp_path, "exec", target) as (alerts, outcomes):
            await alerts.take_in([seen(1)], rules)
            await until(alerts, "exec")
            assert outcomes == ["failed", "failed", "given_up"]
            assert [id for _, id in target.tried] == [1, 1, 1], "the same one, by its id"

    run(main)


def test_a_sink_hears_of_alerts_also_when_who_keeps_them_was_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        target, places, made = Target(), [Alerts(AlertStore(tmp_path / "alerts.db"))], trio.Event()

        async def now() -> Alerts:
            if not places:
                await made.wait()
            return places[0]

        sender = AlertSender("webhook", now, target, Bus())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender._send_on)
            await trio.testing.wait_all_tasks_blocked(0.05)
            await places.pop().end()
            again = Alerts(AlertStore(tmp_path / "alerts.db"))
            places.append(again)
            made.set()
            await again.take_in([seen(1)], RULES)
            await until(again, "webhook")
            assert [body["id"] for body in target.told] == [1]
            nursery.cancel_scope.cancel()
        again.store.close()

    run(main)


def test_who_waits_for_alerts_waits_no_more_when_they_end(tmp_path: Path) -> None:
    async def main() -> None:
        alerts = Alerts(AlertStore(tmp_path / "alerts.db"))
        async with trio.open_nursery() as nursery:
            with trio.fail_after(10):
                nursery.start_soon(alerts.end)
                assert await alerts.find(WantedAlerts(uid=None, after=0), wait_s=60) == []

    run(main)


def test_what_is_not_told_when_the_daemon_ends_is_told_by_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        async def hang(notice: Notice) -> None:
            began.set()
            await trio.sleep_forever()

        began = trio.Event()
        async with sending(tmp_path, "webhook", hang) as (alerts, _):
            await alerts.take_in([seen(1), seen(2)], RULES)
            await began.wait()
        target = Target()
        async with sending(tmp_path, "webhook", target) as (alerts, _):
            await until(alerts, "webhook")
            assert [body["id"] for body in target.told] == [1, 2]

    run(main)


def test_a_notice_has_the_alert_as_the_socket_shows_it(tmp_path: Path) -> None:
    store = AlertStore(tmp_path / "alerts.db")
    (alert,) = store.take_in([seen(1)], RULES, 1_700_000_000_000_000).new
    store.close()
    body = json.loads(notice_of(alert).body)
    assert body == {"type": "monitor.alert", **alert.to_dict()}
    assert (body["level"], body["verdict"], body["first"]) == ("dangerous", "deny", "2023-11-14T22:13:20.000Z")


def test_the_daemon_tells_a_receiver_by_a_signed_post_and_a_program_by_its_input(tmp_path: Path) -> None:
    secret, got, program = tmp_path / "secret", tmp_path / "got", tmp_path / "program"
    secret.write_text("of-both-sides\n")
    secret.chmod(0o600)
    program.write_text(f"#!/bin/sh\nenv > {got}.env\ncat > {got}.part\nmv {got}.part {got}\nyes | head -c 5000000\n")
    program.chmod(0o755)

    async def main() -> None:
        async with receiver() as found:
            flags = {"url": found.url, "secret_file": secret, "exec": [str(program), "a b"]}
            config: dict[str, Any] = {f"monitor.alerts.{name}": value for name, value in flags.items()}
            async with open_tree(tmp_path, **config) as tree:
                alerts = await tree.parts.alerts.wait()
                await alerts.take_in([seen(1)], AlertRules(**{**_fields(RULES), "sinks": ("exec", "webhook")}))
                (told,) = await found.wait_told(1)
                await until(alerts, "webhook")
                await until(alerts, "exec")
        (head,) = found.heads
        at = re.search(r"x-skilld-timestamp: (\d+)", head)[1]  # type: ignore[index]
        body = json.dumps(told).encode()
        signed = hmac.new(b"of-both-sides", f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        assert f"x-skilld-signature: sha256={signed}" in head
        assert (told["type"], told["id"], told["rule"]) == ("monitor.alert", 1, "r")
        assert json.loads(got.read_text()) == told
        variables = {line.partition("=")[0] for line in got.with_name("got.env").read_text().splitlines()}
        assert variables <= {"PATH", "LANG", "SKILLD_EVENT", "PWD", "SHLVL", "_"}

    run(main)


def _fields(rules: AlertRules) -> dict[str, Any]:
    return {name: getattr(rules, name) for name in rules.__slots__}


def test_a_url_that_would_give_alerts_to_the_network_is_refused_and_its_path_never_shown() -> None:
    for url in ("http://alerts.example.com/x", "ftp://localhost/x", "https://u:p@example.com/", "https:///x", "x"):
        with pytest.raises(ValidationError, match=r"must (be|have)"):
            AlertsConfig(url=url)
    made = AlertsConfig(url="https://alerts.example.com/T0K3N?key=secret")
    assert "T0K3N" not in repr(made)
    assert sinks_of(made) == ("webhook",)
    assert sinks_of(AlertsConfig(exec=("/bin/true",))) == ("exec",)
    with pytest.raises(ValidationError, match="absolute path"):
        AlertsConfig(exec=("true",))
