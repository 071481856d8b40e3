"""Calls that could only wait for themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trio
import trio.lowlevel

from runtime_kit import settle, spawner
from skill_actors.runtime import (
    Ask,
    AskCycle,
    ChildSpec,
    Down,
    ExitKind,
    StartFailed,
    Supervisor,
    SupervisorRef,
    Timeout,
    TrioActor,
    TrioActorRef,
    open_system,
)
from skill_actors.runtime.chain import caller
from support import run_virtual

Ref = TrioActorRef[Any]


@dataclass(frozen=True, slots=True)
class Via(Ask[str]):
    """Ask the first of the path to ask the rest."""

    path: tuple[Ref, ...] = ()


@dataclass(frozen=True, slots=True)
class Do(Ask[Any]):
    """Await `work(actor)` in the handler."""

    work: Callable[[Any], Any]


async def nap(_actor: Any) -> None:
    await trio.sleep(3)


class Node(TrioActor):
    async def on_receive(self, message: Any) -> Any:
        match message:
            case Via(path=(first, *rest)):
                return await first.call(Via(tuple(rest)), timeout=None)
            case Do(work=work):
                return await work(self)
        return "end"


class A(Node):
    pass


class B(Node):
    pass


class C(Node):
    pass


def test_a_call_to_itself_is_refused_at_once_and_names_the_chain() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            ref = await dynamic.spawn(A, id="a")
            with pytest.raises(AskCycle, match="wait for itself: A -> A;"):
                await ref.call(Via((ref,)), timeout=None)
            assert (await ref.wait_stopped()).kind is ExitKind.CRASH
            assert trio.current_time() == 0

    run_virtual(main)


@pytest.mark.parametrize("length", [2, 3])
def test_a_call_back_into_the_chain_is_refused_at_its_end(length: int) -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            refs = [await dynamic.spawn(made, id=made.__name__) for made in (A, B, C)[:length]]
            names = " -> ".join(["A", "B", "C"][:length])
            last = ["A", "B", "C"][length - 1]
            with pytest.raises(AskCycle, match=f"wait for itself: {last} -> {names};"):
                await refs[0].call(Via((*refs[1:], refs[0])), timeout=None)

    run_virtual(main)


def test_the_refused_call_sends_nothing_and_may_be_survived() -> None:
    async def main() -> None:
        async def try_it(actor: Node) -> str:
            with contextlib.suppress(AskCycle):
                await actor.actor_ref.call(Via(), timeout=None)
            assert actor.actor_ref.depth == 0
            return "survived"

        async with spawner() as (_, dynamic):
            ref = await dynamic.spawn(A, id="a")
            assert await ref.call(Do(try_it)) == "survived"
            assert ref._cell.waits_for is None
            assert await ref.call(Via()) == "end"

    run_virtual(main)


def test_two_that_call_each_other_at_once_do_not_wait_for_a_timeout() -> None:
    async def main() -> None:
        async def later(actor: Node, other: Ref) -> str:
            await trio.sleep(1)
            return await other.call(Via(), timeout=None)

        async with spawner() as (_, dynamic):
            a, b = await dynamic.spawn(A, id="a"), await dynamic.spawn(B, id="b")
            outcomes = []

            async def ask(ref: Ref, other: Ref) -> None:
                try:
                    outcomes.append(await ref.call(Do(lambda actor: later(actor, other)), timeout=None))
                except Exception as error:
                    outcomes.append(type(error).__name__)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, a, b)
                nursery.start_soon(ask, b, a)
            assert trio.current_time() == 1
            assert sorted(outcomes) == ["ActorDeadError", "AskCycle"]  # one crashed, which answered the other

    run_virtual(main)


def test_tasks_of_a_nursery_opened_by_a_handler_are_the_actor() -> None:
    async def main() -> None:
        async def in_nursery(actor: Node) -> None:
            async with trio.open_nursery() as outer, trio.open_nursery() as inner:
                outer.start_soon(trio.lowlevel.checkpoint)
                inner.start_soon(lambda: actor.actor_ref.call(Via(), timeout=None))

        async with spawner() as (_, dynamic):
            ref = await dynamic.spawn(A, id="a")
            with pytest.raises(ExceptionGroup) as caught:
                await ref.call(Do(in_nursery), timeout=None)
            assert caught.group_contains(AskCycle)

    run_virtual(main)


def test_jobs_and_tasks_of_other_nurseries_are_not_the_actor() -> None:
    async def main() -> None:
        answers: list[str] = []

        async def ask(ref: Ref) -> None:
            assert caller() is None
            answers.append(await ref.call(Via(), timeout=None))

        async def by_job(actor: Node) -> None:
            actor.spawn(ask, actor.actor_ref)

        async def by_nursery(actor: Node) -> None:
            nursery.start_soon(ask, actor.actor_ref)
            await trio.sleep(1)  # it calls while the actor is in this handler

        async with spawner() as (_, dynamic), trio.open_nursery() as nursery:
            ref = await dynamic.spawn(A, id="a")
            await ref.call(Do(by_job))
            await ref.call(Do(by_nursery))
            await settle()
            assert answers == ["end", "end"]

    run_virtual(main)


def test_on_down_that_calls_back_is_part_of_the_chain() -> None:
    class Watching(Node):
        async def on_down(self, down: Down) -> None:
            try:
                await watched[0].call(Via((self.actor_ref,)), timeout=None)
            except AskCycle as error:
                seen.append(str(error))

    seen: list[str] = []
    watched: list[Ref] = []

    async def main() -> None:
        async with spawner() as (_, dynamic):
            watched.append(await dynamic.spawn(B, id="b"))
            short = await dynamic.spawn(C, id="c")
            actor = Watching()
            await dynamic.spawn(actor, id="w")
            actor.monitor(short)
            await dynamic.terminate_child("c")
            await settle()
            assert len(seen) == 1
            assert "B -> Watching -> B" in seen[0]

    run_virtual(main)


class Calling(TrioActor):
    """Calls its own supervisor when it should not."""

    def __init__(self, where: str, seen: list[str]) -> None:
        super().__init__()
        self.where, self.seen = where, seen

    async def setup(self) -> None:
        if self.where == "setup":
            await self.ask()

    async def teardown(self, _reason: Any) -> None:
        if self.where == "teardown":
            await self.ask()

    async def ask(self) -> None:
        ref = self.directory.ref("inner")
        assert isinstance(ref, SupervisorRef)
        try:
            await ref.terminate_child("nobody")
        except AskCycle as error:
            self.seen.append(str(error))
            raise


def test_a_child_that_calls_its_own_supervisor_while_that_waits_for_it_is_refused() -> None:
    async def main() -> None:
        seen: list[str] = []
        inner = ChildSpec(id="inner", factory=Supervisor, name="inner")
        async with open_system([inner]) as system:
            ref = system.directory.ref("inner")
            assert isinstance(ref, SupervisorRef)
            with pytest.raises(StartFailed, match="Calling -> Supervisor -> Calling"):
                await ref.start_child(ChildSpec(id="c", factory=lambda: Calling("setup", seen)))
            await ref.start_child(ChildSpec(id="t", factory=lambda: Calling("teardown", seen)))
            await ref.terminate_child("t")
            assert len(seen) == 2
            assert trio.current_time() == 0
            assert ref._cell.waits_for is None

    run_virtual(main)


def test_whoever_is_not_waited_for_is_not_refused() -> None:
    async def main() -> None:
        async def impatient(actor: Node) -> str:
            with pytest.raises(Timeout):
                await c.call(Do(nap), timeout=1)
            assert actor._cell.waits_for is None
            return "went on"

        async with spawner() as (_, dynamic):
            a = await dynamic.spawn(A, id="a")
            b = await dynamic.spawn(B, id="b")
            c = await dynamic.spawn(C, id="c")
            assert await b.call(Via((a,))) == "end"
            assert await a.call(Via((b,))) == "end"  # the other way round, but not at once
            assert await a.call(Do(impatient)) == "went on"
            async with trio.open_nursery() as nursery:  # a diamond is no cycle
                nursery.start_soon(a.call, Via((b, c)))
                nursery.start_soon(b.call, Via((c,)))

    run_virtual(main)


def test_an_idle_actor_that_has_served_keeps_no_mark() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            ref = await dynamic.spawn(A, id="a")
            await ref.call(Via())
            parked = ref._mailbox.parked
            assert parked is not None
            assert not any("skill_actors" in variable.name for variable in parked.context)

    run_virtual(main)


def test_tasks_in_a_jobs_nursery_are_not_the_actor() -> None:
    class Host(Node):
        nursery: trio.Nursery

        async def setup(self) -> None:
            self.spawn(self.keep)

        async def keep(self) -> None:
            async with trio.open_nursery() as self.nursery:
                await trio.sleep_forever()

    async def main() -> None:
        answers: list[str] = []

        async def ask(ref: Ref) -> None:
            answers.append(await ref.call(Via(), timeout=None))

        async def begin(actor: Host) -> None:
            actor.nursery.start_soon(ask, actor.actor_ref)
            await trio.sleep(1)

        async with spawner() as (_, dynamic):
            ref = await dynamic.spawn(Host, id="a")
            await settle()
            await ref.call(Do(begin))
            await settle()
            assert answers == ["end"]

    run_virtual(main)
