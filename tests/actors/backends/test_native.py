"""Native tools in real worker processes: what they answer, what they may cost, and what becomes of offenders."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from native_kit import (
    OFFENDER,
    code_in,
    no_native_process_is_left,
    open_host,
    open_processes,
    write_native,
    write_offender,
)
from proc_kit import state_of
from skill_actors.backends import (
    NativeProcesses,
    NativeRoom,
    NativeTools,
    OutputChunk,
    ToolCall,
    ToolContext,
    ToolResult,
    WorkspaceSpec,
)
from skill_actors.native import BadSkill
from skill_actors.runtime import WorkerLimits, WorkerTimeout
from skill_actors.runtime.process_spec import INHERITED
from support import run, run_by

LIAR = """
import skill_actors.native.child as child
class Skill: pass
lie = dict(name='s', description='d', tools={{'execute': {tool}}}, parallel=False)
child.describe = lambda skill, inline: type('Lie', (), lie)
"""
Body = Callable[["Bench"], Awaitable[None]]
TOLD = {"spin": "longer than", "block": "longer than", "deaf": "longer than", "leak": "memory", "flood": "printed more"}

_no_process_is_left = no_native_process_is_left


class Bench:
    """A workspace with the tools of one skill."""

    def __init__(self, room: NativeRoom, processes: NativeProcesses) -> None:
        self.room = room
        self.processes = processes

    async def call(self, name: str, input: Any, **context: Any) -> ToolResult:
        context.setdefault("timeout_s", 20.0)
        return await self.room.execute(ToolCall(id="toolu_1", name=name, input=input), ToolContext(**context))

    async def does(self, command: str, **context: Any) -> ToolResult:
        return await self.call("offender_execute", {"command": command}, **context)

    async def pid(self) -> int:
        return int((await self.does("pid")).content)


@pytest.fixture
def on(tmp_path: Path) -> Callable[..., None]:
    """Run a test's body beside an offender's workspace."""

    def call(body: Body, **options: Any) -> None:
        async def main() -> None:
            async with open_processes(**options) as processes:
                await body(Bench(await room_of(processes, write_offender(tmp_path), tmp_path / "work"), processes))

        run(main)

    return call


async def room_of(processes: NativeProcesses, root: Path, work: Path) -> NativeRoom:
    await trio.Path(work).mkdir(exist_ok=True)
    code = code_in(root)
    described = await processes.describe(code)
    spec = WorkspaceSpec(session="ses_1", root=work)
    return NativeRoom([NativeTools(code=code, tools=described.tools, parallel=described.parallel)], processes, spec)


def test_a_call_is_answered_in_its_workspace_by_another_process(on: Callable[..., None], tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        work = tmp_path / "work"
        where = await bench.does("where")
        assert where.outcome == "ok"
        assert where.content == f'["{work}", "{work}", "{tmp_path / "offender"}", "ses_1"]'
        assert (await bench.does("anything")).content == "did anything"
        assert await bench.pid() == await bench.pid() != os.getpid()
        assert list((tmp_path / "offender").rglob("__pycache__")) == []

    on(body)


@pytest.mark.parametrize(
    ("input", "said"),
    [
        ({}, "offender_execute: the input: the field command is missing"),
        ({"command": 5}, "offender_execute: command must be a string, not 5"),
        ({"command": "pid", "more": 1}, "unknown field 'more'"),
        ("pid", "the input must be an object"),
    ],
)
def test_input_that_does_not_fit_never_reaches_the_code(on: Callable[..., None], input: Any, said: str) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.call("offender_execute", input)
        assert result.outcome == "error"
        assert said in result.content

    on(body)


def test_there_are_no_other_tools(on: Callable[..., None]) -> None:
    async def body(bench: Bench) -> None:
        for name in ("offender_write", "bash_tool", ""):
            result = await bench.call(name, {"command": "pid"})
            assert (result.outcome, "offender_read" in result.content) == ("error", True)
        call = ToolCall(id="toolu_1", name="offender_read", input={"path": "x"}, argv=("true",))
        assert (await bench.room.execute(call, ToolContext())).outcome == "error"

    on(body)


def test_an_exception_is_the_last_line_of_its_traceback_and_hurts_nobody(on: Callable[..., None]) -> None:
    async def body(bench: Bench) -> None:
        before = await bench.pid()
        result = await bench.does("raise")
        assert (result.outcome, result.content) == ("error", "LookupError: nothing ? here")
        assert await bench.pid() == before

    on(body)


@pytest.mark.parametrize("offence", list(TOLD))
def test_an_offender_is_killed_told_why_and_replaced(on: Callable[..., None], offence: str) -> None:
    async def body(bench: Bench) -> None:
        before = await bench.pid()
        result = await bench.does(offence, timeout_s=20.0 if offence in ("leak", "flood") else 1.0)
        assert result.outcome == ("timeout" if TOLD[offence] == "longer than" else "error")
        assert TOLD[offence] in result.content
        assert "native:offender@" in result.content
        assert state_of(before) is None
        assert await bench.pid() != before

    on(body, limits=WorkerLimits(memory_bytes=256 << 20))


@pytest.mark.parametrize(("death", "said"), [("exit", "7"), ("segv", "SIGSEGV")])
def test_a_process_that_dies_is_an_error_and_made_again(on: Callable[..., None], death: str, said: str) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.does(death)
        assert (result.outcome, said in result.content) == ("error", True), result.content
        assert (await bench.does("x")).content == "did x"

    on(body)


def test_a_cancelled_call_leaves_no_process_of_it(on: Callable[..., None]) -> None:
    async def body(bench: Bench) -> None:
        pid, deaf = await bench.pid(), trio.Event()

        async def emit(chunk: OutputChunk) -> None:
            assert chunk == OutputChunk("stdout", "deaf")
            deaf.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: bench.does("deaf", emit=emit))
            await deaf.wait()
            nursery.cancel_scope.cancel()
        assert state_of(pid) is None
        assert (await bench.does("x")).outcome == "ok"

    on(body)


def test_closing_the_workspace_ends_what_runs(on: Callable[..., None]) -> None:
    async def body(bench: Bench) -> None:
        pid, results, deaf = await bench.pid(), [], trio.Event()

        async def emit(chunk: OutputChunk) -> None:
            deaf.set()

        async def call() -> None:
            results.append(await bench.does("deaf", emit=emit))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await deaf.wait()
            await bench.room.aclose()
            assert state_of(pid) is None
        await bench.room.aclose()
        assert [result.outcome for result in results] == ["cancelled"]
        assert (await bench.does("x")).outcome == "cancelled"

    on(body)


def test_a_long_answer_is_cut_and_kept_whole_in_a_file(on: Callable[..., None], tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.does("long", max_output_chars=2_000)
        assert result.output_file == ".skilld/output/toolu_1.txt"
        assert (tmp_path / "work" / result.output_file).read_text() == "line\n" * 100_000
        assert len(result.content) <= 2_000
        assert f"the whole is in {result.output_file}" in result.content

    on(body)


def test_the_environment_of_one_call_is_not_that_of_the_next(on: Callable[..., None]) -> None:
    async def body(bench: Bench) -> None:
        with_token = await bench.does("environment", environment={"API_TOKEN": "correct horse"})
        assert '"API_TOKEN"' in with_token.content
        names = set(json.loads((await bench.does("environment")).content))
        assert names <= {*INHERITED, "LC_CTYPE"}

    on(body)


def test_what_is_hidden_is_in_no_answer_and_in_no_file(on: Callable[..., None], tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        secret = {"environment": {"API_TOKEN": "correct horse"}, "hidden": ["correct horse"]}
        result = await bench.does("secret", max_output_chars=2_000, **secret)
        assert (result.outcome, result.content[:4], result.output_file) == ("ok", "***\n", None)
        assert list((tmp_path / "work").iterdir()) == []

    on(body)


@pytest.mark.parametrize("command", ["secret error", "secret crash"])
def test_what_is_hidden_is_neither_in_an_error_nor_in_the_log(
    on: Callable[..., None], command: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(bench: Bench) -> None:
        secret = {"environment": {"API_TOKEN": "correct horse"}, "hidden": ["correct horse"]}
        result = await bench.does(command, **secret)
        assert result.outcome == "error"
        assert "corr" not in result.content + caplog.text
        assert (command, "exit code 3" in result.content) in {("secret crash", True), ("secret error", False)}

    on(body)


def test_a_copy_of_the_process_that_a_call_left_answers_nobody(on: Callable[..., None]) -> None:
    async def body(bench: Bench) -> None:
        assert (await bench.does("fork")).content == "forked"
        for word in ("one", "two", "three"):
            assert (await bench.does(word)).content == f"did {word}"

    on(body)


FORGER = """\
import os, socket, struct

class Skill(NativeSkill):
    skill_info = SkillInfo(name="forger", description="Answers in the place of its process.", allowed_tools=["execute"])

    def execute(self, command: str, context: Context) -> str:
        for name in os.listdir("/proc/self/fd"):
            if os.path.realpath("/proc/self/fd/" + name).partition("/fd/")[2].startswith("socket:"):
                payload = (command * 200_000 if len(command) == 1 else command).encode()
                socket.socket(fileno=int(name)).sendall(struct.pack(">IBI", len(payload), 20, 1) + payload)
        return "never"
"""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("[", "The tool's process was ended."),
        ("NaN", "BadAnswer: its process answered"),
        ("[" * 900 + "]" * 900, "BadAnswer: its process answered"),
        ('{"a": 1}', "BadAnswer: its process answered"),
    ],
)
def test_an_answer_that_is_forged_is_an_error(command: str, said: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with open_processes() as processes:
            room = await room_of(processes, write_native(tmp_path, "forger", FORGER), tmp_path / "work")
            call = ToolCall(id="1", name="forger_execute", input={"command": command})
            result = await room.execute(call, ToolContext(timeout_s=20))
            assert result.outcome == "error"
            assert result.content.startswith(said)

    run(main)


def test_an_answer_that_is_far_too_long_is_an_error(on: Callable[..., None]) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.does("huge")
        assert (result.outcome, "over the limit of 8388608" in result.content) == ("error", True)

    on(body)


def test_a_long_answer_never_leaves_the_workspace_through_a_link(on: Callable[..., None], tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "work" / ".skilld").symlink_to(tmp_path / "outside")
        result = await bench.does("long", max_output_chars=2_000)
        assert (result.outcome, result.output_file) == ("ok", None)
        assert "cannot be written" in result.content
        assert list((tmp_path / "outside").iterdir()) == []

    on(body)


def test_calls_run_side_by_side_in_processes_of_their_own_up_to_the_limit(on: Callable[..., None]) -> None:
    async def body(bench: Bench) -> None:
        begun, both, results = 0, trio.Event(), []

        async def emit(chunk: OutputChunk) -> None:
            nonlocal begun
            begun += 1
            if begun == 2:
                both.set()

        async def call() -> None:
            results.append(await bench.does("deaf", emit=emit))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)
            await both.wait()
            waiting = await bench.does("x", timeout_s=0.5)
            assert (waiting.outcome, "all 2 processes" in waiting.content) == ("timeout", True)
            assert results == []
            nursery.cancel_scope.cancel()
        assert (await bench.does("x")).content == "did x"

    on(body, per_skill=2)


def test_what_is_idle_or_out_of_date_goes_and_what_runs_stays(tmp_path: Path) -> None:
    clock = trio.testing.MockClock(rate=1.0)  # the call's time is over when the test says so

    async def main() -> None:
        async with open_processes() as processes:
            room = await room_of(processes, write_offender(tmp_path), tmp_path / "work")
            bench = Bench(room, processes)
            pid = await bench.pid()
            assert await processes.sweep() == 0
            assert await processes.sweep({("offender", "1")}) == 0
            answers: list[ToolResult] = []

            async def wait(deaf: trio.Event) -> None:
                async def emit(chunk: OutputChunk) -> None:
                    deaf.set()

                answers.append(await bench.does("deaf", timeout_s=60.0, emit=emit))

            async with trio.open_nursery() as nursery:
                deaf = trio.Event()
                nursery.start_soon(wait, deaf)
                await deaf.wait()
                assert await processes.sweep({("offender", "2")}) == 0, "a call runs there"
                assert state_of(pid) is not None
                clock.jump(60.0)
            assert await processes.sweep({("offender", "2")}) == 1
            assert answers[0].outcome == "timeout"
            again = await bench.pid()
            assert again != pid, "a conversation that is pinned to the old version goes on with it"
            assert await processes.sweep({("offender", "2")}) == 1
            assert state_of(again) is None
        async with open_processes(idle_s=0.0) as processes:
            bench = Bench(await room_of(processes, tmp_path / "offender", tmp_path / "work"), processes)
            pid = await bench.pid()
            assert await processes.sweep() == 1
            assert state_of(pid) is None

    run_by(clock, main)


def test_where_there_are_as_many_as_there_may_be_the_one_idle_longest_makes_room(tmp_path: Path) -> None:
    async def main() -> None:
        root = write_offender(tmp_path)
        async with open_processes(most=2) as processes:
            pids = []
            for version in ("1", "2", "1", "3"):
                request = {"kind": "execute", "input": {"command": "pid"}, "environment": {}}
                request |= {"session": "s", "workspace": str(tmp_path), "readable": []}
                code = code_in(root, version=version)
                pids.append(int(await processes.call(code, request, timeout_s=20.0, emit=_ignore)))
            first, second, again, third = pids
            assert first == again
            assert [state_of(pid) is not None for pid in (first, second, third)] == [True, False, True]

    run(main)


def test_a_call_waits_for_a_process_within_its_own_time_and_reports_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_processes(per_skill=1) as processes:
            code, request = code_in(write_offender(tmp_path)), {"kind": "read", "input": {"path": "x"}}
            request |= {"session": "s", "workspace": str(tmp_path), "readable": []}
            with pytest.raises(WorkerTimeout):
                await processes.call(code, request, timeout_s=0.0, emit=_ignore)

    run(main)


async def _ignore(_value: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module' (native.py, line 3"),
        ("class Other: pass", "has no class Skill"),
        ("def broken(:", "SyntaxError"),
        ("while True: pass", "longer than"),
        ("import os; os._exit(3)", "3"),
        ("raise SystemExit(4)", "4"),
        ("x = bytearray(4 << 30)", "memory"),
        (LIAR.format(tool="{'name': 's_execute', 'description': 5, 'input_schema': {'type': 'object'}}"), "else"),
        (
            LIAR.format(
                tool="{'name': 's_execute', 'description': 'd', 'input_schema': {'type': 'object', 'properties': 7}}"
            ),
            "else",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_refused_and_leaves_no_process(
    tmp_path: Path, code: str, said: str
) -> None:
    async def main() -> None:
        async with open_host() as host:
            processes = NativeProcesses(host)
            timeout_s = 4.0 if said == "longer than" else 20.0  # its process has to start meanwhile
            with pytest.raises(BadSkill) as caught:
                await processes.describe(code_in(write_native(tmp_path, "bad", code)), timeout_s=timeout_s)
            assert caught.value.code == "native_import_failed"
            assert said in caught.value.message
            assert host.workers.count_children() == 0

    run(main)


def test_a_module_may_import_its_neighbours_and_what_is_installed(tmp_path: Path) -> None:
    body = (
        "import trio\nfrom neighbour import WORD\nclass Skill(NativeSkill):\n"
        "    skill_info = SkillInfo(name='n', description=WORD, allowed_tools=['execute'])\n"
        "    def execute(self, command: str, context: Context) -> str: return WORD\n"
    )
    root = write_native(tmp_path, "n", body)
    (root / "neighbour.py").write_text("WORD = 'beside'\n")

    async def main() -> None:
        async with open_processes() as processes:
            assert (await processes.describe(code_in(root))).description == "beside"

    run(main)


def test_a_module_in_a_folder_of_the_skill_imports_from_there_and_from_the_top(tmp_path: Path) -> None:
    body = (
        "from neighbour import WORD\nfrom above import OTHER\nclass Skill(NativeSkill):\n"
        "    skill_info = SkillInfo(name='n', description=WORD + OTHER, allowed_tools=['execute'])\n"
        "    def execute(self, command: str, context: Context) -> str: return WORD\n"
    )
    root = write_native(tmp_path, "n", body)
    (root / "scripts").mkdir()
    (root / "native.py").rename(root / "scripts" / "native.py")
    (root / "scripts" / "neighbour.py").write_text("WORD = 'beside'\n")
    (root / "above.py").write_text("OTHER = ' and above'\n")

    async def main() -> None:
        async with open_processes() as processes:
            assert (await processes.describe(code_in(root, file="scripts/native.py"))).description == "beside and above"

    run(main)


ODD = """
class Skill(NativeSkill):
    skill_info = SkillInfo(name="odd", description="Returns what it is told to.", allowed_tools=["execute", "read"])

    def execute(self, command: str, context: Context) -> object:
        return {"none": None, "int": 7, "bytes": b"x", "set": [{1}], "text": "fine", "list": [1, None]}[command]

    def read(self, path: str, context: Context) -> str:
        (context.workspace / "missing" / path).read_text()
        return ""
"""


@pytest.mark.parametrize(
    ("command", "outcome", "said"),
    [
        ("none", "error", "BadAnswer: it returned nothing; it has to return text"),
        ("int", "error", "BadAnswer: it returned a value of type int"),
        ("bytes", "error", "BadAnswer: it returned a value of type bytes"),
        ("set", "error", "BadAnswer: it returned a list that is no JSON"),
        ("gone", "error", "KeyError: 'gone'"),
        ("text", "ok", "fine"),
        ("list", "ok", "[1, null]"),
    ],
)
def test_only_text_and_json_are_answers(tmp_path: Path, command: str, outcome: str, said: str) -> None:
    async def main() -> None:
        async with open_processes() as processes:
            bench = Bench(await room_of(processes, write_native(tmp_path, "odd", ODD), tmp_path / "work"), processes)
            result = await bench.call("odd_execute", {"command": command})
            assert (result.outcome, result.content[: len(said)]) == (outcome, said)

    run(main)


def test_an_error_names_files_as_the_model_knows_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_processes() as processes:
            bench = Bench(await room_of(processes, write_native(tmp_path, "odd", ODD), tmp_path / "work"), processes)
            result = await bench.call("odd_read", {"path": "a.txt"})
            assert result.content == "FileNotFoundError: [Errno 2] No such file or directory: 'missing/a.txt'"
            assert str(tmp_path) not in result.content

    run(main)


def test_calls_of_a_conversation_wait_for_each_other_unless_the_class_says_that_they_need_not(tmp_path: Path) -> None:
    body = OFFENDER.format(name="offender").replace("parallel = True", "")

    async def main() -> None:
        async with open_processes() as processes:
            room = await room_of(processes, write_native(tmp_path, "offender", body), tmp_path / "work")
            other = await room_of(processes, tmp_path / "offender", tmp_path / "other")
            bench, deaf = Bench(room, processes), trio.Event()

            async def emit(chunk: OutputChunk) -> None:
                deaf.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: bench.does("deaf", emit=emit))
                await deaf.wait()
                waiting = await bench.does("x", timeout_s=0.3)
                assert waiting.outcome == "timeout"
                assert "busy with other calls of this conversation for 0.3 s" in waiting.content
                assert (await Bench(other, processes).does("x")).content == "did x", "another conversation waited"
                nursery.cancel_scope.cancel()
            assert (await bench.does("x")).content == "did x"

    run(main)
