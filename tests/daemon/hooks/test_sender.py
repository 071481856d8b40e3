"""The sender: in order, again where that helps, a queue that overflows, and a stop."""

from __future__ import annotations

import logging

import pytest
import trio

from skill_actors.runtime import ChildSpec, open_system
from skill_actors.telemetry import Bus
from skilld.hooks import HookFailed, HookSender, Notice, NoticeQueue
from support import run_virtual


class Target:
    """Fails as often as it is told, then takes; remembers what it took, and when it was called."""

    def __init__(self, *failures: HookFailed, hangs_s: float = 0.0) -> None:
        self.failures = list(failures)
        self.hangs_s = hangs_s
        self.called: list[float] = []
        self.told: list[str] = []

    async def __call__(self, notice: Notice) -> None:
        self.called.append(trio.current_time())
        await trio.sleep(self.hangs_s)
        if self.failures:
            raise self.failures.pop(0)
        self.told.append(notice.turn)


class Rig:
    def __init__(self, target: Target, size: int = 100, attempts: int = 3) -> None:
        self.bus = Bus()
        self.outcomes: list[object] = []
        self.bus.attach("test", ["hook.stop"], lambda _name, _facts, meta: self.outcomes.append(meta["outcome"]))
        self.queue = NoticeQueue(size, lambda: self.bus.emit("hook.stop", {}, {"outcome": "dropped"}))
        self.spec = ChildSpec(
            id="hook",
            factory=lambda: HookSender("exec", self.queue, target, self.bus, attempts=attempts, jitter=lambda: 0.0),
            isolated=True,
            shutdown_s=8.0,
        )

    def add(self, *turns: str) -> None:
        for turn in turns:
            self.queue.add(Notice(event="turn.finished", session="ses_a", turn=turn, body=b"{}"))


def later(after_s: float = 0.0) -> HookFailed:
    return HookFailed("busy", retry=True, after_s=after_s)


def test_notices_are_told_in_order() -> None:
    target = Target()

    async def main() -> None:
        rig = Rig(target)
        rig.add("a", "b")
        async with open_system([rig.spec]):
            await trio.sleep(1)
            rig.add("c")
            await trio.sleep(1)
        assert rig.outcomes == ["ok"] * 3

    run_virtual(main)
    assert target.told == ["a", "b", "c"]


def test_what_may_work_later_is_tried_again_with_growing_pauses_and_keeps_its_place() -> None:
    target = Target(later(), later())

    async def main() -> None:
        rig = Rig(target)
        rig.add("a", "b")
        async with open_system([rig.spec]):
            await trio.sleep(60)

    run_virtual(main)
    began = target.called[0]
    assert [at - began for at in target.called] == pytest.approx([0, 1, 3, 3])
    assert target.told == ["a", "b"]


def test_a_receiver_that_asks_for_a_pause_gets_it_but_not_for_ever() -> None:
    target = Target(later(20.0), later(9999.0))

    async def main() -> None:
        rig = Rig(target)
        rig.add("a")
        async with open_system([rig.spec]):
            await trio.sleep(200)

    run_virtual(main)
    began = target.called[0]
    assert [at - began for at in target.called] == pytest.approx([0, 20, 80])


def test_after_its_attempts_a_notice_is_given_up_and_the_next_one_told(caplog: pytest.LogCaptureFixture) -> None:
    target = Target(later(), later(), later(), HookFailed("no", retry=False))

    async def main() -> None:
        rig = Rig(target)
        rig.add("a", "b", "c")
        async with open_system([rig.spec]):
            await trio.sleep(60)
        assert rig.outcomes == ["failed", "failed", "ok"]

    with caplog.at_level(logging.INFO, "skilld"):
        run_virtual(main)
    assert target.told == ["c"]
    assert caplog.text.count("was not told") == 1, "a receiver that is down is no reason to fill the log"
    assert "takes notices again" in caplog.text


def test_a_hanging_target_holds_nobody_up_and_the_oldest_notices_go() -> None:
    async def main() -> None:
        rig = Rig(Target(hangs_s=1e6), size=10)
        async with open_system([rig.spec]):
            rig.add("first")
            await trio.sleep(1)
            began = trio.current_time()
            rig.add(*(str(n) for n in range(50)))
            assert trio.current_time() == began
            assert rig.outcomes == ["dropped"] * 40
            assert len(rig.queue) == 10
        assert trio.current_time() - began <= 9, "the stop does not wait for it"

    run_virtual(main)


def test_at_a_stop_what_is_in_hand_and_what_waits_is_still_told() -> None:
    target = Target(hangs_s=1.0)

    async def main() -> None:
        rig = Rig(target)
        async with open_system([rig.spec]) as system:
            rig.add("a", "b", "c")
            await trio.sleep(0.5)
            system.request_shutdown()

    run_virtual(main)
    assert target.told == ["a", "b", "c"]


def test_a_stop_in_a_pause_leaves_the_notice_in_the_queue(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        rig = Rig(Target(later(50.0), later(50.0)))
        rig.add("a", "b")
        async with open_system([rig.spec]):
            await trio.sleep(1)
        assert [rig.queue.take().turn, rig.queue.take().turn] == ["a", "b"]
        assert rig.outcomes == []

    run_virtual(main)
    assert "2 notices for exec are not sent" in caplog.text


def test_an_idle_sender_stops_at_once() -> None:
    async def main() -> None:
        rig = Rig(Target())
        async with open_system([rig.spec]):
            await trio.sleep(1)
            began = trio.current_time()
        assert trio.current_time() - began < 1

    run_virtual(main)


def test_a_sender_that_crashes_is_made_again_and_goes_on() -> None:
    target = Target(hangs_s=0.1)

    async def failing(notice: Notice) -> None:
        if notice.turn == "bad":
            raise RuntimeError("a bug")
        await target(notice)

    async def main() -> None:
        rig = Rig(target)
        spec = ChildSpec(
            id="hook", factory=lambda: HookSender("exec", rig.queue, failing, rig.bus, attempts=1), isolated=True
        )
        rig.add("a", "bad", "b")
        async with open_system([spec]):
            await trio.sleep(60)
        assert rig.outcomes == ["ok", "failed", "ok"]

    run_virtual(main)
    assert target.told == ["a", "b"]
