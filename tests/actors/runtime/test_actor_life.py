"""One actor from its start to its end: set-up, jobs, stops, and what is told of it."""

from __future__ import annotations

import contextvars
import gc
import weakref
from typing import Any

import pykka
import pytest
import trio
import trio.lowlevel

from actor_kit import Add, Fail, Nap, Worker, spawner, worker
from runtime_kit import settle
from skill_actors.runtime import (
    ActorDeadError,
    Ask,
    ChildSpec,
    Down,
    ExitKind,
    ExitReason,
    Restart,
    StartFailed,
    TrioActor,
    open_system,
)
from support import run, run_virtual


def test_a_stop_passes_a_full_mailbox_and_answers_everybody() -> None:
    async def main() -> None:
        async with spawner() as dynamic:
            actor = Worker()
            ref = await dynamic.spawn(actor, id="w")
            outcomes: list[type] = []

            async def ask(message: Ask[Any]) -> None:
                try:
                    await ref.call(message, timeout=None)
                except ActorDeadError:
                    outcomes.append(ActorDeadError)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, Nap(1000))
                await settle()
                for _ in range(7):  # four queued, three blocked senders
                    nursery.start_soon(ask, Add(1))
                await settle()
                await dynamic.terminate_child("w")
            assert outcomes == [ActorDeadError] * 8
            assert actor.total == 0
            assert actor.log == ["cancelled ", "on_stop", "teardown shutdown"]

    run_virtual(main)


def test_pykkas_stop_handles_earlier_messages_and_refuses_later_ones() -> None:
    async def main() -> None:
        async with worker() as (actor, ref):
            ref.tell("before")
            stopping = ref.stop(block=False)
            late = ref.ask(Add(1), block=False)
            assert await stopping is True
            with pytest.raises(ActorDeadError):
                await late
            assert actor.log == ["before", "on_stop", "teardown normal"]
            assert (await ref.wait_stopped()).kind is ExitKind.NORMAL
            assert await ref.stop(block=False) is False

    run(main)


def test_an_actor_can_stop_itself() -> None:
    class Once(TrioActor):
        def on_receive(self, message: Any) -> str:
            self.stop()
            return "bye"

    async def main() -> None:
        async with spawner() as dynamic:
            ref = await dynamic.spawn(Once, id="o")
            assert await ref.ask("go", block=False) == "bye"
            assert await ref.wait_stopped() == ExitReason(ExitKind.NORMAL)

    run_virtual(main)


def test_start_is_refused_outside_a_supervisor_and_leaves_no_trace() -> None:
    with pytest.raises(RuntimeError, match="give it to a supervisor"):
        Worker.start()
    assert pykka.ActorRegistry.get_by_class(Worker) == []


def test_setup_that_fails_or_takes_too_long_is_a_failed_start() -> None:
    class Slow(Worker):
        async def setup(self) -> None:
            await trio.sleep(100)

    class Broken(Worker):
        async def setup(self) -> None:
            raise OSError("no disk")

    async def main() -> None:
        async with spawner() as dynamic:
            with pytest.raises(StartFailed, match="was not set up within 5 s"):
                await dynamic.spawn(Slow, id="slow")
            assert trio.current_time() == pytest.approx(5)
            broken = Broken()
            with pytest.raises(StartFailed, match="no disk") as caught:
                await dynamic.spawn(broken, id="broken")
            assert isinstance(caught.value.__cause__, OSError)
            assert broken.log == []
            assert broken.actor_ref.exit_reason is not None
            assert broken.actor_ref.exit_reason.kind is ExitKind.INIT

    run_virtual(main)


def test_messages_sent_during_setup_are_handled_after_it() -> None:
    class Careful(Worker):
        async def setup(self) -> None:
            self.actor_ref.tell("early")
            await trio.sleep(1)
            self.log.append("setup")

    async def main() -> None:
        async with spawner() as dynamic:
            actor = Careful()
            ref = await dynamic.spawn(actor, id="c")
            await ref.call(Add(0))
            assert actor.log == ["setup", "early"]

    run_virtual(main)


def test_a_monitor_fires_once_with_the_reason_also_for_the_dead() -> None:
    async def main() -> None:
        async with spawner() as dynamic:
            watcher, watched = Worker(), Worker()
            await dynamic.spawn(watcher, id="watcher")
            ref = await dynamic.spawn(watched, id="watched")
            watcher.monitor(ref)
            taken_back = watcher.monitor(ref)
            assert watcher.demonitor(ref, taken_back)
            ref.tell(Fail(ValueError("x")))
            reason = await ref.wait_stopped()
            await settle()
            assert watcher.downs == [Down(ref, reason)]
            late = watcher.monitor(ref)
            assert not watcher.demonitor(ref, late)
            await settle()
            assert watcher.downs == [Down(ref, reason)] * 2

    run_virtual(main)


class Background(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.fail_with: Exception | None = None

    async def setup(self) -> None:
        self.spawn(self.tick, 1.0)

    async def tick(self, every_s: float) -> None:
        try:
            while self.fail_with is None:
                await trio.sleep(every_s)
                self.actor_ref.tell("tick")
            raise self.fail_with
        finally:
            self.log.append("job ended")


def test_a_job_lives_beside_the_messages_and_ends_before_the_stop_hooks() -> None:
    async def main() -> None:
        async with spawner() as dynamic:
            actor = Background()
            ref = await dynamic.spawn(actor, id="b")
            await trio.sleep(2.5)
            assert await ref.call(Add(1)) == 1
            await dynamic.terminate_child("b")
            assert actor.log == ["tick", "tick", "job ended", "on_stop", "teardown shutdown"]

    run_virtual(main)


def test_a_failing_job_crashes_its_actor_and_the_running_handler() -> None:
    async def main() -> None:
        async with spawner() as dynamic:
            actor = Background()
            ref = await dynamic.spawn(actor, id="b")
            actor.fail_with = ValueError("watcher broke")
            with pytest.raises(ActorDeadError):
                await ref.call(Nap(100), timeout=None)
            reason = await ref.wait_stopped()
            assert reason.kind is ExitKind.CRASH
            assert str(reason.error) == "watcher broke"
            assert "on_failure watcher broke True" in actor.log

    run_virtual(main)


def test_jobs_can_be_spawned_by_handlers_one_after_the_other() -> None:
    class Spawning(Worker):
        def on_receive(self, message: Any) -> Any:
            if isinstance(message, float):
                self.spawn(self.nap, message, str(message))
                return None
            return super().on_receive(message)

    async def main() -> None:
        async with spawner() as dynamic:
            actor = Spawning()
            ref = await dynamic.spawn(actor, id="s")
            for seconds in (3.0, 2.0, 1.0):
                ref.tell(seconds)
            await trio.sleep(5)
            assert await ref.call(Add(1)) == 1
            assert actor.log == ["done 1.0", "done 2.0", "done 3.0"]

    run_virtual(main)


def test_exceptions_keep_no_frames_after_the_report() -> None:
    class Big:
        """Something that must not be kept alive by a traceback."""

    class Holder(TrioActor):
        def on_receive(self, message: Any) -> Any:
            big = Big()
            held.append(weakref.ref(big))
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise ValueError("outer") from error

    held: list[weakref.ref[Big]] = []

    async def main() -> None:
        async with spawner() as dynamic:
            refs = []
            for number in range(2):
                ref = await dynamic.spawn(Holder, id=str(number))
                refs.append(ref)
                if number:
                    ref.tell("go")
                else:
                    with pytest.raises(ValueError, match="outer"):
                        await ref.ask("go", block=False)
                await ref.wait_stopped()
            gc.collect()
            assert [one() for one in held] == [None, None]
            for ref in refs:
                assert ref.exit_reason is not None
                assert ref.exit_reason.error is not None
                assert ref.exit_reason.error.__traceback__ is None
                assert ref._actor_weakref() is None

    run_virtual(main)


def test_children_do_not_inherit_the_context_of_whoever_spawns_them() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")

    class Looking(TrioActor):
        def on_receive(self, message: Any) -> str:
            return request.get()

    async def main() -> None:
        async with spawner() as dynamic:
            request.set("of the spawner")
            ref = await dynamic.spawn(Looking, id="l")
            assert await ref.ask("?", block=False) == "none"

    run_virtual(main)


def test_a_system_is_seen_by_its_actors_only_after_the_start() -> None:
    with pytest.raises(RuntimeError, match="not started yet"):
        _ = Worker().directory


def test_stop_hooks_run_after_a_failed_job_and_a_handler_that_fails_as_it_is_cancelled() -> None:
    seen: list[object] = []

    class Busy(TrioActor):
        async def setup(self) -> None:
            self.spawn(self.fail)

        async def fail(self) -> None:
            await trio.sleep(1)
            raise KeyError("job")

        async def on_receive(self, message: Any) -> None:
            async with trio.open_nursery() as nursery:  # raises a group of the failure and of cancellation
                nursery.start_soon(self.clean_badly)
                nursery.start_soon(trio.sleep_forever)

        async def clean_badly(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("cleaning")

        async def teardown(self, reason: ExitReason) -> None:
            seen.append(reason.kind)

    async def main() -> None:
        async with open_system([ChildSpec(id="b", factory=Busy, name="b", restart=Restart.TEMPORARY)]) as system:
            ref = system.directory.ref("b")
            ref.tell("work")
            reason = await ref.wait_stopped()
            assert (reason.kind, repr(reason.error)) == (ExitKind.CRASH, "KeyError('job')")
        assert seen == [ExitKind.CRASH]

    run_virtual(main)


def test_who_fails_when_told_of_an_end_is_alone_with_it(caplog: pytest.LogCaptureFixture) -> None:
    told: list[ExitKind] = []

    def fail(_: ExitReason) -> None:
        raise OSError("cannot be told")

    async def main() -> None:
        specs = [ChildSpec(id=name, factory=Worker, name=name, restart=Restart.TEMPORARY) for name in ("a", "b")]
        async with open_system(specs) as system:
            ref, other = system.directory.ref("a"), system.directory.ref("b")
            ref.when_stopped(fail)
            ref.when_stopped(lambda reason: told.append(reason.kind))
            ref.stop(block=False)
            await ref.wait_stopped()
            assert await other.call(Add(1)) == 1
        assert told == [ExitKind.NORMAL]
        assert "cannot be told" in caplog.text

    run_virtual(main)


def test_a_stop_that_comes_before_an_awaited_part_begins_cancels_it() -> None:
    class Slow(TrioActor):
        def on_receive(self, message: Any) -> Any:
            return self.linger(message)

        def on_down(self, down: Down) -> Any:
            return self.linger(None)

        def linger(self, gone: Any) -> Any:  # the sync part: the stop comes in it, or has come before it
            if gone is not None:
                self.link(gone)
            return self.nap()

        async def nap(self) -> None:
            await trio.sleep(1000)

    async def main() -> None:
        async with spawner() as supervisor:
            dead = await supervisor.spawn(Worker, id="dead")
            dead.tell(Fail(ValueError("x")))
            await dead.wait_stopped()
            slow = await supervisor.spawn(Slow, id="handler")
            slow.tell(dead)
            await slow.wait_stopped()
            watcher = await supervisor.spawn(Slow, id="on_down")
            watcher._cell.mailbox.put_control(Down(dead, ExitReason(ExitKind.NORMAL)))
            watcher._cell.request_stop(ExitReason(ExitKind.SHUTDOWN))
            assert (await watcher.wait_stopped()).kind is ExitKind.SHUTDOWN
            assert trio.current_time() == began

    began = 0.0

    async def on_a_clock() -> None:
        nonlocal began
        began = trio.current_time()
        await main()

    run_virtual(on_a_clock)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "no such file", "/x"), UnicodeDecodeError("utf-8", b"x", 0, 1, "y")]
)
def test_the_exit_says_what_the_asker_was_told(error: Exception) -> None:
    async def main() -> None:
        async with spawner() as supervisor:
            ref = await supervisor.spawn(Worker, id="a")
            with pytest.raises(type(error)):
                await ref.call(Fail(error))
            reason = await ref.wait_stopped()
            assert str(reason.error) == str(error)
            assert reason.error is not error

    run_virtual(main)


def test_a_ref_to_an_actor_whose_jobs_never_began_does_not_keep_it() -> None:
    class Never(TrioActor):
        async def setup(self) -> None:
            self.spawn(self.job)
            raise OSError("not today")

        async def job(self) -> None: ...

    async def main() -> None:
        async with spawner() as supervisor:
            actor = Never()
            ref, kept = actor.actor_ref, weakref.ref(actor)
            with pytest.raises(StartFailed):
                await supervisor.spawn(actor, id="a")
            del actor
            gc.collect()
            assert ref.exit_reason is not None
            assert kept() is None

    run_virtual(main)
