"""Links: who ends with whom, how, and what is left of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import trio
import trio.lowlevel

from runtime_kit import settle, spawner
from skill_actors.runtime import (
    Ask,
    ChildSpec,
    Down,
    ExitKind,
    ExitReason,
    LinkedActorEnded,
    Restart,
    StartFailed,
    Strategy,
    TrioActor,
    TrioActorRef,
    open_system,
)
from skill_actors.runtime.links import inherited
from support import run_virtual


@dataclass(frozen=True, slots=True)
class Nap(Ask[None]):
    seconds: float


class Linked(TrioActor):
    def __init__(self, *partners: TrioActorRef[Any]) -> None:
        super().__init__()
        self.partners = partners
        self.log: list[str] = []
        self.downs: list[Down] = []

    def on_start(self) -> None:
        for partner in self.partners:
            self.link(partner)

    async def on_receive(self, message: Any) -> None:
        if isinstance(message, BaseException):
            raise message
        if isinstance(message, Nap):
            await trio.sleep(message.seconds)
            self.log.append("napped")
        else:
            self.stop()

    def on_down(self, down: Down) -> None:
        self.downs.append(down)

    def on_stop(self) -> None:
        self.log.append("on_stop")

    def on_failure(self, _kind: Any, error: Any, _trace: Any) -> None:
        self.log.append(f"on_failure {type(error).__name__}")


class Trapping(Linked):
    trap_exits = True


class Stubborn(Linked):
    interruptible = False


class Slow(Linked):
    async def teardown(self, reason: ExitReason) -> None:
        await trio.sleep(1000)


def test_a_crash_takes_linked_actors_along_in_both_directions_and_further() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            first = await dynamic.spawn(Linked, id="first")
            second = await dynamic.spawn(Linked(first), id="second")
            third = await dynamic.spawn(Linked(second), id="third")
            alone = await dynamic.spawn(Linked, id="alone")
            second.tell(ValueError("broke"))
            for ref in (first, third):
                reason = await ref.wait_stopped()
                assert reason.kind is ExitKind.CRASH
                assert isinstance(reason.error, LinkedActorEnded)
                assert str(reason.error) == "Linked ended, which it was linked to: crash: ValueError: broke"
            assert alone.is_alive()
            assert trio.current_time() == 0

    run_virtual(main)


def test_a_normal_end_takes_nobody_along_and_other_ends_keep_their_kind() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            one = await dynamic.spawn(Linked, id="one")
            other = Linked(one)
            ref = await dynamic.spawn(other, id="other")
            one.tell("stop")
            assert (await one.wait_stopped()).kind is ExitKind.NORMAL
            await settle()
            assert ref.is_alive()

            one = await dynamic.spawn(Linked, id="one")
            other.link(one)
            await dynamic.terminate_child("one")
            reason = await ref.wait_stopped()
            assert reason.kind is ExitKind.SHUTDOWN
            assert other.log == ["on_stop"]

    run_virtual(main)


def test_kinds_of_ends_that_are_inherited() -> None:
    kinds = {kind: inherited("Other", ExitReason(kind, None)) for kind in ExitKind}
    assert {kind: reason and reason.kind for kind, reason in kinds.items()} == {
        ExitKind.NORMAL: None,
        ExitKind.SHUTDOWN: ExitKind.SHUTDOWN,
        ExitKind.KILLED: ExitKind.KILLED,
        ExitKind.CRASH: ExitKind.CRASH,
        ExitKind.INIT: ExitKind.CRASH,
    }


def test_an_actor_that_traps_exits_is_told_of_every_kind() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            watcher = Trapping()
            await dynamic.spawn(watcher, id="watcher")
            for number, message in enumerate(["stop", ValueError("x")]):
                ref = await dynamic.spawn(Linked, id=str(number))
                watcher.link(ref)
                ref.tell(message)
                reason = await ref.wait_stopped()
                await settle()
                assert watcher.downs[number] == Down(ref, reason)
            assert [down.reason.kind for down in watcher.downs] == [ExitKind.NORMAL, ExitKind.CRASH]
            watched = await dynamic.spawn(Linked, id="watched")
            watcher.link(watched)
            await dynamic.terminate_child("watcher")
            assert (await watched.wait_stopped()).kind is ExitKind.SHUTDOWN  # only this end of the link traps

    run_virtual(main)


def test_linking_a_dead_actor_acts_at_once() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            dead = await dynamic.spawn(Linked, id="dead")
            gone = await dynamic.spawn(Linked, id="gone")
            dead.tell(ValueError("x"))
            gone.tell("stop")
            reason = await dead.wait_stopped()
            await gone.wait_stopped()

            told = Trapping(dead, gone)
            await dynamic.spawn(told, id="told")
            await settle()
            assert [(down.ref, down.reason.kind) for down in told.downs] == [
                (dead, ExitKind.CRASH),
                (gone, ExitKind.NORMAL),
            ]
            calm = await dynamic.spawn(Linked(gone), id="calm")
            await settle()
            assert calm.is_alive()
            late = Linked()
            ref = await dynamic.spawn(late, id="late")
            late.link(dead)
            ended = await ref.wait_stopped()
            assert (ended.kind, str(reason) in str(ended.error)) == (ExitKind.CRASH, True)

    run_virtual(main)


def test_an_actor_that_links_a_crashed_one_before_it_serves_does_not_start() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            dead = await dynamic.spawn(Linked, id="dead")
            dead.tell(ValueError("x"))
            await dead.wait_stopped()

            class Waiting(Linked):
                async def setup(self) -> None:
                    self.link(dead)
                    await trio.sleep(100)

            with pytest.raises(StartFailed, match="which it was linked to"):
                await dynamic.spawn(Waiting, id="waiting")
            assert trio.current_time() == 0

    run_virtual(main)


def test_unlink_and_demonitor_leave_no_entry_behind() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            one, other = Linked(), Linked()
            refs = [await dynamic.spawn(one, id="one"), await dynamic.spawn(other, id="other")]
            for _ in range(3):
                one.link(refs[1])
            other.link(refs[0])
            assert [len(ref._cell._monitors or ()) for ref in refs] == [1, 1]
            assert one.unlink(refs[1])
            assert not one.unlink(refs[1])
            assert not other.unlink(refs[0])
            key = one.monitor(refs[1])
            assert one.demonitor(refs[1], key)
            assert [ref._cell._monitors for ref in refs] == [None, None]
            refs[0].tell(ValueError("x"))
            await refs[0].wait_stopped()
            await settle()
            assert refs[1].is_alive()

            third = await dynamic.spawn(Linked, id="third")
            other.link(third)
            third.tell("stop")
            await third.wait_stopped()
            assert refs[1]._cell._monitors is None

    run_virtual(main)


def test_an_actor_is_not_linked_to_itself() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            actor = Trapping()
            ref = await dynamic.spawn(actor, id="a")
            actor.link(ref)
            assert ref._cell._monitors is None
            assert not actor.unlink(ref)

    run_virtual(main)


@pytest.mark.parametrize(("made", "napped"), [(Linked, False), (Stubborn, True)])
def test_a_linked_end_cancels_the_running_handler_of_the_interruptible(made: type[Linked], napped: bool) -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            one = await dynamic.spawn(Linked, id="one")
            other = made(one)
            ref = await dynamic.spawn(other, id="other")
            ref.tell(Nap(3))
            await settle()
            one.tell(ValueError("x"))
            assert (await ref.wait_stopped()).kind is ExitKind.CRASH
            assert trio.current_time() == (3 if napped else 0)
            assert other.log == (["napped"] if napped else []) + ["on_failure LinkedActorEnded"]

    run_virtual(main)


def test_stop_hooks_after_a_linked_end_are_bounded_by_the_spec() -> None:
    async def main() -> None:
        async with spawner(shutdown_s=7) as (_, dynamic):
            one = await dynamic.spawn(Linked, id="one")
            ref = await dynamic.spawn(Slow(one), id="slow")
            one.tell(ValueError("x"))
            reason = await ref.wait_stopped()
            assert trio.current_time() == pytest.approx(7)
            assert reason.kind is ExitKind.KILLED
            assert isinstance(reason.error, LinkedActorEnded)

    run_virtual(main)


@pytest.mark.parametrize("restart", list(Restart))
def test_a_linked_pair_is_restarted_by_its_supervisor_as_usual(restart: Restart) -> None:
    class Second(Linked):
        def on_start(self) -> None:
            self.link(self.directory.ref("first"))

    async def main() -> None:
        specs = [
            ChildSpec(id="first", factory=Linked, name="first"),
            ChildSpec(id="second", factory=Second, name="second", restart=restart),
        ]
        async with open_system(specs, strategy=Strategy.ONE_FOR_ONE, max_restarts=10) as system:
            first, second = system.directory.ref("first"), system.directory.ref("second")
            first.tell(ValueError("x"))
            await second.wait_stopped()
            await settle()
            assert system.directory.ref("first") is not first
            now = system.directory.whereis("second")
            assert (now is None) == (restart is Restart.TEMPORARY)
            if now is None:
                return
            assert now is not second
            now.tell(ValueError("y"))  # the new pair is linked again
            await now.wait_stopped()
            await settle()
            assert {name: info.restarts for name, info in ((i.id, i) for i in system.walk())} == {
                "root": 0,
                "first": 2,
                "second": 2,
            }

    run_virtual(main)


def test_a_shutdown_of_linked_siblings_is_an_ordinary_one() -> None:
    async def main() -> None:
        async with open_system([]) as system:
            one = await system.root.start_child(ChildSpec(id="one", factory=Linked))
            other = Linked(one)
            await system.root.start_child(ChildSpec(id="other", factory=lambda: other))
            await system.shutdown()
            assert other.log == ["on_stop"]
            assert trio.current_time() == 0

    run_virtual(main)
