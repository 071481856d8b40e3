"""Native skills that ask actors: only those that are exposed, in JSON, within their time, in both isolations."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from native_targets import Asker, Threaded
from skill_actors.backends import (
    Host,
    OutputChunk,
    ToolCall,
    ToolContext,
    ToolResult,
    Workers,
    WorkersRef,
    WorkspaceSpec,
    open_native,
)
from skill_actors.backends.exposed import Exposed
from skill_actors.native import AskFailed, Context, NativeSkill, SkillInfo
from skill_actors.runtime import (
    ActorSystem,
    ChildSpec,
    Reject,
    TrioActor,
    WorkerError,
    WorkerKilled,
    WorkerSpec,
    open_system,
)
from support import run, run_by

Call = Callable[..., Awaitable[str]]
Body = Callable[[Call, ActorSystem], Awaitable[None]]


class Keeper(TrioActor):
    """Answers in many ways."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []
        self.skill: Call | None = None

    async def on_receive(self, message: Any) -> Any:
        self.told.append(message)
        match message:
            case {"do": "echo", "value": value}:
                return value
            case {"do": "list"}:
                return [1, {"a": None}]
            case {"do": "sleep"}:
                await trio.sleep(60)
            case {"do": "nap"}:
                await trio.sleep(0.1)
            case {"do": "reject"}:
                raise Reject("not today")
            case {"do": "object"}:
                return object()
            case {"do": "much"}:
                return "x" * (2 << 20)
            case {"do": "crash"}:
                raise LookupError("broken")
            case {"do": "skill"}:
                assert self.skill is not None
                return await self.skill("asker_execute", command="list", timeout_s=2)
        return None


def actor(system: ActorSystem, name: str) -> Keeper:
    found = system.directory.ref(name)._actor_weakref()
    assert isinstance(found, Keeper)
    return found


@pytest.fixture(params=["inline", "process"])
def asking(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Body], None]:
    """Run a body with a function that calls the tools, and the system whose actor `keeper` may be asked."""

    def use(body: Body) -> None:
        async def main() -> None:
            tree = [
                ChildSpec(id="workers", name="workers", factory=Workers, isolated=True),
                ChildSpec(id="keeper", name="keeper", factory=Keeper),
                ChildSpec(id="private", name="private", factory=Keeper),
            ]
            async with open_system(tree) as system:
                names = system.directory
                expose = {"keeper": names.named("keeper"), "gone": names.named("gone")}
                host = Host(find_workers=lambda: cast("WorkersRef", names.ref("workers")), expose=expose)
                async with open_native([Asker, Threaded], host, isolation=request.param) as executor:
                    room = await executor.open(WorkspaceSpec(session="s", root=tmp_path / "work"))

                    async def call(tool: str, limit_s: float = 20.0, **input: Any) -> str:
                        one = ToolCall(id="1", name=tool, input=input)
                        result: ToolResult = await room.execute(one, ToolContext(timeout_s=limit_s))
                        return f"{result.outcome}: {result.content}"

                    await body(call, system)

        run(main)

    return use


@pytest.mark.parametrize(
    ("input", "said"),
    [
        ({"command": "list"}, "ok: answer: [1, {'a': None}]"),
        ({"command": "anything"}, "ok: answer: None"),
        ({"command": "reject"}, "ok: refused: the actor 'keeper' refused: Reject: not today"),
        ({"command": "crash"}, "ok: refused: the actor 'keeper' refused: LookupError: broken"),
        ({"command": "object"}, "ok: not_json: the actor 'keeper' answered with what is no JSON"),
        ({"command": "much"}, "ok: not_json: the answer of the actor 'keeper' takes more than 1048576 bytes"),
        ({"command": "nan"}, "ok: not_json: 'keeper' cannot be asked this"),
        ({"command": "bytes"}, "ok: not_json: 'keeper' cannot be asked this"),
        ({"command": "long"}, "ok: not_json: 'keeper' cannot be asked this: it takes more than 1048576 bytes"),
        ({"command": "list", "to": "private"}, "ok: not_exposed: skills may not ask the actor 'private'; they may ask"),
        ({"command": "list", "to": "workers"}, "ok: not_exposed: "),
        ({"command": "list", "to": "gone"}, "ok: gone: the actor 'gone' is not there"),
        ({"command": "sleep", "timeout_s": 0.1}, "ok: timeout: the actor 'keeper' did not answer within"),
        ({"command": "list", "timeout_s": -5.0}, "ok: "),
    ],
)
def test_a_question_is_answered_or_the_skill_is_told_why_not(
    asking: Callable[[Body], None], input: dict[str, Any], said: str
) -> None:
    async def body(call: Call, _system: ActorSystem) -> None:
        found = await call("asker_execute", **input)
        assert found.startswith(said), found

    asking(body)


def test_what_is_not_exposed_is_never_handed_a_message(asking: Callable[[Body], None]) -> None:
    async def body(call: Call, system: ActorSystem) -> None:
        await call("asker_execute", command="list", to="private")
        assert "AskFailed: skills may not ask the actor 'private'" in await call(
            "asker_write", path="private", content="x"
        )
        assert actor(system, "private").told == []

    asking(body)


def test_a_tell_does_not_wait_for_what_becomes_of_it(asking: Callable[[Body], None]) -> None:
    async def body(call: Call, system: ActorSystem) -> None:
        assert await call("asker_write", path="keeper", content="sleep") == "ok: told"
        while not actor(system, "keeper").told:  # noqa: ASYNC110  # it is in the mailbox
            await trio.sleep(0.005)
        assert actor(system, "keeper").told == [{"do": "sleep"}]

    asking(body)


def test_a_question_is_bounded_by_the_call_it_is_asked_in(asking: Callable[[Body], None]) -> None:
    async def body(call: Call, _system: ActorSystem) -> None:
        began = trio.current_time()
        said = await call("asker_execute", command="sleep", timeout_s=3600.0, limit_s=0.5)
        assert trio.current_time() - began < 10
        assert said.startswith(("timeout: ", "ok: timeout: "))

    asking(body)


def test_an_actor_that_calls_the_skill_that_asks_it_is_no_deadlock(asking: Callable[[Body], None]) -> None:
    async def body(call: Call, system: ActorSystem) -> None:
        keeper = system.directory.ref("keeper")
        actor(system, "keeper").skill = call
        began = trio.current_time()
        answer: Any = await keeper.call({"do": "skill"}, timeout=20)  # type: ignore[arg-type]  # it takes JSON
        assert trio.current_time() - began < 10
        assert answer.startswith(("ok: timeout: the actor 'keeper' did not answer", "ok: refused: the actor 'keeper'"))
        assert await call("asker_execute", command="list") == "ok: answer: [1, {'a': None}]"

    asking(body)


def test_threads_of_a_call_ask_side_by_side_and_one_left_behind_harms_nobody(asking: Callable[[Body], None]) -> None:
    async def body(call: Call, _system: ActorSystem) -> None:
        for _ in range(3):
            assert await call("threaded_execute", command="") == "ok: 0 1 2 3 4 5 6 7"
        assert await call("asker_execute", command="list") == "ok: answer: [1, {'a': None}]"

    asking(body)


def test_nothing_is_exposed_where_nobody_says_so(tmp_path: Path) -> None:
    class Lonely(Asker):
        skill_info = SkillInfo(name="lonely", description="Asks.", allowed_tools=["execute"])

    async def main() -> None:
        async with open_native([Lonely]) as executor:
            room = await executor.open(WorkspaceSpec(session="s", root=tmp_path))
            call = ToolCall(id="1", name="lonely_execute", input={"command": "list", "to": "workers"})
            said = (await room.execute(call, ToolContext())).content
            assert said == "not_exposed: skills may not ask the actor 'workers'; they may ask: none"

    run(main)


def test_an_asynchronous_function_asks_by_awaiting(tmp_path: Path) -> None:
    class Waits(NativeSkill):
        skill_info = SkillInfo(name="waits", description="Asks.", allowed_tools=["execute"])

        async def execute(self, command: str, context: Context) -> str:
            try:
                context.ask("keeper", {"do": "list"})
            except RuntimeError as error:
                said = str(error)
            await context.tell_async("keeper", {"do": "x"})
            return f"{await context.ask_async('keeper', {'do': 'list'})} {said}"

    async def main() -> None:
        async with open_system([ChildSpec(id="keeper", name="keeper", factory=Keeper)]) as system:
            host = Host(expose={"keeper": system.directory.ref("keeper")})
            async with open_native([Waits], host) as executor:
                room = await executor.open(WorkspaceSpec(session="s", root=tmp_path))
                result = await room.execute(
                    ToolCall(id="1", name="waits_execute", input={"command": ""}), ToolContext()
                )
                assert result.content.startswith("[1, {'a': None}] this function runs on the event loop: await context")

    run(main)


@pytest.mark.parametrize(
    "question",
    [
        *(b"{", b"[]", b"\xff", b'{"to": "keeper"}', 5, b"[" * 100_000, b'"' + b"x" * (3 << 20) + b'"'),
        b'{"to": "keeper", "message": 1, "timeout_s": "soon", "tell": 0}',
        b'{"to": "keeper", "message": 1, "timeout_s": 1' + b"0" * 400 + b', "tell": false}',
        b'{"to": "keeper", "message": NaN, "timeout_s": 1, "tell": false}',
        b'{"to": "keeper", "message": 1, "timeout_s": -Infinity, "tell": false}',
    ],
)
def test_what_hostile_code_sends_instead_of_a_question_is_answered(question: Any) -> None:
    async def main() -> None:
        assert b'"kind": "not_json"' in await Exposed({}).answer_bytes(question)

    run(main)


def test_a_thread_that_outlives_its_call_is_heard_and_answered_no_more(tmp_path: Path) -> None:
    go, done, said = threading.Event(), threading.Event(), []
    clock = trio.testing.MockClock(rate=1.0)  # the call's time is over when its question has come

    class Late(NativeSkill):
        skill_info = SkillInfo(name="late", description="Asks late.", allowed_tools=["execute"])

        def execute(self, command: str, context: Context) -> str:
            try:
                context.ask("keeper", {"do": "sleep"}, timeout_s=10)
            except AskFailed as failed:
                said.append(failed.kind)
            assert go.wait(20)
            context.emit("late")
            try:
                context.ask("keeper", {"do": "list"})
            except AskFailed as failed:
                said.append(failed.kind)
            done.set()
            return "done"

    async def emit(chunk: OutputChunk) -> None:
        said.append(chunk.text)

    async def main() -> None:
        async with open_system([ChildSpec(id="keeper", name="keeper", factory=Keeper)]) as system:
            host = Host(expose={"keeper": system.directory.ref("keeper")})
            async with open_native([Late], host) as executor:
                room = await executor.open(WorkspaceSpec(session="s", root=tmp_path))
                call = ToolCall(id="1", name="late_execute", input={"command": ""})
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def late() -> None:
                        result = await room.execute(call, ToolContext(timeout_s=30.0, emit=emit))
                        assert result.outcome == "timeout"

                    while not actor(system, "keeper").told:  # noqa: ASYNC110  # a thread asks
                        await trio.sleep(0.005)
                    clock.jump(30.0)  # less than the keeper sleeps: it has not answered
                go.set()
                assert await trio.to_thread.run_sync(done.wait, 20)
            assert actor(system, "keeper").told == [{"do": "sleep"}]

    run_by(clock, main)
    assert said in (["gone", "gone"], ["timeout", "gone"])  # the first question ends with the call's own time


# The link that carries it


@pytest.mark.parametrize("reply", [{"any": ["JSON", None]}, b"bytes \x00\xff", "text"])
def test_a_worker_gets_what_the_answer_returns(reply: Any) -> None:
    async def answer(question: Any) -> Any:
        return [question, reply] if not isinstance(reply, bytes) else reply

    async def main() -> None:
        async with workers() as (perform, _count):
            expected = reply.hex() if isinstance(reply, bytes) else ["ping", reply]
            assert await perform("ping", answer) == expected

    run(main)


async def _broken(_question: Any) -> Any:
    raise LookupError("nobody knows")


async def _not_json(_question: Any) -> Any:
    return {1, 2}


@pytest.mark.parametrize(("answer", "said"), [(None, "nobody answers"), (_broken, "nobody knows"), (_not_json, "set")])
def test_a_worker_that_cannot_be_answered_is_killed_and_replaced(answer: Any, said: str) -> None:
    async def fine(question: Any) -> Any:
        return question

    async def main() -> None:
        async with workers() as (perform, count):
            with pytest.raises(WorkerKilled, match=said) as caught:
                await perform("ping", answer)
            assert caught.value.reason == "unanswered"
            assert await perform("pong", fine) == "pong"
            assert count() == 1

    run(main)


async def _echo(question: Any) -> Any:
    return question


def test_a_copy_of_a_worker_cannot_ask() -> None:
    async def main() -> None:
        async with workers("ask_in_a_copy") as (perform, _count):
            for _ in range(2):
                assert "a copy of the process cannot ask" in await perform("ping", _echo)

    run(main)


def test_a_line_is_over_with_its_request() -> None:
    async def main() -> None:
        async with workers("ask_on_an_old_line") as (perform, _count):
            assert await perform("one", _echo) == "one"
            assert await perform("two", _echo) == "the request is over"

    run(main)


@pytest.mark.parametrize(("question", "said"), [("set", "TypeError"), ("long", "over the limit")])
def test_a_question_that_cannot_be_sent_is_an_error_of_who_asks(question: str, said: str) -> None:
    async def main() -> None:
        async with workers("ask_what_is_no_json") as (perform, count):
            with pytest.raises(WorkerError, match=said):
                await perform(question, _echo)
            assert count() == 1

    run(main)


def workers(target: str = "asks") -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        spec = WorkerSpec(name="asks", target=f"worker_targets:{target}", paths=[Path(__file__).parents[2]])
        async with open_system([ChildSpec(id="w", name="w", factory=Workers, isolated=True)]) as system:
            ref: Any = system.directory.ref("w")

            async def perform(request: Any, answer: Any) -> Any:
                return await ref.perform(spec, request, timeout_s=20, answer=answer)

            yield perform, ref.count_children

    return opened()
