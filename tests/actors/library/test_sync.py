"""The library without async: from a script, from several threads, beside asyncio, under Ctrl-C."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loop_kit import MemoryExecutor, call, message, says, uses
from skill_actors import library
from skill_actors.backends import ToolCall
from skill_actors.backends.anthropic import HostedClient
from skill_actors.library import SkillError, sync
from skill_actors.models.base import Message
from skill_actors.testing import CodeExecution, FakeMessagesApi, Reply, Text, ToolUse, serve_in_thread


class Answers:
    """A plain function as a model: one that blocks its thread is allowed."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)

    def __call__(self, messages: Sequence[Message]) -> object:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def bash(id: str, command: str) -> Any:
    return call(id, "bash_tool", command=command, description="d")


def test_a_script_chats_over_turns_and_reads_its_files() -> None:
    told: list[tuple[str, str]] = []
    model = Answers(uses(bash("toolu_1", "echo one > f")), says("first"), says("second"))
    with sync.new_local(on_tool_result=lambda each, result: told.append((each.name, result.outcome))) as session:
        response, same = session.chat("hi", model)
        assert (response.text, same) == ("first", session)
        response, _ = session.chat("again", model)
        assert response.text == "second"
        assert session.read_file("f") == b"one\n"
        session.put_file("g", b"two")
        assert session.run("bash_tool", command="cat g", description="d").content == "two"
        assert [file.name for file in session.files()] == ["f", "g"]
        assert told == [("bash_tool", "ok")]
        session.add_message("user", "more")
        assert len(session.messages) == 7
        session.reset()
        assert session.messages == []
    with pytest.raises(SkillError, match="session_closed"):
        session.chat("late", model)


def test_errors_carry_the_blocking_session_and_a_block_that_raises_is_left_cleanly() -> None:
    with sync.new_local() as session:
        with pytest.raises(SkillError) as failed:
            session.chat("hi", Answers(ConnectionError("no")))
        assert failed.value.session is session
    opened: list[sync.Session] = []

    def fail() -> None:
        with sync.new_local() as other:
            opened.append(other)
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        fail()
    with pytest.raises(SkillError, match="session_closed"):
        opened[0].files()
    with pytest.raises(SkillError, match="no backend 'nope'"), sync.start_session("nope"):
        raise AssertionError("it was opened")


def test_conversations_of_several_threads_run_at_the_same_time() -> None:
    barrier = threading.Barrier(4, timeout=20)
    texts: list[str] = []

    def model(messages: Sequence[Message]) -> object:
        barrier.wait()  # passes only if all four are being asked now
        return says("met")

    def work() -> None:
        with sync.new_local() as session:
            texts.append(session.chat("hi", model)[0].text)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert texts == ["met"] * 4


def test_one_conversation_is_used_from_two_threads_and_one_is_refused() -> None:
    asked, go = threading.Event(), threading.Event()

    def slow(messages: Sequence[Message]) -> object:
        asked.set()
        assert go.wait(20)
        return says("slow")

    with sync.new_local() as session:
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(session.chat("one", slow)[0].text))
        thread.start()
        assert asked.wait(20)
        with pytest.raises(SkillError, match="session_busy"):
            session.chat("two", Answers(says("x")))
        assert session.put_file("meanwhile", b"x").size == 1
        go.set()
        thread.join(20)
        assert answers == ["slow"]


def test_a_model_and_a_callback_may_use_the_conversation_they_belong_to() -> None:
    with sync.new_local() as session:

        def model(messages: Sequence[Message]) -> object:
            session.put_file("from-model", b"1")
            return message([{"type": "text", "text": "ok"}], "end_turn")

        seen: list[bytes] = []
        session.chat("hi", model, on_response=lambda _response: seen.append(session.read_file("from-model")))
        assert seen == [b"1"]
        assert session.callback_failures == {}


def test_an_async_function_that_blocks_its_own_loop_is_an_error_and_not_a_deadlock() -> None:
    with sync.new_local() as session:

        async def model(messages: Sequence[Message]) -> object:
            return session.files()

        with pytest.raises(SkillError) as failed:
            session.chat("hi", model)
        assert isinstance(failed.value.__cause__, RuntimeError)


def test_it_works_in_a_program_that_runs_asyncio() -> None:
    async def main() -> str:
        with sync.new_local() as session:
            response, _ = await asyncio.to_thread(session.chat, "hi", Answers(says("beside")))
            return str(response.text)

    assert asyncio.run(main()) == "beside"


def test_a_registry_for_scripts(tmp_path: Path) -> None:
    def write(name: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "SKILL.md").write_text(f"---\nname: {name}\ndescription: Does {name}.\n---\nBody\n")

    write("one")
    told, heard = [], threading.Event()

    def listener(change: Any) -> None:
        told.append(sorted(change.added))
        heard.set()

    with sync.Registry("scripts", [tmp_path]) as registry:
        stop = registry.subscribe(listener)
        assert [skill.name for skill in registry.list()] == ["one"]
        write("two")
        assert registry.reload().added == ("two",)
        assert registry.get("two").description == "Does two."
        assert heard.wait(20)
        stop()
        assert told == [["two"]]
        with sync.new_local(registry.list()) as session:
            assert len(session.skills) == 2


def test_hosted_code_beside_this_host_in_a_script(tmp_path: Path) -> None:
    replies = [
        Reply([CodeExecution("make", files={"out.txt": b"made"})]),
        Reply([ToolUse("hand_over", {"name": "out.txt", "from": "anthropic", "to": "local"})]),
        Reply([Text("Handed over.")]),
    ]
    with serve_in_thread(FakeMessagesApi(replies)) as api:
        client = HostedClient(lambda: "any", base_url=api.base_url)
        hosted = {"skills": ["anthropic:xlsx"], "client": client, "uploads": tmp_path / "u"}
        with sync.new_hybrid(["local", ("anthropic", hosted)], model_name="m") as session:
            session.chat("make", client)
            response, _ = session.chat("hand over", client)
            assert response.text == "Handed over."
            assert session.container_id is not None
            assert session.read_file("out.txt", "local") == b"made"
            assert session.delete_remote() == []
        sync.call(client.aclose)


_INTERRUPTED = """\
import pathlib, sys
from skill_actors.library import sync

def model(messages):
    use = {"type": "tool_use", "id": "toolu_1", "name": "bash_tool"}
    use["input"] = {"command": "echo $$ > pid; exec sleep 1000", "description": "d"}
    return {"stop_reason": "tool_use", "content": [use]}

try:
    with sync.new_local(working_directory=sys.argv[1]) as session:
        try:
            session.chat("hi", model)
        except KeyboardInterrupt:
            pid = pathlib.Path(sys.argv[1], "pid").read_text().strip()
            print("alive" if pathlib.Path("/proc", pid).exists() else "dead", len(session.messages), flush=True)
            raise
except KeyboardInterrupt:
    print("closed", flush=True)
"""


def test_ctrl_c_kills_what_runs_and_is_a_keyboard_interrupt(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    os.mkfifo(folder / "pid")
    program = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pid = (folder / "pid").read_text()  # waits until the command writes it
    (folder / "pid").unlink()
    (folder / "pid").write_text(pid)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=30)
    assert (out, err) == ("dead 3\nclosed\n", "")
    assert program.returncode == 0


_LEFT_OPEN = """\
import sys, threading
from skill_actors.library import sync

def hold():
    with sync.new_local() as session:
        yield session

left = hold() if sys.argv[1] == "generator" else sync.new_local()
session = next(left) if sys.argv[1] == "generator" else left.__enter__()
session.run("bash_tool", command="sleep 1000 & echo $! > pid", description="d")
if sys.argv[1] == "thread":
    ask = lambda messages: threading.Event().wait()
    threading.Thread(target=session.chat, args=("hi", ask), daemon=True).start()
if sys.argv[1] == "exit":
    sys.exit(5)
print("end")
"""


@pytest.mark.parametrize(("how", "code"), [("block", 0), ("generator", 0), ("thread", 0), ("exit", 5)])
def test_what_a_program_leaves_open_is_closed_when_it_ends(how: str, code: int, tmp_path: Path) -> None:
    """The loop is in a thread that stands still at the end: whoever asked it then would wait for ever."""
    done = subprocess.run(
        [sys.executable, "-c", _LEFT_OPEN, how],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == code
    assert how == "thread" or done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_functions_that_never_end_keep_nobody_else_from_running() -> None:
    """Nobody waits for them when their turn is over, but their threads are there."""
    end = threading.Event()

    def hang(*_: object) -> object:
        end.wait()
        return says("late")

    try:
        with sync.new_local(executor=MemoryExecutor()) as session:
            for _ in range(70):
                with pytest.raises(SkillError, match="turn_timeout"):
                    session.chat("hi", hang, timeout_s=0.005)
                with pytest.raises(SkillError, match="turn_timeout"):
                    session.chat("hi", Answers(says("x")), on_response=hang, timeout_s=0.02)
            assert session.chat("hi", Answers(says("fine")))[0].text == "fine"
        with sync.new_local() as session:
            session.put_file("a", b"1")  # which takes a thread
            assert session.read_file("a") == b"1"
    finally:
        end.set()


def test_a_callback_that_is_an_object_with_an_async_call_is_awaited() -> None:
    told: list[str] = []

    class Tell:
        async def __call__(self, each: ToolCall) -> None:
            told.append(each.name)

    model = Answers(uses(bash("toolu_1", "true")), says("ok"))
    with sync.new_local(on_tool_call=Tell()) as session:
        session.chat("hi", model)
        assert (told, session.callback_failures) == (["bash_tool"], {})


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_loop_of_its_own() -> None:
    with sync.new_local():
        program = os.fork()
        if program == 0:  # pragma: no cover - another process
            code = 1
            try:
                with sync.new_local() as session:
                    code = 0 if session.chat("hi", Answers(says("child")))[0].text == "child" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(program, 0)[1]) == 0


@pytest.mark.parametrize(
    ("waiting", "blocking", "attributes"),
    [
        (library.Session, sync.Session, {"execution_mode", "session_id"}),
        (library.Registry, sync.Registry, set()),
    ],
)
def test_it_has_the_same_names(waiting: type, blocking: type, attributes: set[str]) -> None:
    constructors = {"local", "docker", "native", "anthropic", "hybrid"}
    names = {name for name in dir(waiting) if not name.startswith("_")} - constructors
    assert {name for name in dir(blocking) if not name.startswith("_")} == names | attributes


@pytest.mark.parametrize("name", [name for name in sync.__all__ if name.startswith(("new_", "start_"))])
def test_a_constructor_tells_of_itself_what_the_other_does(name: str) -> None:
    blocking, other = getattr(sync, name), getattr(library, name)
    assert (blocking.__name__, blocking.__doc__) == (name, other.__doc__)
    assert list(inspect.signature(blocking).parameters) == list(inspect.signature(other).parameters)
