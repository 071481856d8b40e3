"""The page of anti-patterns does what it says: its blocks are run, the bad ones and those to write instead."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import pykka
import pytest
import trio

from skill_actors.runtime import (
    ActorDeadError,
    ActorSystem,
    Ask,
    AskCycle,
    BlockingInTrioThread,
    ChildSpec,
    ExitKind,
    ExitReason,
    MailboxFull,
    Reject,
    Restart,
    RestartLimitReached,
    StartFailed,
    Supervisor,
    SupervisorRef,
    SystemFailed,
    Timeout,
    TrioActor,
    TrioActorRef,
    open_system,
)
from support import run, run_virtual

PAGE: Final = Path(__file__).parents[3] / "docs/anti-patterns.md"
FEW_RESTARTS: Final = 3  # of a supervisor, by default

pytestmark = pytest.mark.skipif(
    not PAGE.exists(), reason="the page is in the repository, and this is a copy of the tests"
)

Case = Callable[[Any, Any], None]
cases: Final[dict[str, Case]] = {}


def case(title: str) -> Callable[[Case], Case]:
    """Say which section of the page a check belongs to. It gets what the section's blocks define: bad, good."""

    def note(check: Case) -> Case:
        assert title not in cases
        cases[title] = check
        return check

    return note


@dataclass(frozen=True, slots=True)
class Get(Ask[Any]):
    key: str = "unknown"
    text: str = "five"


class Crash(Exception):
    pass


class Store(TrioActor):
    """Answers; ends when it is told to; keeps the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Crash):
            raise message
        self.kept.append(message)
        return "answer"


def sections() -> dict[str, str]:
    _, *parts = re.split(r"^## (.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


class Block:
    """What one block of the page defines, as attributes. The names it uses are those that the page promises."""

    def __init__(self, title: str, text: str) -> None:
        # __name__ is a real module's: dataclasses look theirs up.
        names = {**globals(), "ClassVar": ClassVar, "released": None}
        exec(compile(text, f"<{title}>", "exec", dont_inherit=True), names)
        self.names = names

    def __getattr__(self, name: str) -> Any:
        return self.names[name]


def blocks(title: str) -> tuple[Block | None, Block | None]:
    found = re.findall(r"^```python\n(.*?)^```$", sections()[title], re.MULTILINE | re.DOTALL)
    bad, good = [Block(title, text) for text in found] + [None] * (2 - len(found))
    return bad, good


@pytest.mark.parametrize("title", sections() if PAGE.exists() else ())
def test_what_the_page_says_happens(title: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # crashes are the point here
    cases[title](*blocks(title))


def test_every_section_is_checked_and_nothing_else() -> None:
    assert list(cases) == list(sections())


def test_what_goes_unnoticed_is_said_to() -> None:
    """A reader must know which of these only their own eyes will find."""
    unnoticed = {title for title, text in sections().items() if "Nothing notices" in text}
    assert unnoticed == {
        "Blocking in a handler",
        "Computing in a thread",
        "Catching everything",
        "Changing a message after it was sent",
    }


def one(kind: Callable[[], TrioActor], **options: Any) -> AbstractAsyncContextManager[ActorSystem]:
    """A system of one actor, named store."""
    return open_system([ChildSpec(id="store", factory=kind, name="store", **options)])


async def ask(kind: type[TrioActor], message: Ask[Any] | None = None) -> Any:
    async with one(kind, restart=Restart.TEMPORARY) as system:
        return await system.directory.ref("store").call(message or Get())


@case("Waiting for a future on the trio thread")
def waiting(bad: Block, good: Block) -> None:
    async def main(kind: type[TrioActor]) -> Any:
        specs = [
            ChildSpec(id="store", factory=Store, name="store"),
            ChildSpec(id="front", factory=kind, name="front", restart=Restart.TEMPORARY),
        ]
        async with open_system(specs) as system:
            front = system.directory.ref("front")
            try:
                return await front.call(Get())
            finally:
                crashed = isinstance(await ended_soon(front), ExitReason)
                assert crashed is (kind is bad.Proxying)

    with pytest.raises(BlockingInTrioThread):
        run_virtual(main, bad.Proxying)
    assert run_virtual(main, good.Asking) == "answer"


async def ended_soon(ref: TrioActorRef[Any]) -> ExitReason | None:
    with trio.move_on_after(1):
        return await ref.wait_stopped()
    return None


@case("Blocking in a handler")
def blocking(bad: Block, good: Block) -> None:
    async def main(kind: type[TrioActor]) -> float:
        """How long somebody else has to wait, in seconds."""
        specs = [ChildSpec(id=kind.__name__, factory=kind, name="slow"), ChildSpec(id="s", factory=Store, name="store")]
        async with open_system(specs) as system, trio.open_nursery() as nursery:
            nursery.start_soon(system.directory.ref("slow").call, Get())
            begin = time.perf_counter()
            await trio.testing.wait_all_tasks_blocked()
            await system.directory.ref("store").call(Get())
            return time.perf_counter() - begin

    assert run(main, bad.Reading) >= 0.2
    assert any(run(main, good.Threaded) < 0.2 for _ in range(20)), "one is enough: the machine may be busy"


@case("Computing in a thread")
def computing(bad: Block, _none: None) -> None:
    assert run(bad.compute) == sum(range(1_000_000))


def stop_it(kind: type[TrioActor], released: trio.Event, run_on: Callable[..., object] = run_virtual) -> list[str]:
    """What is reported when a busy actor of this class is ended. Who never waits needs the real clock to run on."""
    events: list[str] = []

    async def main() -> None:
        async with one(kind, shutdown_s=0.05) as system:
            system.reports.subscribe("test", lambda report: events.append(report.event.value))
            ref = system.directory.ref("store")
            await ref.send("anything")
            await trio.testing.wait_all_tasks_blocked(0.001)
            try:
                await system.root.terminate_child("store")
            except Reject as error:
                events.append(str(error))
            released.set()

    run_on(main)
    return events


@case("Swallowing cancellation")
def swallowing(bad: Block, good: Block) -> None:
    bad.names["released"] = good.names["released"] = released = threading.Event()
    events = stop_it(bad.Stubborn, cast("trio.Event", released), run)
    assert events[:2] == ["killed", "unkillable"]
    assert "ignores cancellation" in events[2]
    released.clear()
    assert stop_it(good.Tidy, cast("trio.Event", released)) == ["exited"]


@case("Shielding without a deadline")
def shielding(bad: Block, good: Block) -> None:
    released = bad.names["released"] = trio.Event()
    assert stop_it(bad.Shielded, released)[:2] == ["killed", "unkillable"]
    good.names["released"] = trio.Event()
    assert stop_it(good.Polite, trio.Event()) == ["killed", "exited"]  # its second is longer than its shutdown_s


@case("Keeping a ref across a restart")
def keeping(bad: Block, good: Block) -> None:
    async def main(use: Callable[[ActorSystem], Any]) -> Any:
        async with one(Store) as system:
            return await use(system)

    with pytest.raises(ActorDeadError):
        run_virtual(main, bad.remember)
    assert run_virtual(main, good.look_up) == "answer"


@case("Asking in a circle")
def circle(bad: Block, good: Block) -> None:
    async def main(left: type[TrioActor], right: type[TrioActor]) -> Any:
        begin = trio.current_time()
        specs = [
            ChildSpec(id="left", factory=left, name="left", restart=Restart.TEMPORARY),
            ChildSpec(id="right", factory=right, name="right", restart=Restart.TEMPORARY),
        ]
        async with open_system(specs) as system:
            try:
                return await system.directory.ref("left").call(Get())
            finally:
                assert trio.current_time() == begin

    with pytest.raises(AskCycle, match=r"Right -> Left -> Right|Left -> Right -> Left"):
        run_virtual(main, bad.Left, bad.Right)
    assert run_virtual(main, good.Telling, Store) is None


@case("Telling faster than anybody listens")
def flooding(bad: Block, good: Block) -> None:
    async def main(fill: Callable[[Any], Any]) -> int:
        async with one(Store) as system:
            ref = system.directory.ref("store")
            actor: Any = ref._actor_weakref()
            await fill(ref)
            await ref.call(Get())
            return len(actor.kept) - 1

    with pytest.raises(MailboxFull, match="1024 messages"):
        run_virtual(main, bad.flood)
    assert run_virtual(main, good.feed) == 5_000


@case("Working for long in a handler")
def deaf(bad: Block, good: Block) -> None:
    async def main(kind: type[TrioActor]) -> Any:
        async with one(kind) as system:
            ref = system.directory.ref("store")
            await ref.send("first")
            return await ref.call(Get())

    with pytest.raises(Timeout, match="in 5"):
        run_virtual(main, bad.Deaf)
    assert run_virtual(main, good.Listening) == "begun"


@case("Stopping a child through its ref")
def stopping(bad: Block, good: Block) -> None:
    async def main(remove: Callable[[ActorSystem], Any]) -> bool:
        async with one(Store) as system:
            await remove(system)
            await trio.testing.wait_all_tasks_blocked()
            return system.directory.whereis("store") is not None

    assert run_virtual(main, bad.remove) is True
    assert run_virtual(main, good.remove_for_good) is False


@case("Stopping everything with the registry")
def registry(bad: Block, good: Block) -> None:
    async def from_here() -> None:
        async with one(Store):
            await bad.stop_everything()

    async def from_a_thread() -> bool:
        async with one(Store) as system:
            old = system.directory.ref("store")
            await trio.to_thread.run_sync(pykka.ActorRegistry.stop_all)
            return await system.directory.wait("store") is not old

    async def in_order() -> ExitReason:
        async with one(Store) as system:
            ref = system.directory.ref("store")
            await good.shut_down(system)
            return await ref.wait_stopped()

    with pytest.raises(BlockingInTrioThread):
        run(from_here)
    assert run(from_a_thread)
    assert run(in_order).kind is ExitKind.SHUTDOWN


@case("Starting a task that nobody supervises")
def unsupervised(bad: Block, good: Block) -> None:
    async def main() -> None:
        await bad.start_beside()
        await trio.sleep(1)

    with pytest.raises(trio.TrioInternalError):
        run_virtual(main)

    async def supervised() -> ExitReason:
        async with one(good.Polling, restart=Restart.TEMPORARY) as system:
            await trio.testing.wait_all_tasks_blocked()
            (report,) = [report for report in system.reports.recent() if report.child == "store"]
            assert "no route" in report.message
            return ExitReason(cast("ExitKind", report.kind))

    assert run_virtual(supervised).kind is ExitKind.CRASH


class Plain(pykka.ThreadingActor):
    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        time.sleep(0.05)
        return "answer"


@case("Awaiting a thread's future")
def thread_future(bad: Block, good: Block) -> None:
    ref = Plain.start()
    try:
        with pytest.raises(TypeError, match="unrecognized yield"):
            run(bad.await_thread, ref)
        assert run(good.ask_in_thread, ref) == "answer"
    finally:
        ref.stop()


@case("Crashing for what the caller did")
def brittle(bad: Block, good: Block) -> None:
    async def main(kind: type[TrioActor], error: type[Exception]) -> int:
        alive = 0
        async with one(kind) as system:
            for _ in range(FEW_RESTARTS + 1):
                with pytest.raises(error):
                    await system.directory.named("store").call(Get(), wait_s=1)
                alive += 1
            await trio.sleep(1)
        return alive

    with pytest.raises(SystemFailed) as failed:
        run_virtual(main, bad.Brittle, KeyError)
    assert isinstance(failed.value.__cause__, RestartLimitReached)
    assert run_virtual(main, good.Robust, Reject) == FEW_RESTARTS + 1


@case("Catching everything")
def catching(bad: Block, good: Block) -> None:
    async def main(kind: type[TrioActor]) -> Any:
        async with one(kind) as system:
            store = system.directory.named("store")
            with suppress(ValueError):
                await store.call(Get())
            return await store.call(Get(text="5"), wait_s=1)

    assert run_virtual(main, bad.Halfway) == (2, 5)
    assert run_virtual(main, good.Whole) == (1, 5)


@case("Changing a message after it was sent")
def changing(bad: Block, _none: None) -> None:
    async def main() -> Any:
        async with one(Store) as system:
            ref = system.directory.ref("store")
            actor: Any = ref._actor_weakref()
            await bad.reuse(ref)
            await ref.call(Get())
            return actor.kept[0]

    assert run_virtual(main) == []


class Slow(TrioActor):
    async def on_receive(self, message: Any) -> Any:
        await trio.sleep(message.seconds)
        finished.append(message)


finished: Final[list[Any]] = []


@case("Expecting a handler to stop with its caller")
def with_caller(bad: Block, good: Block) -> None:
    async def main(message: Ask[Any]) -> bool:
        finished.clear()
        async with one(Slow) as system:
            with pytest.raises(Timeout):
                await system.directory.ref("store").call(message, timeout=1)
            await trio.sleep(100)
        return bool(finished)

    assert run_virtual(main, bad.Query(10)) is True
    assert run_virtual(main, good.CancellableQuery(10)) is False


@case("Giving a supervisor an actor instead of a way to make one")
def same_actor(bad: Block, good: Block) -> None:
    async def main(spec: ChildSpec) -> Any:
        async with open_system([spec]) as system:
            ref = system.root.child("store")
            assert ref is not None
            await ref.send(Crash())
            await ref.wait_stopped()
            await trio.sleep(1)
            again = system.root.child("store")
            assert again is not None
            return await again.call(Get())

    with pytest.raises(SystemFailed):
        run_virtual(main, bad.same_each_time(Store()))
    assert run_virtual(main, good.new_each_time(Store)) == "answer"


@case("Starting an actor by itself")
def alone(bad: Block, _none: None) -> None:
    with pytest.raises(RuntimeError, match="give it to a supervisor"):
        bad.start_alone(Store)


def test_an_actor_that_calls_itself_is_told_at_once() -> None:
    class Selfish(TrioActor):
        async def on_receive(self, message: Any) -> Any:
            return await self.actor_ref.call(message)

    with pytest.raises(AskCycle, match="Selfish -> Selfish"):
        run_virtual(ask, Selfish)


def test_a_setup_that_calls_its_own_supervisor_is_told_at_once() -> None:
    class Early(TrioActor):
        async def setup(self) -> None:
            await self.directory.ref("above").call(Get())

    async def main() -> None:
        async with open_system([ChildSpec(id="above", factory=Supervisor, name="above")]) as system:
            above = cast("SupervisorRef[Supervisor]", system.directory.ref("above"))
            begin = trio.current_time()
            with pytest.raises(StartFailed) as failed:
                await above.start_child(ChildSpec(id="early", factory=Early))
            assert isinstance(failed.value.__cause__, AskCycle)
            assert trio.current_time() == begin

    run_virtual(main)
