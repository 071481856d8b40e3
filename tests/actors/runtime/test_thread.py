"""Actors that are threads: pykka's contract, back-pressure, and ticks."""

from __future__ import annotations

import threading
from typing import Any

import pykka
import pytest
import trio

from skill_actors.runtime import (
    ActorDeadError,
    ActorSystem,
    BlockingInTrioThread,
    ChildSpec,
    ExitKind,
    ExitReason,
    MailboxFull,
    Reject,
    Restart,
    StartFailed,
    ThreadActor,
    Timeout,
    TrioActor,
    TrioActorRef,
)
from skill_actors.runtime.future import TrioFuture
from support import run
from thread_kit import LONG_S, Add, Gate, Hang, Raise, Refuse, Small, Worker, gone, served, spec, threads_named


async def replaced(system: ActorSystem, old: TrioActorRef[Any]) -> TrioActorRef[Any]:
    with trio.fail_after(LONG_S):
        await old.wait_stopped()
        ref = await system.directory.wait("worker")
    assert ref is not old
    return ref


def run_on_threads(work: Any, times: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(times)]
    for thread in threads:
        thread.start()
    return threads


# The contract


def test_its_whole_life_is_in_one_daemon_thread_that_is_not_the_loops() -> None:
    async def main() -> None:
        before = threading.enumerate()
        log: list[str] = []
        made: list[Worker] = []

        def make() -> Worker:
            made.append(Worker(log))
            return made[-1]

        async with served(spec(make)) as (_, ref):
            assert await ref.call(Add(2)) == 2
            await ref.send(Add(3))
            assert await ref.call(Add(0)) == 5
            (thread,) = threads_named("root/worker", before)
            assert thread.daemon
        assert log == ["start", "Add", "Add", "Add", "stop"]
        assert made[0].threads == {thread.ident}

    run(main)


def test_pykkas_own_verbs_work_from_threads_and_their_futures_can_be_awaited() -> None:
    async def main() -> None:
        async with served(spec()) as (system, ref):
            assert await trio.to_thread.run_sync(lambda: ref.ask(Add(1))) == 1
            assert await ref.ask(Add(1), block=False) == 2
            ref.tell(Add(1))
            proxy = ref.proxy()
            assert await trio.to_thread.run_sync(lambda: proxy.total.get(timeout=LONG_S)) == 3
            assert await proxy.on_receive("x") == "x"
            assert await ref.ask(Add(1), block=False).map(lambda total: total * 10) == 40
            assert await trio.to_thread.run_sync(lambda: ref.stop(timeout=LONG_S)) is True
            assert (await gone(system, ref)).kind is ExitKind.NORMAL
            assert await (await replaced(system, ref)).call(Add(1)) == 1  # permanent: a stop is a normal exit

    run(main)


def test_a_blocking_ask_on_the_trio_thread_is_refused_rather_than_waited_for() -> None:
    async def main() -> None:
        gate = Gate()
        async with served(spec()) as (_, ref):
            await ref.send(Hang(gate))
            with pytest.raises(BlockingInTrioThread):
                ref.ask(Add(1))
            gate.open()
            assert await ref.call(Add(1)) == 1, "the message of the refused ask was handled"

    run(main)


def test_reject_is_an_answer_and_it_lives() -> None:
    async def main() -> None:
        async with served(spec()) as (_, ref):
            with pytest.raises(Reject):
                await ref.call(Refuse())
            await ref.send(Refuse())  # nobody to answer
            assert await ref.call(Add(1)) == 1

    run(main)


def test_another_exception_answers_the_asker_and_crashes_it_and_it_is_made_again() -> None:
    async def main() -> None:
        log: list[str] = []
        async with served(spec(lambda: Worker(log))) as (system, ref):
            with pytest.raises(ZeroDivisionError) as caught:
                await ref.call(Raise(ZeroDivisionError("by zero")))
            again = await replaced(system, ref)
            assert await again.call(Add(7)) == 7
            assert ref.exit_reason is not None
            assert ref.exit_reason.kind is ExitKind.CRASH
            assert ref.exit_reason.error is not caught.value, "its frames would grow with the asker's"
            with pytest.raises(ActorDeadError):
                await ref.call(Add(1))
        assert log[:4] == ["start", "Raise", "failure ZeroDivisionError('by zero')", "start"]

    run(main)


def test_a_crash_refuses_what_is_queued_and_frees_blocked_senders() -> None:
    async def main() -> None:
        gate = Gate()
        got: list[object] = []

        async def ask() -> None:
            try:
                await ref.call(Add(1), timeout=None)
            except ActorDeadError as error:
                got.append(error)

        def tell(_number: int) -> None:
            try:
                ref.tell(Add(1))
            except ActorDeadError as error:
                got.append(error)

        async with served(spec(Small, restart=Restart.TEMPORARY)) as (_, ref):
            await ref.send(Hang(gate))
            await gate.wait_reached()
            ref.tell(Raise(ValueError("x")))
            async with trio.open_nursery() as nursery:
                for _ in range(4):  # one fits, three wait
                    nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                threads = run_on_threads(tell, 3)
                gate.open()
            for thread in threads:
                await trio.to_thread.run_sync(thread.join, LONG_S)
        assert len(got) == 7

    run(main)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_base_exception_asks_for_the_ordered_shutdown_and_pykkas_stop_all_is_not_called(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pykka.ActorRegistry, "stop_all", lambda *_a, **_k: pytest.fail("stop_all was called"))
    ended: list[str] = []

    class Other(TrioActor):
        async def teardown(self, reason: ExitReason) -> None:
            ended.append(reason.kind.value)

    async def main() -> None:
        other = ChildSpec(id="other", factory=Other)
        async with served(other, spec()) as (_, ref):
            with pytest.raises(ActorDeadError):
                await ref.call(Raise(error))
            await trio.sleep_forever()

    with pytest.raises(type(error)):
        run(main)
    assert ended == ["shutdown"]


def test_start_without_a_supervisor_is_refused_and_leaves_no_ref_behind() -> None:
    with pytest.raises(RuntimeError, match="give it to a supervisor"):
        Worker.start()
    assert pykka.ActorRegistry.get_by_class(Worker) == []


@pytest.mark.parametrize("hook", ["on_start", "on_receive", "on_tick", "on_stop", "on_failure"])
def test_an_async_hook_is_refused_when_the_class_is_made(hook: str) -> None:
    async def forgotten(self: object, *_args: object) -> None: ...

    with pytest.raises(TypeError, match=f"{hook} is async"):
        type("Wrong", (ThreadActor,), {hook: forgotten})


def test_a_started_actor_cannot_be_started_again() -> None:
    async def main() -> None:
        one = Worker()
        async with served(spec(lambda: one)) as (system, _):
            with pytest.raises(StartFailed, match="started before"):
                await system.root.start_child(spec(lambda: one, id="again", name="again"))

    run(main)


def test_what_it_posts_runs_on_the_loops_thread() -> None:
    async def main() -> None:
        seen: list[int] = []
        done = trio.Event()

        def arrived() -> None:
            seen.append(threading.get_ident())
            done.set()

        class Poster(Worker):
            def on_receive(self, message: Any) -> None:
                self.post(arrived)

        async with served(spec(Poster)) as (_, ref):
            await ref.send("go")
            with trio.fail_after(LONG_S):
                await done.wait()
        assert seen == [threading.get_ident()]

    run(main)


# Backpressure


def test_send_waits_for_room_in_order_without_holding_up_the_loop_and_tell_is_refused() -> None:
    async def main() -> None:
        gate, seen = Gate(), list[int]()

        class Order(Small):
            def on_receive(self, message: Any) -> Any:
                if isinstance(message, Add):
                    seen.append(message.number)
                return super().on_receive(message)

        async with served(spec(Order)) as (system, ref):
            await ref.send(Hang(gate))
            await gate.wait_reached()
            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(ref.send, Add(number))
                    await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(MailboxFull):
                    ref.tell(Add(99))
                (info,) = system.root.which_children()
                assert (info.mailbox_depth, info.phase, info.actor_class) == (2, "running", "Order")
                gate.open()
            assert await ref.call(Add(6)) == sum(range(7))
            assert seen == list(range(7))

    run(main)


def test_a_cancelled_sender_and_a_cancelled_asker_leave_no_message() -> None:
    async def main() -> None:
        gate = Gate()
        async with served(spec(Small)) as (_, ref):
            await ref.send(Hang(gate))
            await gate.wait_reached()
            with pytest.raises(Timeout):
                await ref.call(Add(100), timeout=0.01)  # it is queued, and skipped
            ref.tell(Add(1))
            with trio.move_on_after(0.01) as scope:
                await ref.send(Add(1000))
            assert scope.cancelled_caught
            gate.open()
            assert await ref.call(Add(1)) == 2

    run(main)


def test_a_thread_that_tells_waits_for_room() -> None:
    async def main() -> None:
        gate = Gate()
        async with served(spec(Small)) as (_, ref):
            await ref.send(Hang(gate))
            await gate.wait_reached()
            threads = run_on_threads(lambda number: ref.tell(Add(number)), 8)
            gate.open()
            for thread in threads:
                await trio.to_thread.run_sync(thread.join, LONG_S)
            assert await ref.call(Add(0)) == sum(range(8))

    run(main)


def test_telling_itself_with_a_full_mailbox_is_an_error_not_a_deadlock() -> None:
    class Talker(Small):
        def on_receive(self, message: Any) -> Any:
            for _ in range(3):
                self.actor_ref.tell("more")

    async def main() -> None:
        async with served(spec(Talker)) as (system, ref):
            await ref.send("go")
            reason = await gone(system, ref)
            assert isinstance(reason.error, MailboxFull)

    run(main)


def test_many_threads_and_tasks_at_once_lose_and_repeat_nothing() -> None:
    async def main() -> None:
        async with served(spec(Small)) as (_, ref):
            threads = run_on_threads(lambda _number: [ref.ask(Add(1)) for _ in range(100)], 4)

            async def client() -> None:
                for _ in range(100):
                    await ref.send(Add(1))
                    await ref.call(Add(1), timeout=LONG_S)

            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(client)
            for thread in threads:
                await trio.to_thread.run_sync(thread.join, LONG_S)
            assert await ref.call(Add(0)) == 4 * 100 + 4 * 200

    run(main)


# Ticks


def test_it_ticks_while_no_message_comes_and_a_tick_that_raises_crashes_it() -> None:
    class Ticking(Worker):
        tick_s = 0.01
        ticks = 0

        def on_tick(self) -> None:
            self.ticks += 1
            if self.ticks == 3:
                raise ValueError("third")

    async def main() -> None:
        async with served(spec(Ticking, restart=Restart.TEMPORARY)) as (system, ref):
            reason = await gone(system, ref)
            assert (reason.kind, str(reason.error)) == (ExitKind.CRASH, "third")

    run(main)


def test_without_tick_s_it_never_ticks() -> None:
    actor = Worker()
    assert actor.tick_s is None
    actor.on_tick()
    assert isinstance(actor._create_future(), TrioFuture)
