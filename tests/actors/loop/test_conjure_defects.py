"""What Conjure does wrong when it runs tools and loops, and each time what happens here.

The names of the tests say what goes wrong there. Tools are real: the local backend runs them.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from loop_kit import MemoryExecutor, Script, call, message, ok, says, user, uses
from skill_actors.backends import BackendUnavailable, ToolCall, ToolContext, ToolResult
from skill_actors.loop import ExecutionContext, Loop, LoopResult, create_context, execute, process_response, run_loop
from skill_actors.models import Message, ModelError
from skill_actors.skills import Skill, SkillSnapshot, load
from skill_actors.testing import check_request
from support import run, run_virtual

Use = Callable[[ExecutionContext], Awaitable[Any]]


def bash(command: str, id: str = "toolu_1") -> ToolCall:
    return call(id, "bash_tool", command=command, description="x")


def inside(use: Use, folder: Path = Path("nowhere"), *, runner: Callable[..., Any] = run, **options: Any) -> Any:
    """What `use` gives in a context with these options."""

    async def main() -> Any:
        async with create_context(options.pop("skills", ()), working_directory=folder, **options) as context:
            return await use(context)

    return runner(main)


def executed(one: ToolCall, folder: Path, **options: Any) -> ToolResult:
    result: ToolResult = inside(lambda context: execute(one, context), folder, **options)
    return result


def looped(*answers: object, **options: Any) -> LoopResult:
    """A loop over tools in memory, and with messages that the API takes at its end."""
    bounds = {name: options.pop(name) for name in ("max_iterations", "timeout_s") if name in options}
    options.setdefault("backend", MemoryExecutor())
    result: LoopResult = inside(lambda context: run_loop(user(), Script(*answers), context, **bounds), **options)
    assert is_acceptable(result.messages)
    return result


def is_acceptable(messages: Sequence[Message]) -> bool:
    ending = [{"role": "user", "content": "Go on."}] if messages[-1]["role"] == "assistant" else []
    return check_request({"model": "m", "max_tokens": 1, "messages": [*messages, *ending]}) is None


def write_skill(folder: Path, extra: str = "") -> Skill:
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(f"---\nname: {folder.name}\ndescription: Does things\n{extra}---\nBody\n")
    snapshot: SkillSnapshot = load(folder)
    return snapshot.skills[folder.name]


# Backends


def test_a_custom_executor_is_silently_replaced_by_the_shell_of_the_host(tmp_path: Path) -> None:
    executor = MemoryExecutor()
    assert executed(bash("touch made"), tmp_path, backend=executor).content == "did toolu_1"
    assert not (tmp_path / "made").exists()


def test_an_unknown_backend_falls_back_to_the_shell_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="no backend 'sandbox'"):
        executed(bash("touch made"), tmp_path, backend="sandbox")
    assert not (tmp_path / "made").exists()


def test_a_backend_that_cannot_run_is_found_out_by_its_calls(tmp_path: Path) -> None:
    class Broken(MemoryExecutor):
        async def check(self) -> None:
            raise BackendUnavailable("no engine here; start it")

    with pytest.raises(BackendUnavailable, match="start it"):
        executed(bash("true"), tmp_path, backend=Broken())


def test_a_single_call_runs_without_its_backend_being_opened(tmp_path: Path) -> None:
    opened: list[Path] = []

    class Counting(MemoryExecutor):
        async def open(self, spec: Any) -> MemoryExecutor:
            opened.append(spec.root)
            return await super().open(spec)

    executed(bash("true"), tmp_path, backend=Counting())
    assert opened == [tmp_path]


def test_only_the_first_skill_is_given_to_the_backend(tmp_path: Path) -> None:
    skills = [write_skill(tmp_path / parent / name) for parent, name in (("a", "tides"), ("b", "charts"))]

    async def use(context: ExecutionContext) -> list[bool]:
        seen = [await execute(call(name="view", path=context.location_of(skill)), context) for skill in skills]
        return [result.is_error for result in seen]

    assert inside(use, tmp_path / "w", skills=skills) == [False, False]


def test_cleaning_up_is_skipped_when_something_raises(tmp_path: Path) -> None:
    executor = MemoryExecutor()

    async def use(context: ExecutionContext) -> None:
        raise KeyError("the program around it")

    with pytest.raises(KeyError):
        inside(use, tmp_path, backend=executor)
    assert executor.closed == 1


# Filters and limits


@pytest.mark.parametrize("filters", [{"only": ["view"]}, {"except_": ["bash_tool"]}], ids=str)
def test_only_and_except_are_not_held_to_when_a_tool_is_called(tmp_path: Path, filters: Mapping[str, Any]) -> None:
    result = executed(bash("touch made"), tmp_path, **filters)
    assert result.is_error
    assert "no tool 'bash_tool'" in result.content
    assert not (tmp_path / "made").exists()

    async def loop(context: ExecutionContext) -> LoopResult:
        return await run_loop(user(), Script(uses(bash("touch made")), says("Oh.")), context)

    assert inside(loop, tmp_path, **filters).messages[2]["content"][0]["is_error"]
    step = inside(lambda context: process_response(uses(bash("touch made")), context), tmp_path, **filters)
    assert step.results[0]["is_error"]
    assert not (tmp_path / "made").exists()


def test_allowed_tools_are_read_and_never_looked_at(tmp_path: Path) -> None:
    skill = write_skill(tmp_path / "skills/tides", "allowed-tools: Read Bash(echo:*)\n")
    limited = {"skills": [skill], "restrict_to_allowed_tools": True}
    folder = tmp_path / "w"
    assert executed(bash("echo high"), folder, **limited).content == "high"
    assert executed(bash("echo high; touch made"), folder, **limited).is_error
    assert executed(call(name="create_file", path="x", file_text="x", description="x"), folder, **limited).is_error
    assert sorted(path.name for path in folder.iterdir() if path.name != ".skilld") == []


def test_all_sessions_share_one_working_directory() -> None:
    with pytest.raises(TypeError, match="working_directory"):
        create_context([])  # type: ignore[call-arg]


# Paths


@pytest.mark.parametrize("tool", ["view", "create_file", "str_replace"])
def test_files_are_reached_through_links_out_of_the_tree(tmp_path: Path, tool: str) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    more = {"view": {}, "create_file": {"file_text": "x"}, "str_replace": {"old_str": "secret", "new_str": "x"}}
    result = executed(call(name=tool, path="link", **more[tool]), folder)
    assert result.is_error
    assert (tmp_path / "secret").read_text() == "secret"


def test_no_list_of_allowed_paths_allows_every_path(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    result = executed(call(name="view", path=str(tmp_path / "secret")), tmp_path / "w")
    assert result.is_error
    assert "secret" not in result.content.replace(str(tmp_path / "secret"), "")


def test_relative_paths_are_judged_by_the_folder_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w/x").write_text("mine")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert "mine" in executed(call(name="view", path="x"), tmp_path / "w").content
    assert executed(call(name="view", path="../other"), tmp_path / "w").is_error


# Results


def test_a_command_that_fails_gives_no_output(tmp_path: Path) -> None:
    result = executed(bash("echo out; echo err >&2; exit 3"), tmp_path)
    assert (result.outcome, result.exit_code) == ("error", 3)
    assert all(part in result.content for part in ("out", "err", "[exit code 3]"))


def test_output_has_no_bound(tmp_path: Path) -> None:
    result = executed(bash("yes | head -c 5000000"), tmp_path, max_output_chars=2_000)
    assert len(result.content) <= 2_000
    assert result.output_file is not None
    assert (tmp_path / result.output_file).stat().st_size == 5_000_000


def test_bytes_that_are_no_text_break_the_next_request(tmp_path: Path) -> None:
    result = executed(bash(r"printf 'a\xff\x00b'"), tmp_path)
    assert result.content == "a\ufffd\ufffdb"
    result.content.encode()


def test_an_unknown_tool_is_answered_with_an_inspected_term(tmp_path: Path) -> None:
    result = executed(call(name="teleport"), tmp_path)
    assert result.content == (
        "There is no tool 'teleport' in this conversation. Offered: bash_tool, create_file, str_replace, view."
    )


def test_a_listing_is_one_level_deep_and_its_description_says_two(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_text("x")
    assert "a/b" in executed(call(name="view", path="."), tmp_path).content


def test_lines_of_a_range_are_counted_from_one_again(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("one\ntwo\nthree\n")
    seen = executed(call(name="view", path="x", view_range=[2, 3]), tmp_path).content
    assert [line.split() for line in seen.splitlines()[:2]] == [["2", "two"], ["3", "three"]]


@pytest.mark.parametrize("range", [[1], [1, 2, 3], "1-2", [1, "2"], [1.0, 2], [0, 1], [3, 2], None, True])
def test_a_range_of_another_shape_is_passed_over(tmp_path: Path, range: object) -> None:
    (tmp_path / "x").write_text("one\ntwo\nthree\n")
    assert executed(call(name="view", path="x", view_range=range), tmp_path).is_error


@pytest.mark.parametrize("text", ["", "no line end", "EOF\nEOF_1\n$HOME `id` 'x' \"y\"\n", "x" * 300_000], ids=len)
def test_a_file_gets_a_line_more_or_loses_what_looks_like_its_end(tmp_path: Path, text: str) -> None:
    assert not executed(call(name="create_file", path="x", file_text=text, description="x"), tmp_path).is_error
    assert (tmp_path / "x").read_text() == text


# Processes


def test_commands_inherit_the_environment_with_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    assert "sk-secret" not in executed(bash("env"), tmp_path).content


def test_the_environment_of_a_context_is_passed_over(tmp_path: Path) -> None:
    assert executed(bash("echo $TIDE"), tmp_path, environment={"TIDE": "high"}).content == "high"


def test_a_command_that_reads_its_input_hangs(tmp_path: Path) -> None:
    assert executed(bash("cat; echo done"), tmp_path, timeout_s=20).content == "done"


def test_a_process_in_the_background_that_holds_the_output_blocks_until_the_time_is_out(tmp_path: Path) -> None:
    result = executed(bash("sleep 1000 & echo started"), tmp_path, timeout_s=20)
    assert result.outcome == "ok"
    assert result.content.startswith("started")


def test_work_goes_on_after_its_time_is_out(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    for timeout_s in (0.5, 5, 15):  # where it has not even begun in that time, it proves nothing
        result = executed(bash("echo $$ > pid; sleep 1000; touch late"), tmp_path, timeout_s=timeout_s)
        assert result.outcome == "timeout"
        if pid.exists() and pid.read_text().endswith("\n"):
            break
    assert not Path("/proc", pid.read_text().strip()).exists()


def test_a_call_that_times_out_gets_a_result_for_an_unknown_id(tmp_path: Path) -> None:
    async def use(context: ExecutionContext) -> LoopResult:
        return await run_loop(user(), Script(uses(bash("sleep 1000", "toolu_late")), says("Oh.")), context)

    result = inside(use, tmp_path, timeout_s=0.5)
    (block,) = result.messages[2]["content"]
    assert (block["tool_use_id"], block["is_error"]) == ("toolu_late", True)
    assert result.text == "Oh."
    assert is_acceptable(result.messages)


async def _for_ever(call: ToolCall, context: ToolContext) -> ToolResult:
    await trio.sleep_forever()
    raise AssertionError("unreachable")


def test_the_time_limit_is_left_to_the_executor() -> None:
    """Conjure's native loop enforces none."""
    result = executed(call(command="x"), Path("w"), backend=MemoryExecutor(_for_ever), timeout_s=30, runner=run_virtual)
    assert result.outcome == "timeout"


def test_as_many_calls_run_at_once_as_there_are_processors() -> None:
    async def half_a_second(call: ToolCall, context: ToolContext) -> ToolResult:
        await trio.sleep(0.5)
        return ok(call.id)

    async def use(context: ExecutionContext) -> float:
        began = trio.current_time()
        await process_response(uses(*(call(f"toolu_{number}") for number in range(4))), context)
        return trio.current_time() - began

    took = inside(use, backend=MemoryExecutor(half_a_second), runner=run_virtual)
    assert took == pytest.approx(0.5)


# The loop


def test_a_bad_argument_of_the_model_kills_the_caller(tmp_path: Path) -> None:
    answers = [uses(call("toolu_1", "view"), call("toolu_2", "bash_tool", command=7)), says("Sorry.")]
    result = inside(lambda context: run_loop(user(), Script(*answers), context), tmp_path)
    assert [block["is_error"] for block in result.messages[2]["content"]] == [True, True]
    assert "path is missing" in result.messages[2]["content"][0]["content"]
    assert result.text == "Sorry."


def test_an_exception_of_a_tool_ends_the_turn(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(call: ToolCall, context: ToolContext) -> ToolResult:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError(call.id)

    result = looped(uses(call()), says("I see."), backend=MemoryExecutor(broken))
    assert (result.text, result.messages[2]["content"][0]["is_error"]) == ("I see.", True)
    assert "ZeroDivisionError" not in str(result.messages)
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_that_raises_kills_the_caller() -> None:
    async def raising(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("callback")

    async def use(context: ExecutionContext) -> LoopResult:
        return await run_loop(user(), Script(uses(call())), context, on_tool_call=raising, on_tool_result=raising)

    result = inside(use, backend=MemoryExecutor())
    assert (result.outcome, result.stop_reason) == ("failed", "callback_failed")
    assert isinstance(result.cause, KeyError)
    assert is_acceptable(result.messages)


HALF_CALLS = {
    "no id": {"type": "tool_use", "name": "view", "input": {}},
    "no name": {"type": "tool_use", "id": "toolu_2", "input": {}},
    "no input": {"type": "tool_use", "id": "toolu_2", "name": "view"},
}


@pytest.mark.parametrize("half", HALF_CALLS.values(), ids=HALF_CALLS.keys())
def test_half_a_tool_call_is_dropped_without_a_word(half: Mapping[str, Any]) -> None:
    executor = MemoryExecutor()
    good = {"type": "tool_use", "id": "toolu_1", "name": "view", "input": {}}
    result = looped(message([good, half], "tool_use"), backend=executor)
    assert (result.stop_reason, executor.calls) == ("invalid_response", [])


def test_an_answer_without_content_is_the_end() -> None:
    assert looped({"stop_reason": "end_turn"}).stop_reason == "invalid_response"


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "model_context_window_exceeded", "stop_sequence"])
def test_the_stop_reason_is_erased(reason: str) -> None:
    result = looped(message([{"type": "text", "text": "I ca"}], reason, id="msg_1", model="m"))
    assert (result.stop_reason, result.text) == (reason, "I ca")
    assert result.response is not None
    assert (result.response.stop_reason, result.response.id, result.response.message.model) == (reason, "msg_1", "m")


def test_the_stop_reason_is_never_looked_at() -> None:
    executor = MemoryExecutor()
    cut = message([{"type": "tool_use", "id": "toolu_1", "name": "bash_tool", "input": {}}], "max_tokens")
    assert looped(cut, backend=executor).stop_reason == "max_tokens"
    assert executor.calls == []
    assert looped(message([{"type": "text", "text": "x"}], "tool_use")).stop_reason == "protocol"
    paused = looped(message([{"type": "text", "text": "Wait. "}], "pause_turn"), says("Done."))
    assert (paused.text, paused.iterations) == ("Wait. Done.", 2)


def test_usage_is_erased() -> None:
    counted: dict[str, Any] = {"usage": {"input_tokens": 10, "output_tokens": 1}}
    result = looped(uses(call(), **counted), says("Done.", **counted))
    assert (result.usage.input_tokens, result.usage.output_tokens) == (20, 2)


def test_tools_of_the_last_answer_run_although_nobody_reads_their_results() -> None:
    executor = MemoryExecutor()
    result = looped(uses(call("toolu_1")), uses(call("toolu_2")), backend=executor, max_iterations=2)
    assert result.stop_reason == "iteration_limit"
    assert [each.id for each in executor.calls] == ["toolu_1"]


@pytest.mark.parametrize("failure", [ModelError("down", code="server"), OSError("gone")], ids=repr)
def test_an_error_throws_the_history_away(failure: Exception) -> None:
    result = looped(uses(call(), text="Let me look."), failure)
    assert result.cause is failure
    assert [each["role"] for each in result.messages] == ["user", "assistant", "user"]
    assert result.messages[2]["content"][0]["content"] == "did toolu_1"


def test_a_turn_cannot_be_cancelled(tmp_path: Path) -> None:
    async def use(context: ExecutionContext) -> Sequence[Message]:
        loop = Loop(user(), context)
        pid = tmp_path / "pid"
        os.mkfifo(pid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.run, Script(uses(bash("echo $$ > pid; sleep 1000"))))
            child = await trio.to_thread.run_sync(pid.read_text, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()
        assert not await trio.Path("/proc", child.strip()).exists()
        return loop.messages

    messages = inside(use, tmp_path)
    assert messages[2]["content"][0] == {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": "Cancelled while it ran.",
        "is_error": True,
    }
    assert is_acceptable(messages)


def test_each_round_costs_more_than_the_one_before() -> None:
    """History is appended to, not built anew: what a round adds does not depend on how many there were."""
    rounds = 400
    answers = [uses(call(f"toolu_{number}")) for number in range(rounds)]
    seen: list[Sequence[Message]] = []

    async def model(messages: Sequence[Message]) -> object:
        await trio.lowlevel.checkpoint()
        seen.append(messages)
        return answers[len(seen) - 1]

    async def use(context: ExecutionContext) -> LoopResult:
        return await run_loop(user(), model, context, max_iterations=rounds)

    result = inside(use, backend=MemoryExecutor())
    assert len(result.messages) == 2 * rounds + 1
    assert all(late is early for late, early in zip(seen[-1], seen[-2], strict=False))
