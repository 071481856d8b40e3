"""A conversation of a program: what it keeps over turns, what it refuses, and how it ends."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
import trio

from loop_kit import MemoryExecutor, Script, call, ok, says, uses
from skill_actors.backends import ToolCall, ToolContext, ToolResult
from skill_actors.library import ChatResponse, Session, SkillError, new_local, start_session
from skill_actors.models import OfflineModel
from skill_actors.models.base import Message
from skill_actors.skills import load
from skill_actors.testing import HttpError, Reply, ScriptedModel, Text, ToolUse
from support import run, run_virtual


def bash(id: str, command: str) -> ToolCall:
    return call(id, "bash_tool", command=command, description="d")


def check_pairs(messages: Sequence[Message]) -> None:
    """Whether the API would take this history before a further message of the user."""
    waiting: set[str] = set()
    for before, message in zip([None, *messages], messages, strict=False):
        assert before is None or before["role"] != message["role"]
        results = {block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"}
        assert results == waiting
        waiting = {block["id"] for block in message["content"] if block["type"] == "tool_use"}
    assert not waiting


def test_turns_share_one_workspace_and_the_answer_has_the_shape_of_the_api() -> None:
    model = Script(
        uses(bash("toolu_1", "echo kept > note; echo one"), usage={"input_tokens": 5, "output_tokens": 2}),
        says("first", id="msg_1", model="m-1", usage={"input_tokens": 7, "output_tokens": 1}),
        uses(bash("toolu_2", "cat note")),
        says("second"),
    )

    async def main() -> None:
        async with new_local() as session:
            response, same = await session.chat("write", model)
            assert same is session
            assert isinstance(response, ChatResponse)
            assert (response.id, response.model, response.role, response.stop_reason) == (
                *("msg_1", "m-1", "assistant", "end_turn"),
            )
            assert response.to_dict()["usage"]["input_tokens"] == 12
            assert response.to_dict()["content"] == [{"type": "text", "text": "first"}]
            response, _ = await session.chat("read", model)
            assert (response.text, response.iterations) == ("second", 2)
            assert [file.name for file in session.created_files] == ["note"]
            assert await session.read_file("note") == b"kept\n"
        assert model.seen[-1][-1]["content"][0]["content"] == "kept"

    run(main)


def test_a_temporary_folder_goes_with_the_conversation_and_a_given_one_stays(tmp_path: Path) -> None:
    async def main() -> Path:
        model = Script(uses(bash("toolu_1", "pwd > here")), says("ok"))
        async with new_local() as session:
            await session.chat("hi", model)
            scratch = Path((await session.read_file("here")).decode().strip())
        model = Script(uses(bash("toolu_1", "touch kept")), says("ok"))
        async with new_local(working_directory=tmp_path / "mine") as session:
            await session.chat("hi", model)
        return scratch

    scratch = run(main)
    assert not scratch.parent.exists()
    assert (tmp_path / "mine/kept").exists()


def test_an_executor_of_ones_own_runs_the_tools_and_never_a_shell_instead() -> None:
    executor = MemoryExecutor()

    async def main() -> None:
        async with new_local(executor=executor) as session:
            assert session.execution_mode == "memory"
            await session.chat("hi", Script(uses(bash("toolu_1", "ls")), says("ok")))
            assert [each.id for each in executor.calls] == ["toolu_1"]
        with pytest.raises(SkillError, match="no backend 'nope'") as refused:
            async with new_local(executor="nope"):
                raise AssertionError("it was opened")
        assert (refused.value.code, refused.value.details["backend"]) == ("backend_unavailable", "nope")

    run(main)
    assert executor.closed


@pytest.mark.parametrize("kind", ["sync", "async", "object", "lambda", "partial"])
def test_any_callable_is_a_model(kind: str) -> None:
    threads: list[threading.Thread] = []

    def plain(messages: Sequence[Message]) -> object:
        threads.append(threading.current_thread())
        return says("plain")

    async def waiting(messages: Sequence[Message]) -> object:
        await trio.lowlevel.checkpoint()
        return says("plain")

    class Called:
        async def __call__(self, messages: Sequence[Message]) -> object:
            return await waiting(messages)

    models: Mapping[str, Any] = {
        "sync": plain,
        "async": waiting,
        "object": Called(),
        "lambda": lambda messages: waiting(messages),
        "partial": functools.partial(waiting),
    }

    async def main() -> None:
        async with new_local() as session:
            response, _ = await session.chat("hi", models[kind])
            assert response.text == "plain"

    run(main)
    assert threading.main_thread() not in threads


def test_a_function_that_takes_a_request_has_tools_system_and_limits_in_it() -> None:
    requests: list[Mapping[str, Any]] = []

    async def ask(request: Mapping[str, Any]) -> object:
        requests.append(request)
        return says("ok")

    async def main() -> None:
        async with new_local(system="Be brief.", model_name="m") as session:
            await session.chat("hi", ask, max_tokens=77)
            assert [tool["name"] for tool in requests[0]["tools"]] == [tool["name"] for tool in session.tools]

    run(main)
    assert (requests[0]["model"], requests[0]["max_tokens"]) == ("m", 77)
    assert requests[0]["system"].startswith("Be brief.")


def test_a_model_of_the_package_keeps_its_id_and_stop_reason() -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([Text("cut")], stop_reason="max_tokens")])
        async with new_local() as session:
            response, _ = await session.chat("hi", model, model_name="m")
            assert response.id is not None
            assert response.stop_reason == "max_tokens"

    run(main)


def test_the_history_stays_when_a_turn_fails_and_the_next_goes_on_from_it() -> None:
    async def main() -> None:
        model = Script(uses(bash("toolu_1", "echo did")), ConnectionError("no line"), says("again"))
        async with new_local() as session:
            with pytest.raises(SkillError) as failed:
                await session.chat("remember this", model)
            assert failed.value.session is session
            assert (failed.value.code, failed.value.retryable) == ("model_call_failed", True)
            assert len(session.messages) == 3
            check_pairs([*session.messages])
            response, _ = await session.chat("go on", model)
            assert response.text == "again"
            check_pairs(session.messages)
            assert session.messages[2]["content"][-1]["text"] == "go on"

    run(main)


def test_a_turn_that_is_cancelled_kills_what_runs_and_leaves_a_history_that_goes_on() -> None:
    started = trio.Event()

    async def hang(call: ToolCall, context: ToolContext) -> ToolResult:
        started.set()
        await trio.sleep_forever()

    async def main() -> None:
        model = Script(uses(bash("toolu_1", "sleep")), says("on"))
        async with new_local(executor=MemoryExecutor(hang)) as session:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.chat, "hi", model)
                await started.wait()
                nursery.cancel_scope.cancel()
            check_pairs(session.messages)
            assert session.messages[-1]["content"][0]["is_error"]
            response, _ = await session.chat("and now?", model)
            assert response.text == "on"

    run(main)


def test_a_second_turn_at_the_same_time_is_refused_and_the_first_is_not_disturbed() -> None:
    async def main() -> None:
        asked, go = trio.Event(), trio.Event()

        async def slow(messages: Sequence[Message]) -> object:
            asked.set()
            await go.wait()
            return says("slow")

        async with new_local() as session, trio.open_nursery() as nursery:
            answers: list[str] = []

            async def first() -> None:
                response, _ = await session.chat("one", slow)
                answers.append(response.text)

            nursery.start_soon(first)
            await asked.wait()
            with pytest.raises(SkillError) as refused:
                await session.chat("two", slow)
            assert (refused.value.code, refused.value.retryable) == ("session_busy", True)
            with pytest.raises(SkillError, match="session_busy"):
                session.reset()
            with pytest.raises(SkillError, match="session_busy"):
                session.add_message("user", "x")
            go.set()
        assert answers == ["slow"]

    run(main)


def test_bounds_hold_for_a_turn_and_are_typed_errors() -> None:
    async def main() -> None:
        async with new_local(executor=MemoryExecutor()) as session:
            many = Script(*(uses(bash(f"toolu_{number}", "x")) for number in range(5)))
            with pytest.raises(SkillError) as failed:
                await session.chat("hi", many, max_iterations=3)
            assert failed.value.code == "max_iterations_reached"
            assert failed.value.details["max_iterations"] == 3
            check_pairs(session.messages)
            assert len(many.seen) == 3

            async def never(messages: Sequence[Message]) -> object:
                await trio.sleep_forever()

            with pytest.raises(SkillError) as late:
                await session.chat("hi", never, timeout_s=5)
            assert (late.value.code, late.value.details["timeout_ms"]) == ("turn_timeout", 5000)
            pauses = Script(*({**says("..."), "stop_reason": "pause_turn"} for _ in range(4)))
            with pytest.raises(SkillError) as paused:
                await session.chat("hi", pauses, max_pauses=2)
            assert paused.value.code == "pause_turn_max_exceeded"
            assert paused.value.details == {"iterations": 3, "max": 2}

    run_virtual(main)


def test_messages_are_added_and_forgotten_and_what_the_api_would_refuse_is_refused() -> None:
    async def main() -> None:
        async with new_local(messages=[{"role": "user", "content": "before"}]) as session:
            session.add_message("assistant", "yes")
            with pytest.raises(ValueError, match="no result"):
                session.add_messages([{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "x"}]}])
            with pytest.raises(ValueError, match="role"):
                session.add_message("system", "x")
            with pytest.raises(ValueError, match="empty"):
                session.add_message("user", "  ")
            assert [message["role"] for message in session.messages] == ["user", "assistant"]
            await session.chat("and?", Script(says("all")))
            assert len(session.messages) == 4
            session.reset()
            assert session.messages == []
            with pytest.raises(ValueError, match="user's"):
                session.add_message("assistant", "first")

    run(main)


def test_a_request_that_has_a_default_is_given_as_well() -> None:
    async def ask(messages: Sequence[Message], request: Mapping[str, Any] | None = None) -> object:
        assert request is not None
        return says(f"{len(request['tools'])} tools")

    async def main() -> None:
        async with new_local(executor=MemoryExecutor()) as session:
            assert (await session.chat("hi", ask))[0].text == "4 tools"

    run(main)


@pytest.mark.parametrize("answer", [LookupError("a secret of the executor"), None, ok(b"bytes")], ids=str)  # type: ignore[arg-type]
def test_an_executor_that_misbehaves_is_an_error_of_the_call_that_was_run(answer: Any) -> None:
    async def misbehave(_call: ToolCall, _context: ToolContext) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> None:
        async with new_local(executor=MemoryExecutor(misbehave)) as session:
            with pytest.raises(SkillError) as failed:
                await session.run("bash_tool", command="x", description="d")
            assert (failed.value.code, failed.value.session) == ("execution_failed", session)
            assert "secret" not in str(failed.value)

    run(main)


def test_an_executor_that_never_ends_a_call_is_left_after_its_time() -> None:
    async def hang(_call: ToolCall, _context: ToolContext) -> ToolResult:
        await trio.sleep_forever()

    async def main() -> None:
        async with new_local(executor=MemoryExecutor(hang), timeout_s=2) as session:
            with pytest.raises(SkillError) as late:
                await session.run("bash_tool", command="x", description="d")
            assert (late.value.code, late.value.details["timeout_ms"]) == ("execution_timeout", 2000)

    run_virtual(main)


@pytest.mark.parametrize("backend", [None, 3, dict])
def test_what_is_no_backend_is_refused(backend: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="a name or an Executor"):
            async with start_session(backend):
                raise AssertionError("it was opened")

    run(main)


@pytest.mark.parametrize(
    ("raised", "retryable"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (httpx.ReadTimeout("x"), True),
        (anthropic.APIConnectionError(request=httpx.Request("GET", "http://x")), True),  # type: ignore[arg-type]
        (ValueError("of the program"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_model_that_gave_no_answer_may_be_asked_again(raised: Exception, retryable: bool) -> None:
    async def main() -> None:
        async with new_local(executor=MemoryExecutor()) as session:
            with pytest.raises(SkillError) as failed:
                await session.chat("hi", Script(raised))
            assert (failed.value.code, failed.value.retryable) == ("model_call_failed", retryable)
            assert failed.value.__cause__ is raised

    run(main)


def test_every_error_of_a_conversation_has_it() -> None:
    async def main() -> None:
        async with new_local() as session:
            for attempt in (
                lambda: session.read_file("missing"),
                lambda: session.put_file("../up", b""),
                lambda: session.hand_over("missing", "local", "local"),
                lambda: session.run("bash_tool"),
                lambda: session.chat("hi", Script(LookupError())),
            ):
                with pytest.raises(SkillError) as failed:
                    await attempt()
                assert failed.value.session is session

    run(main)


def test_tools_that_are_kept_back_do_not_run_whoever_asks() -> None:
    executor = MemoryExecutor()

    async def main() -> None:
        async with new_local(executor=executor, except_=["bash_tool"]) as session:
            await session.chat("hi", Script(uses(bash("toolu_1", "x")), says("ok")))
            with pytest.raises(SkillError) as denied:
                await session.run("bash_tool", command="x", description="d")
            assert denied.value.code == "policy_denied"
        with pytest.raises(ValueError, match="no tool 'bash'"):
            async with new_local(executor=executor, only=["bash"]):
                raise AssertionError("it was opened")

    run(main)
    assert executor.calls == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "red"},
        {"on_everything": print},
        {"on_pause": 3},
        {"max_iterations": 0},
        {"timeout_s": 0},
        {"session_id": "../up"},
        {"session_id": "a--b"},
        {"session_id": "-a"},
        {"messages": [{"role": "assistant", "content": "x"}]},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_before_anything_is_opened(wrong: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises((TypeError, ValueError)):
            async with new_local(**wrong):
                raise AssertionError("it was opened")
        async with new_local() as session:
            for option in ({"colour": 1}, {"max_iterations": 0}, {"timeout_s": -1}, {"max_pauses": -1}):
                with pytest.raises((TypeError, ValueError)):
                    await session.chat("hi", Script(says("x")), **option)
            with pytest.raises(ValueError, match="empty"):
                await session.chat(" ", Script(says("x")))
            assert session.messages == []

    run(main)


def test_no_model_is_an_error_of_its_own_and_nothing_was_said() -> None:
    async def main() -> None:
        async with new_local() as session:
            for model in (None, 3, "claude", ScriptedModel([])):
                with pytest.raises(SkillError) as missing:
                    await session.chat("hi", model)  # type: ignore[arg-type]  # the mistake that is tested
                assert missing.value.code == "missing_api_callback"
            assert session.messages == []

    run(main)


def test_a_failure_of_the_api_keeps_its_status_and_whether_to_try_again() -> None:
    async def main() -> None:
        model = ScriptedModel([HttpError(529), HttpError(401)])
        async with new_local(model_name="m") as session:
            with pytest.raises(SkillError) as busy:
                await session.chat("hi", model)
            assert (busy.value.code, busy.value.retryable) == ("anthropic_api_error", True)
            assert busy.value.details["status"] == 529
            with pytest.raises(SkillError) as refused:
                await session.chat("hi", model)
            assert (refused.value.details["status"], refused.value.retryable) == (401, False)

    run(main)


def test_the_constructors_are_methods_of_the_class_as_well(tmp_path: Path) -> None:
    async def main() -> None:
        async with Session.local(working_directory=tmp_path) as session:
            assert (await session.run("bash_tool", command="echo hi", description="d")).content == "hi"
        async with start_session("local", []) as session:
            assert session.execution_mode == "local"

    run(main)


def test_a_model_of_tools_runs_in_the_same_way_through_a_scripted_model() -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([ToolUse("bash_tool", {"command": "echo x > f"})]), Reply([Text("done")])])
        async with new_local() as session:
            response, _ = await session.chat("go", model, model_name="m")
            assert response.text == "done"
            assert [(file.name, file.size, file.source) for file in await session.files()] == [("f", 2, "local")]

    run(main)


def test_the_offline_model_runs_the_skill_whose_words_fit(tmp_path: Path) -> None:
    root = tmp_path / "tides"
    (root / "scripts").mkdir(parents=True)
    (root / "SKILL.md").write_text("---\nname: tides\ndescription: Looks up tide tables.\n---\nBody\n")
    (root / "scripts/run.sh").write_text("echo high water at noon\n")

    async def main() -> None:
        async with new_local(load(root)) as session:
            response, _ = await session.chat("Look up the tide tables", OfflineModel())
            assert "high water at noon" in response.text

    run(main)


def test_the_library_works_inside_of_other_nurseries_and_scopes() -> None:
    async def main() -> None:
        async with new_local() as session, trio.open_nursery() as nursery:

            async def work() -> None:
                response, _ = await session.chat("hi", Script(says("nested")))
                assert response.text == "nested"
                await session.cleanup()

            nursery.start_soon(work)

    run(main)


def test_a_hundred_conversations_at_the_same_time() -> None:
    async def main() -> None:
        answers: list[str] = []

        async def one(number: int) -> None:
            model = Script(uses(bash("toolu_1", f"echo {number} > mine; cat mine")), says(f"{number}"))
            async with new_local() as session:
                response, _ = await session.chat("hi", model)
                assert session.messages[2]["content"][0]["content"] == f"{number}"
                answers.append(response.text)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one, number)
        assert sorted(answers, key=int) == [str(number) for number in range(100)]

    run(main)
