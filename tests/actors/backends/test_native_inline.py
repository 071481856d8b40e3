"""Native skills in the process of the program: what they share with it, and what it costs that nobody can kill them."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from native_kit import code_in, write_native
from skill_actors.backends import (
    BackendUnavailable,
    Host,
    InlineNatives,
    NativeRoom,
    NativeTools,
    OutputChunk,
    ToolCall,
    ToolContext,
    ToolResult,
    WorkspaceSpec,
    open_native,
)
from skill_actors.native import BadSkill, Context, NativeSkill, SkillInfo
from support import run, run_virtual

Call = Callable[..., Awaitable[ToolResult]]
Body = Callable[[Call], Awaitable[None]]


def info(*kinds: str, name: str = "mine") -> SkillInfo:
    return SkillInfo(name=name, description="Does things.", allowed_tools=kinds)


def inside(tmp_path: Path, *skills: Any, runner: Callable[..., Any] = run, **options: Any) -> Callable[[Body], Any]:
    """Run a body with a function that calls the tools of these skills."""

    def use(body: Body) -> Any:
        async def main() -> None:
            async with open_native(skills, **options) as executor:
                room = await executor.open(WorkspaceSpec(session="ses_1", root=tmp_path / "work"))

                async def call(tool: str, input: Any, **context: Any) -> ToolResult:
                    return await room.execute(ToolCall(id="toolu_1", name=tool, input=input), ToolContext(**context))

                await body(call)

        return runner(main)

    return use


class Odd(NativeSkill):
    """Does or returns what it is told."""

    skill_info = info("execute")

    def execute(self, command: str, context: Context) -> Any:
        match command:
            case "none":
                return None
            case "int":
                return 7
            case "bytes":
                return b"bytes"
            case "huge":
                return "x" * (9 << 20)
            case "set":
                return {"a": {1, 2}}
            case "nan":
                return [float("nan")]
            case "cycle":
                cycle: list[Any] = []
                cycle.append(cycle)
                return cycle
            case "leave":
                sys.exit(3)
            case "interrupt":
                raise KeyboardInterrupt
            case "mute":
                raise Mute
            case "where":
                raise FileNotFoundError(f"no {context.workspace}/a.txt, {context.skill_dir}/b.txt, {context.workspace}")
            case "surrogate":
                return "\udcff"
        return {"did": command}


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("none", "BadAnswer: it returned nothing; it has to return text, or a list or mapping of JSON values"),
        ("int", "BadAnswer: it returned a value of type int"),
        ("bytes", "BadAnswer: it returned a value of type bytes"),
        ("huge", "BadAnswer: it returned 9437184 bytes, over the limit of 8388608"),
        ("set", "BadAnswer: it returned a dict that is no JSON"),
        ("nan", "BadAnswer: it returned a list that is no JSON"),
        ("cycle", "BadAnswer: it returned a list that is no JSON"),
        ("leave", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("mute", "Mute: (its text cannot be made)"),
        ("where", "FileNotFoundError: no a.txt, <skill>/b.txt, <workspace>"),
    ],
)
def test_what_goes_wrong_is_an_error_that_the_model_reads(tmp_path: Path, command: str, said: str) -> None:
    async def body(call: Call) -> None:
        result = await call("mine_execute", {"command": command})
        assert result.outcome == "error"
        assert result.content.startswith(said)
        assert (await call("mine_execute", {"command": "on"})).content == '{"did": "on"}'

    inside(tmp_path, Odd)(body)


def test_text_that_is_no_utf_8_is_made_so(tmp_path: Path) -> None:
    async def body(call: Call) -> None:
        assert (await call("mine_execute", {"command": "surrogate"})).content == "?"

    inside(tmp_path, Odd)(body)


@pytest.mark.parametrize("input", [{}, {"command": 5}, {"command": "x", "more": 1}, "x"])
def test_input_that_does_not_fit_never_reaches_the_code(tmp_path: Path, input: Any) -> None:
    class Untouched(NativeSkill):
        skill_info = info("execute")
        calls: ClassVar[list[str]] = []

        def execute(self, command: str, context: Context) -> str:
            self.calls.append(command)
            return ""

    async def body(call: Call) -> None:
        assert (await call("mine_execute", input)).outcome == "error"

    inside(tmp_path, Untouched)(body)
    assert Untouched.calls == []


def test_a_class_in_a_function_and_an_object_share_the_program(tmp_path: Path) -> None:
    """No other process could import these classes, nor have what they hold."""
    kept: dict[str, str] = {}

    class Closure(NativeSkill):
        skill_info = info("write", name="closure")

        def write(self, path: str, content: str, context: Context) -> str:
            kept[path] = content
            return threading.current_thread().name

    class Made(NativeSkill):
        skill_info = info("read", name="made")

        def __init__(self, store: dict[str, str]) -> None:
            self._store = store

        async def read(self, path: str, context: Context) -> str:
            await trio.lowlevel.checkpoint()
            return self._store[path]

    async def body(call: Call) -> None:
        wrote = await call("closure_write", {"path": "a", "content": "x"})
        assert wrote.content != threading.current_thread().name, "a plain function blocked the event loop"
        assert (await call("made_read", {"path": "a"})).content == "x"
        assert kept == {"a": "x"}

    inside(tmp_path, Closure, Made(kept))(body)


def test_what_cannot_be_a_skill_here_is_refused_before_anything_runs() -> None:
    class NoInfo:
        pass

    class Fails(NativeSkill):
        skill_info = info("execute")

        def __init__(self) -> None:
            raise LookupError("no cache here")

        def execute(self, command: str, context: Context) -> str:
            return command

    class Twin(Odd):
        skill_info = info("execute", name="mi-ne")

    class Twin2(Odd):
        skill_info = info("execute", name="mi_ne")

    async def main() -> None:
        for skills, error in (([NoInfo], BadSkill), ([NoInfo()], BadSkill), ([Fails], LookupError)):
            with pytest.raises(error):
                async with open_native(skills):
                    raise AssertionError("the block was entered")
        with pytest.raises(BadSkill, match="would have the same tools"):
            async with open_native([Twin, Twin2]):
                raise AssertionError("the block was entered")
        with pytest.raises(ValueError, match="cannot be used by another process"):
            async with open_native([Odd()], Host(), isolation="process"):
                raise AssertionError("the block was entered")

    run(main)


def test_output_comes_while_a_call_runs_from_threads_and_from_the_event_loop(tmp_path: Path) -> None:
    go = threading.Event()

    class Slow(NativeSkill):
        skill_info = info("execute", "read")

        def execute(self, command: str, context: Context) -> str:
            context.emit("from a thread")
            assert go.wait(20)
            return "done"

        async def read(self, path: str, context: Context) -> str:
            context.emit("from the loop")
            await trio.to_thread.run_sync(go.wait, 20)
            return "done"

    async def body(call: Call) -> None:
        said: list[str] = []

        async def emit(chunk: OutputChunk) -> None:
            said.append(chunk.text)
            go.set()

        assert (await call("mine_execute", {"command": ""}, emit=emit, timeout_s=20)).content == "done"
        go.clear()
        assert (await call("mine_read", {"path": ""}, emit=emit, timeout_s=20)).content == "done"
        assert said == ["from a thread", "from the loop"]

    inside(tmp_path, Slow)(body)


class Stuck(NativeSkill):
    """Ignores its time until it is let go."""

    skill_info = info("execute", "read")

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.wanted: list[bool] = []

    def execute(self, command: str, context: Context) -> str:
        self.begun.set()
        assert self.go.wait(20)
        self.wanted.append(context.is_wanted())
        context.emit("nobody hears this")
        return "done"

    async def read(self, path: str, context: Context) -> str:
        await trio.sleep(1000)
        return "slept"


def test_a_thread_that_ignores_its_deadline_is_left_alone_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, said = Stuck(), []

    async def emit(chunk: OutputChunk) -> None:
        said.append(chunk.text)

    async def body(call: Call) -> None:
        with caplog.at_level(logging.WARNING):
            result = await call("mine_execute", {"command": ""}, timeout_s=0.2, emit=emit)
        assert result.outcome == "timeout"
        assert "cannot be killed: it was left alone and may go on" in result.content
        assert "goes on after its call; there are 1 of them" in caplog.text
        waiting = await call("mine_execute", {"command": ""}, timeout_s=0.2)
        assert (waiting.outcome, "busy with other calls, 1 of them abandoned" in waiting.content) == ("timeout", True)
        stuck.go.set()
        again = await call("mine_execute", {"command": ""}, timeout_s=20)  # the turn came back with the thread's end
        assert again.content == "done"
        assert stuck.wanted == [False, True]
        assert said == []

    inside(tmp_path, stuck)(body)


def test_the_count_of_abandoned_threads_goes_down_when_they_end(tmp_path: Path) -> None:
    stuck = Stuck()

    async def main() -> None:
        natives = InlineNatives(Host())
        code = code_in(tmp_path)
        natives.offer(code, stuck)
        request = {"kind": "execute", "input": {"command": ""}, "session": "s", "workspace": str(tmp_path)}
        request |= {"readable": [], "environment": {}}
        with trio.move_on_after(0.2) as scope:
            await natives.call(code, request, timeout_s=20, emit=_ignore)
        assert (scope.cancelled_caught, natives.abandoned) == (True, 1)
        stuck.go.set()
        while natives.abandoned:  # noqa: ASYNC110  # a thread ends
            await trio.sleep(0.005)

    run(main)


async def _ignore(_value: Any) -> None:
    pass


def test_an_asynchronous_call_ends_with_its_time(tmp_path: Path) -> None:
    async def body(call: Call) -> None:
        began = trio.current_time()
        result = await call("mine_read", {"path": ""}, timeout_s=5)
        assert trio.current_time() - began == 5
        assert (result.outcome, result.content) == ("timeout", "the call took longer than 5 s and was ended")

    inside(tmp_path, Stuck(), runner=run_virtual)(body)


def test_a_cancelled_call_returns_at_once_and_closing_the_workspace_tells_so(tmp_path: Path) -> None:
    stuck = Stuck()

    async def main() -> None:
        async with open_native([stuck]) as executor:
            room = await executor.open(WorkspaceSpec(session="s", root=tmp_path))
            results = []

            async def call() -> None:
                one = ToolCall(id="1", name="mine_execute", input={"command": ""})
                results.append(await room.execute(one, ToolContext(timeout_s=20)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await trio.to_thread.run_sync(stuck.begun.wait, 20)
                await room.aclose()
            assert [result.outcome for result in results] == ["cancelled"]
            await executor.aclose()
            with pytest.raises(BackendUnavailable, match="closed"):
                await executor.open(WorkspaceSpec(session="s", root=tmp_path))
        stuck.go.set()

    run(main)


def crossing(is_parallel: bool, asynchronous: bool) -> type[NativeSkill]:
    """A skill whose calls end only beside another call."""

    class Threads(NativeSkill):
        skill_info = info("execute")
        parallel = is_parallel

        def __init__(self) -> None:
            self.both = threading.Barrier(2)

        def execute(self, command: str, context: Context) -> str:
            self.both.wait(20 if is_parallel else 0.3)
            return "met"

    class Tasks(NativeSkill):
        skill_info = info("execute")
        parallel = is_parallel

        def __init__(self) -> None:
            self.now = 0
            self.met = False

        async def execute(self, command: str, context: Context) -> str:
            self.now += 1
            self.met = self.met or self.now == 2
            try:
                while not self.met:  # noqa: ASYNC110  # as a skill may
                    await trio.sleep(0.01)
                return "met"
            finally:
                self.now -= 1  # the other one may begin where this one's time is over

    return Tasks if asynchronous else Threads


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("parallel", [False, True])
def test_calls_run_side_by_side_only_where_the_class_says_so(
    tmp_path: Path, parallel: bool, asynchronous: bool
) -> None:
    async def body(call: Call) -> None:
        results: list[ToolResult] = []

        async def one() -> None:
            results.append(await call("mine_execute", {"command": ""}, timeout_s=20 if parallel else 1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)
        assert [result.content == "met" for result in results] == [parallel, parallel]

    inside(tmp_path, crossing(parallel, asynchronous))(body)


def test_more_calls_than_threads_wait_within_their_time(tmp_path: Path) -> None:
    go = threading.Event()

    class Many(NativeSkill):
        skill_info = info("execute")
        parallel = True

        def execute(self, command: str, context: Context) -> str:
            context.emit("begun")
            assert go.wait(20)
            return "done"

    async def body(call: Call) -> None:
        begun = 0

        async def emit(_chunk: OutputChunk) -> None:
            nonlocal begun
            begun += 1
            if begun == 2:
                results.append(await call("mine_execute", {"command": ""}, timeout_s=0.3))
                go.set()

        results: list[ToolResult] = []
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(lambda: call("mine_execute", {"command": ""}, emit=emit, timeout_s=20))
        assert [result.outcome for result in results] == ["timeout"]
        assert "busy" in results[0].content

    inside(tmp_path, Many, threads=2)(body)


def test_twenty_threads_that_wait_do_not_stop_the_event_loop(tmp_path: Path) -> None:
    stuck = [Stuck() for _ in range(20)]
    for number, one in enumerate(stuck):
        one.skill_info = info("execute", name=f"s{number}")  # type: ignore[misc]  # twenty skills of one class

    async def main() -> None:
        natives = InlineNatives(Host())
        rooms = []
        for number, one in enumerate(stuck):
            code = code_in(tmp_path, version=str(number))
            natives.offer(code, one)
            tool = {"name": "x", "input_schema": {"type": "object"}}
            spec = WorkspaceSpec(session="s", root=tmp_path)
            rooms.append(NativeRoom([NativeTools(code=code, tools={"execute": tool})], natives, spec))
        call = ToolCall(id="1", name="x", input={"command": ""})
        async with trio.open_nursery() as nursery:
            for room in rooms:
                nursery.start_soon(room.execute, call, ToolContext(timeout_s=20))
            for one in stuck:
                await trio.to_thread.run_sync(one.begun.wait, 20)
            longest_s = 0.0
            for _ in range(50):
                began = trio.current_time()
                await trio.lowlevel.checkpoint()
                longest_s = max(longest_s, trio.current_time() - began)
            assert longest_s < 1.0
            for one in stuck:
                one.go.set()

    run(main)


# Skills of folders, as a daemon has them


def folder_skill(folder: Path, word: str) -> Path:
    body = (
        "from neighbour import WORD\nclass Skill(NativeSkill):\n"
        "    skill_info = SkillInfo(name='n', description='d', allowed_tools=['execute'])\n"
        "    async def execute(self, command: str, context: Context) -> str:\n"
        "        return WORD + ' ' + context.environment.get('TOKEN', 'none')\n"
    )
    root = write_native(folder, "n", body)
    (root / "neighbour.py").write_text(f"WORD = {word!r}\n")
    return root


def test_two_versions_of_a_folder_have_their_own_neighbours_and_leave_nothing_behind(tmp_path: Path) -> None:
    old, new = folder_skill(tmp_path / "1", "old"), folder_skill(tmp_path / "2", "new")
    path, modules = list(sys.path), set(sys.modules)

    async def main() -> None:
        natives = InlineNatives(Host(), idle_s=0)
        request: dict[str, Any] = {"kind": "execute", "input": {"command": ""}, "session": "s", "readable": []}
        request |= {"workspace": str(tmp_path), "environment": {"TOKEN": "secret"}}
        for root, said in ((old, b"old secret"), (new, b"new secret"), (old, b"old secret")):
            code = code_in(root, version=root.parent.name)
            assert await natives.call(code, request, timeout_s=20, emit=_ignore) == said
        assert sys.path == path
        assert set(sys.modules) - modules == {"_native_n_1", "_native_n_2"}
        await trio.sleep(0.01)
        assert natives.sweep({("n", "2")}) == 1
        assert set(sys.modules) - modules == {"_native_n_2"}
        assert natives.sweep() == 0
        assert natives.sweep(()) == 1

    run(main)
    assert list(tmp_path.rglob("__pycache__")) == []


def test_a_module_that_fails_is_an_error_and_is_tried_again(tmp_path: Path) -> None:
    root = write_native(tmp_path, "n", "raise LookupError('not today')\n")

    async def main() -> None:
        natives = InlineNatives(Host())
        tool = {"name": "n_execute", "input_schema": {"type": "object"}}
        offers = [NativeTools(code=code_in(root), tools={"execute": tool})]
        room = NativeRoom(offers, natives, WorkspaceSpec(session="s", root=tmp_path))
        call = ToolCall(id="1", name="n_execute", input={"command": ""})
        assert (await room.execute(call, ToolContext())).content == "LookupError: not today"
        folder_skill(tmp_path, "mended")
        assert (await room.execute(call, ToolContext())).content == "mended none"

    run(main)


def test_an_answer_that_is_a_mapping_is_json(tmp_path: Path) -> None:
    async def body(call: Call) -> None:
        assert json.loads((await call("mine_execute", {"command": "x"})).content) == {"did": "x"}

    inside(tmp_path, Odd)(body)


@pytest.mark.parametrize("kind", ["execute", "read"])
def test_output_that_is_not_taken_fails_the_call(tmp_path: Path, kind: str) -> None:
    class Talks(NativeSkill):
        skill_info = info("execute", "read")

        def execute(self, command: str, context: Context) -> str:
            context.emit("x")
            return "done"

        async def read(self, path: str, context: Context) -> str:
            context.emit("x")
            await trio.sleep(60)
            return "done"

    async def emit(_chunk: OutputChunk) -> None:
        raise ConnectionError("nobody listens")

    async def body(call: Call) -> None:
        result = await call(f"mine_{kind}", {"command": ""} if kind == "execute" else {"path": ""}, emit=emit)
        assert (result.outcome, "nobody listens" in result.content) == ("error", True)

    inside(tmp_path, Talks)(body)


def test_output_without_end_from_the_event_loop_is_refused(tmp_path: Path) -> None:
    class Floods(NativeSkill):
        skill_info = info("execute")

        async def execute(self, command: str, context: Context) -> str:
            while True:
                context.emit("x")

    async def body(call: Call) -> None:
        result = await call("mine_execute", {"command": ""})
        assert (result.outcome, "faster than it is taken" in result.content) == ("error", True)

    inside(tmp_path, Floods)(body)
