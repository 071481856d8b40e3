"""One suite for every executor: what a tool call may rely on, whatever runs it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from conformance.executor_kit import (
    NAMES,
    OPTIONS,
    Bench,
    Fixture,
    alive,
    backend_of,
    demand,
    on_each_executor,
    started,
)
from skill_actors.backends import (
    BackendUnavailable,
    OutputChunk,
    ToolCall,
    ToolContext,
    ToolResult,
    WorkspaceSpec,
)

RUNNER = re.compile(rb"/local_boot\.py\0$|package\.container_runner\.main\(\)\n\0$")  # ends a runner's command line
ESCAPES = (
    "(setsid bash -c 'sleep 9{0}1 & exec sleep 9{0}2' & ) ; (env -i setsid nohup sleep 9{0}3 >/dev/null 2>&1 &) ; "
)
"""A double fork, sessions of their own, a cleared environment: the seconds slept are the marker."""

PATIENCE_S = 25.0  # of a test, with a machine that has much else to do

on = on_each_executor


def test_a_failing_command_returns_both_streams_and_its_exit_code(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.bash("echo to-out; echo to-err >&2; exit 3")
        assert (result.outcome, result.exit_code) == ("error", 3)
        assert result.content == "to-out\n[stderr]\nto-err\n[exit code 3]"

    on(body)


def test_a_command_without_output_says_so(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.bash(":")
        assert (result.outcome, result.exit_code, result.content) == ("ok", 0, "(no output)")

    on(body)


def test_standard_input_is_empty(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.bash("cat; read line; echo read=$?", timeout_s=PATIENCE_S)
        assert result.content == "read=1"

    on(body)


def test_a_command_runs_in_the_workspace_and_its_files_stay(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        await bench.bash("echo text > made.txt")
        assert (await bench.tool("view", {"path": "made.txt"})).content == "     1\ttext\n"

    on(body)


def test_a_timeout_kills_what_was_forked_twice_and_has_its_own_session(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        began = time.monotonic()
        result = await bench.bash(ESCAPES.format(4) + "echo partial; sleep 9441", timeout_s=3)
        assert result.outcome == "timeout"
        assert result.content.startswith("partial\n[timed out after 3 s")
        assert time.monotonic() - began < 7  # four seconds more than it may take
        assert not alive("sleep\x00944") + alive("sleep\x00941") + alive("sleep\x00942") + alive("sleep\x00943")

    on(body)


def test_cancelling_kills_what_was_forked_twice_and_has_its_own_session(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.bash, ESCAPES.format(5) + "touch started; sleep 9551")
            await started(bench.folder)
            began = time.monotonic()
            nursery.cancel_scope.cancel()
        assert time.monotonic() - began < 2
        assert not alive("sleep\x00955") + alive("sleep\x00951") + alive("sleep\x00952") + alive("sleep\x00953")
        assert (await bench.bash("echo still here")).content == "still here"

    on(body)


def test_a_process_that_ignores_signals_or_stops_itself_is_killed_as_well(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.bash("trap '' TERM INT HUP; (kill -STOP $BASHPID; sleep 9661) & sleep 9662", timeout_s=0.5)
        assert result.outcome == "timeout"
        assert not alive("sleep\x00966")

    on(body)


def test_a_background_child_that_holds_stdout_does_not_delay_the_result(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.bash("sleep 9771 & (setsid sleep 9772 &); echo done", timeout_s=PATIENCE_S)
        assert (result.outcome, result.exit_code) == ("ok", 0)
        told = "\n[2 processes that it left in the background were killed]"
        # With processes numbered apart, they are gone as soon as the command is, and nobody can count them.
        assert result.content == "done" + (told if bench.executor.capabilities.sandbox != "namespace" else "")
        assert result.duration_ms < 5_000
        assert not alive("sleep\x00977")

    on(body)


def test_a_family_that_keeps_forking_is_ended(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.bash(
            "loop() { while :; do sleep 0.01; (exec sleep 9881) & done; }; loop & "
            "setsid bash -c 'while :; do sleep 0.01; setsid sleep 9882 & done' & sleep 9883",
            timeout_s=0.7,
        )
        assert result.outcome == "timeout"
        assert not alive("sleep\x00988")

    on(body)


def test_the_environment_of_a_command_holds_no_secrets(on: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.setenv("SOME_TOKEN", "sk-secret")

    async def body(bench: Bench) -> None:
        result = await bench.bash("env; cat /proc/$PPID/environ | tr '\\0' '\\n'", environment={"GIVEN": "yes"})
        assert "sk-secret" not in result.content
        assert "GIVEN=yes" in result.content
        assert f"HOME={bench.workspace.root}" in result.content

    on(body)


def test_hidden_texts_are_in_no_answer_also_where_it_is_cut_and_in_no_file(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        token = "s3cr3t-0123456789-qwxyz"
        given: dict[str, Any] = {"environment": {"TOKEN": token}, "hidden": [token]}
        result = await bench.bash('echo "a${TOKEN}b"; echo "$TOKEN" >&2', **given)
        assert (result.content, result.exit_code) == ("a***b\n[stderr]\n***", 0)
        for shift in range(1, len(token), 3):
            flood = f'printf %{shift}s; for i in {{1..9999}}; do printf %s "$TOKEN"; done; printf %{shift}s'
            result = await bench.bash(flood, max_output_chars=5_000, **given)
            assert "the output is cut" in result.content
            assert not [at for at in range(len(token) - 4) if token[at : at + 5] in result.content], shift
            assert result.output_file is None
        left = [path for path in bench.folder.rglob("*") if path.is_file()]
        assert left == []

    on(body)


def test_hidden_texts_that_a_call_was_not_given_are_cut_out_and_the_whole_is_kept(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        token = "s3cr3t-0123456789-qwxyz"
        flood = f"printf 1; for i in {{1..9999}}; do printf %s {token}; done; printf 1"
        result = await bench.bash(flood, max_output_chars=5_000, hidden=[token])
        assert "the output is cut" in result.content
        assert not [at for at in range(len(token) - 4) if token[at : at + 5] in result.content]
        assert result.output_file is not None

    on(body)


def test_a_flood_of_output_is_cut_and_kept_in_a_file(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.bash("echo first; seq 200000; echo last", max_output_chars=5_000)
        assert result.outcome == "ok"
        assert len(result.content) <= 5_000
        assert result.content.startswith("first\n1\n2\n")
        assert "\n200000\nlast\n[the output is cut; the whole (" in result.content
        assert result.output_file is not None
        assert result.files == (result.output_file,)
        whole = (bench.folder / result.output_file).read_text()
        assert whole == "first\n" + "".join(f"{number}\n" for number in range(1, 200_001)) + "last\n"

    on(body)


def test_an_endless_flood_ends_with_the_timeout_and_takes_no_memory(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        def resident_kib() -> int:
            pages = 0
            for name in filter(str.isdigit, os.listdir("/proc")):
                with contextlib.suppress(OSError):
                    if RUNNER.search(Path("/proc", name, "cmdline").read_bytes()):
                        pages = max(pages, int(Path("/proc", name, "statm").read_text().split()[1]))
            return pages * 4

        await bench.bash(":")
        result = await bench.bash("yes & yes >&2", timeout_s=3)
        assert result.outcome == "timeout"
        assert result.content.startswith("y\ny\n")
        assert "[stderr]" in result.content
        assert 0 < resident_kib() < 60_000

    on(body)


def test_a_slow_consumer_slows_the_tool_and_still_gets_everything_in_order(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        got: list[str] = []

        async def emit(chunk: OutputChunk) -> None:
            got.append(chunk.text)
            await trio.sleep(0.005)

        result = await bench.bash("seq 100000", emit=emit)
        assert result.outcome == "ok"
        assert "".join(got) == "".join(f"{number}\n" for number in range(1, 100_001))

    on(body)


def test_output_arrives_while_the_command_runs(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        chunks: list[OutputChunk] = []

        async def emit(chunk: OutputChunk) -> None:
            chunks.append(chunk)
            await bench.bash(f"touch got-{chunk.stream}")

        wait = "until [ -e got-{} ]; do sleep 0.01; done;"
        command = "echo one; " + wait.format("stdout") + " echo two >&2; " + wait.format("stderr")
        result = await bench.bash(command, emit=emit, timeout_s=20)
        assert result.outcome == "ok"
        assert [(chunk.stream, chunk.text) for chunk in chunks] == [("stdout", "one\n"), ("stderr", "two\n")]

    on(body)


def test_a_consumer_that_fails_ends_the_command(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        async def emit(chunk: OutputChunk) -> None:
            raise RuntimeError("the consumer broke")

        with pytest.raises(RuntimeError, match="the consumer broke"):
            await bench.bash("echo one; sleep 9991", emit=emit)
        assert not alive("sleep\x00999")

    on(body)


def test_binary_output_becomes_valid_text(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.bash("printf 'a\\xff\\xfe\\x00b\\xc3\\xa9'; head -c 20000 /dev/urandom")
        result.content.encode()
        assert result.content.startswith("a\ufffd\ufffd\ufffdbé")
        assert "\0" not in result.content

    on(body)


def test_a_character_split_between_two_writes_stays_whole(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        assert (await bench.bash("printf '\\xc3'; sleep 0.1; printf '\\xa9'")).content == "é"

    on(body)


def test_calls_run_at_the_same_time(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        results: list[ToolResult] = []

        async def one(mine: str, other: str) -> None:
            results.append(
                await bench.bash(f"touch {mine}; until [ -e {other} ]; do sleep 0.01; done", timeout_s=PATIENCE_S)
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "a", "b")
            nursery.start_soon(one, "b", "a")
        assert [result.outcome for result in results] == ["ok", "ok"]

    on(body)


def test_ending_one_call_leaves_the_others_alone(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        results: list[ToolResult] = []

        async def survivor() -> None:
            command = "(setsid sleep 1 &); touch started; sleep 0.6; echo fine"
            results.append(await bench.bash(command, timeout_s=PATIENCE_S))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(survivor)
            await started(bench.folder)
            assert (await bench.bash("sleep 60", timeout_s=0.1)).outcome == "timeout"
        assert results[0].content.startswith("fine")

    on(body)


def test_many_calls_at_once_each_get_their_own_answer(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        answers: dict[int, str] = {}

        async def one(number: int) -> None:
            answers[number] = (await bench.bash(f"echo {number}; sleep 0.05")).content

        async with trio.open_nursery() as nursery:
            for number in range(25):
                nursery.start_soon(one, number)
        assert answers == {number: str(number) for number in range(25)}

    on(body)


@pytest.mark.parametrize("size", [131_000, 200_000, 3_000_000])
def test_a_huge_command_runs_or_is_refused_with_the_way_out(on: Fixture, size: int) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.bash(": " + "x" * size)
        if size < 131_072:
            assert result.outcome == "ok", result.content
        else:
            assert result.outcome == "error"
            assert "write it to a file with create_file" in result.content
        assert (await bench.bash("echo next")).content == "next"

    on(body)


def test_an_unknown_command_is_exit_code_127_of_the_shell(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.bash("no-such-command-here")
        assert (result.outcome, result.exit_code) == ("error", 127)
        assert "command not found" in result.content

    on(body)


def test_a_signal_that_ended_the_command_is_named(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.bash("echo before; kill -SEGV $$")
        if bench.executor.capabilities.sandbox == "namespace":  # bubblewrap says it as shells do
            assert (result.outcome, result.exit_code) == ("error", 128 + signal.SIGSEGV)
            return
        assert (result.outcome, result.exit_code) == ("error", -signal.SIGSEGV)
        assert result.content == "before\n[ended by signal 11 (SIGSEGV)]"

    on(body)


def test_an_entry_command_is_run_without_a_shell(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        call = ToolCall(id="c", name="bash_tool", input={}, argv=("printf", "%s|", "a b", "$HOME", "*; echo x"))
        assert (await bench.workspace.execute(call, ToolContext())).content == "a b|$HOME|*; echo x|"

    on(body)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (("no-such-program",), "no-such-program: No such file or directory"),
        (("/etc/passwd",), "/etc/passwd: Permission denied"),
        (("./script",), "./script: Exec format error"),
        ((), "the command to run is empty"),
        (("echo", "a\0b"), "NUL"),
    ],
)
def test_an_entry_command_that_cannot_start_says_why(on: Fixture, argv: tuple[str, ...], reason: str) -> None:
    async def body(bench: Bench) -> None:
        script = bench.folder / "script"
        script.write_text("no interpreter line\n")
        script.chmod(0o755)
        result = await bench.workspace.execute(ToolCall(id="c", name="x", input={}, argv=argv), ToolContext())
        assert (result.outcome, result.exit_code) == ("error", None)
        assert reason in result.content

    on(body)


@pytest.mark.parametrize("tool", ["view", "create_file", "str_replace"])
@pytest.mark.parametrize(
    "path", ["out/secret", "../outside/secret", "dangling", "/etc/hostname", "out/new/file", "~/x", "a\0b"]
)
def test_no_tool_leaves_the_workspace(on: Fixture, tool: str, path: str) -> None:
    async def body(bench: Bench) -> None:
        outside = bench.folder.parent / "outside"
        outside.mkdir()
        (outside / "secret").write_text("secret")
        (bench.folder / "out").symlink_to(outside)
        (bench.folder / "dangling").symlink_to(outside / "not-yet")
        inputs = {"view": {}, "create_file": {"file_text": "x"}, "str_replace": {"old_str": "secret", "new_str": "x"}}
        result = await bench.tool(tool, {"path": path, **inputs[tool]})
        assert result.outcome == "error", result.content
        assert "secret\n" not in result.content
        assert [entry.name for entry in outside.iterdir()] == ["secret"]
        assert (outside / "secret").read_text() == "secret"

    on(body)


def test_skills_can_be_read_but_not_written(on: Fixture, tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        skill = tmp_path / "skills" / "abc"
        skill.mkdir(parents=True)
        (skill / "SKILL.md").write_text("use me\n")
        path = bench.workspace.path_of_skill(skill) + "/SKILL.md"
        assert (await bench.tool("view", {"path": path}, readable=[skill])).content == "     1\tuse me\n"
        assert (await bench.tool("view", {"path": path})).outcome == "error"
        written = await bench.tool("create_file", {"path": path, "file_text": "x"}, readable=[skill])
        assert written.outcome == "error"

    on(body)


def test_files_are_written_and_edited_exactly(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        text = "EOF\n'quoted' $HOME\r\n\tünï 'EOF'\nno newline at the end"
        made = await bench.tool("create_file", {"path": "a/b/ünï c.txt", "file_text": text, "description": "d"})
        assert (made.outcome, made.files) == ("ok", ("a/b/ünï c.txt",))
        edited = await bench.tool("str_replace", {"path": "a/b/ünï c.txt", "old_str": "$HOME\r\n", "new_str": "\\1\n"})
        assert edited.outcome == "ok", edited.content
        shown = (bench.folder / "a/b/ünï c.txt").read_bytes()
        assert shown == text.replace("$HOME\r\n", "\\1\n").encode()

    on(body)


def test_edits_of_one_file_at_the_same_time_are_all_kept(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        await bench.tool("create_file", {"path": "f", "file_text": "".join(f"<{n}>" for n in range(20))})
        async with trio.open_nursery() as nursery:
            for number in range(20):
                edit = {"path": "f", "old_str": f"<{number}>", "new_str": f"[{number}]"}
                nursery.start_soon(bench.tool, "str_replace", edit)
        assert (bench.folder / "f").read_text() == "".join(f"[{n}]" for n in range(20))

    on(body)


@pytest.mark.parametrize(
    ("name", "input"),
    [
        ("view", {}),
        ("view", {"path": 3}),
        ("view", {"path": "."} | {"view_range": [1]}),
        ("bash_tool", {"command": ["ls"]}),
        ("bash_tool", {"command": "ls", "timeout": 3}),
        ("bash_tool", {"command": "a\0b"}),
        ("bash_tool", {"command": "echo \ud800"}),
        ("create_file", {"path": "x"}),
        ("create_file", {"path": "x", "file_text": "\udfff"}),
        ("str_replace", {"path": "x", "old_str": ""}),
        ("no_such_tool", {}),
    ],
)
def test_a_bad_input_is_an_answer_and_not_an_exception(on: Fixture, name: str, input: dict[str, Any]) -> None:
    async def body(bench: Bench) -> None:
        result = await bench.tool(name, input)
        assert result.outcome == "error"
        assert result.content
        result.content.encode()

    on(body)


def test_closing_ends_what_runs_and_may_be_done_twice(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        results: list[ToolResult] = []

        async def long() -> None:
            results.append(await bench.bash("touch started; sleep 9111"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(long)
            await started(bench.folder)
            await bench.workspace.aclose()
        assert [result.outcome for result in results] == ["cancelled"]
        await bench.workspace.aclose()
        assert not alive("sleep\x009111")
        assert (await bench.bash("echo x")).outcome == "cancelled"

    on(body)


def test_a_closed_executor_opens_nothing(on: Fixture, tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await bench.executor.aclose()
        await bench.executor.aclose()
        with pytest.raises(BackendUnavailable, match="closed"):
            await bench.executor.open(WorkspaceSpec(session="ses", root=tmp_path / "late"))

    on(body)


def test_a_workspace_can_be_opened_again_with_its_files(on: Fixture) -> None:
    async def body(bench: Bench) -> None:
        await bench.bash("echo kept > file")
        await bench.workspace.aclose()
        again = await bench.executor.open(WorkspaceSpec(session="ses", root=bench.folder))
        result = await again.execute(ToolCall(id="c", name="bash_tool", input={"command": "cat file"}), ToolContext())
        assert result.content == "kept"

    on(body)


DAEMON = """
import json, sys, trio
from pathlib import Path
from skill_actors.backends import Host, ToolCall, ToolContext, WorkspaceSpec, factory

async def main():
    async with (await factory(sys.argv[1]))(json.loads(sys.argv[4]), Host()) as executor:
        workspace = await executor.open(WorkspaceSpec(session="s", root=Path(sys.argv[2])))
        call = ToolCall(id="c", name="bash_tool", input={"command": sys.argv[3]})
        await workspace.execute(call, ToolContext())

trio.run(main)
"""


@pytest.mark.parametrize("name", NAMES)
def test_nothing_survives_a_daemon_that_is_killed(name: str, tmp_path: Path) -> None:
    demand(name)
    command = ESCAPES.format(2) + "touch started; sleep 9221"
    marker = f"killed-daemon-{os.getpid()}"
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, backend_of(name), str(tmp_path / marker), command, json.dumps(OPTIONS[name])],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (tmp_path / marker / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        daemon.kill()
        daemon.wait()
    deadline = time.monotonic() + PATIENCE_S
    while alive(marker) + alive("sleep\x00922") + alive("sleep\x00923"):
        assert time.monotonic() < deadline, "processes survived the daemon"
        time.sleep(0.01)
