"""The local backend's own promises: its runner's life, its options, and what it does when the runner is attacked."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.backends import (
    BackendUnavailable,
    Limits,
    LocalOptions,
    OutputChunk,
    ToolCall,
    ToolContext,
    ToolResult,
    Workspace,
    WorkspaceSpec,
    cgroups,
    open_local,
)
from skill_actors.backends.survivors import end_marked, marked
from support import run


@contextlib.asynccontextmanager
async def local(root: Path, **options: Any) -> AsyncIterator[Workspace]:
    async with open_local(LocalOptions(**options)) as executor:
        yield await executor.open(WorkspaceSpec(session="ses", root=root))


async def bash(workspace: Workspace, command: str, **context: Any) -> ToolResult:
    call = ToolCall(id="call-1", name="bash_tool", input={"command": command})
    return await workspace.execute(call, ToolContext(**context))


def runners(root: Path) -> list[int]:
    """Processes that carry a runner's mark and are children of this one."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            stat = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
            command = Path("/proc", name, "cmdline").read_bytes()
            if int(stat[1]) == os.getpid() and command.endswith(b"backends/local_boot.py\0"):
                found.append(int(name))
    return found


def sleeping(seconds: str) -> bool:
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if Path("/proc", name, "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                return True
    return False


def test_no_runner_runs_before_the_first_command_and_file_tools_need_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with local(tmp_path / "w") as workspace:
            call = ToolCall(id="c", name="create_file", input={"path": "a", "file_text": "b"})
            assert (await workspace.execute(call, ToolContext())).outcome == "ok"
            assert runners(tmp_path) == []
            await bash(workspace, ":")
            assert len(runners(tmp_path)) == 1

    run(main)
    assert runners(tmp_path) == []


def test_an_idle_runner_is_stopped_and_another_started_when_needed(tmp_path: Path) -> None:
    async def main() -> None:
        async with local(tmp_path / "w", idle_s=0.1) as workspace:
            await bash(workspace, ":")
            (first,) = runners(tmp_path)
            while runners(tmp_path):  # noqa: ASYNC110  # another process ends
                await trio.sleep(0.01)
            assert (await bash(workspace, "sleep 0.3; echo long enough")).content == "long enough"
            assert runners(tmp_path) != [first]

    run(main)


def test_a_killed_runner_is_an_error_result_and_the_next_call_works(tmp_path: Path) -> None:
    async def main() -> None:
        async with local(tmp_path / "w") as workspace:
            await bash(workspace, ":")
            results: list[ToolResult] = []

            async def long() -> None:
                results.append(await bash(workspace, "(setsid sleep 6101 &); touch started; sleep 6102"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(long)
                started = trio.Path(tmp_path / "w" / "started")
                while not await started.exists():  # noqa: ASYNC110  # another process makes it
                    await trio.sleep(0.01)
                os.kill(runners(tmp_path)[0], signal.SIGKILL)
            assert [result.outcome for result in results] == ["error"]
            assert "was killed" in results[0].content
            assert not sleeping("6101")
            assert not sleeping("6102")
            assert (await bash(workspace, "echo next")).content == "next"

    run(main)


def test_a_command_that_kills_the_runner_and_its_keeper_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with local(tmp_path / "w") as workspace:
            command = "(setsid sleep 6201 &); r=$(cut -d' ' -f4 /proc/$PPID/stat); kill -9 $r $PPID; sleep 6202"
            result = await bash(workspace, command)
            assert result.outcome == "error"
            assert not sleeping("6201")
            assert not sleeping("6202")
            assert (await bash(workspace, "echo next")).content == "next"

    run(main)


def test_not_even_a_process_without_a_mark_survives_a_killed_runner_and_keeper(tmp_path: Path) -> None:
    if (group := cgroups.make(cgroups.find_home(), f"skilld-test-{os.getpid()}")) is None:
        pytest.skip("no control group may be made here")
    cgroups.end(group)

    async def main() -> None:
        async with local(tmp_path / "w") as workspace:
            command = "(env -i setsid sleep 6211 &); r=$(cut -d' ' -f4 /proc/$PPID/stat); kill -9 $r $PPID; sleep 6212"
            result = await bash(workspace, command)
            assert result.outcome == "error"
            assert not sleeping("6211")
            assert not sleeping("6212")
            assert (await bash(workspace, "echo next")).content == "next"

    run(main)


def test_a_stopped_runner_is_killed_when_a_call_has_to_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with local(tmp_path / "w") as workspace:
            began = time.monotonic()
            with trio.move_on_after(0.5) as scope:
                await bash(workspace, "kill -STOP $(cut -d' ' -f4 /proc/$PPID/stat); sleep 6301")
            assert scope.cancelled_caught
            assert time.monotonic() - began < 10
            assert not sleeping("6301")
            assert (await bash(workspace, "echo next")).content == "next"

    run(main)


def test_cancelling_while_the_runner_starts_leaves_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with local(tmp_path / "w") as workspace:
            for delay_s in (0.0, 0.005, 0.02, 0.05):
                with trio.move_on_after(delay_s):
                    await bash(workspace, "sleep 6401")
            assert not sleeping("6401")
            assert (await bash(workspace, "echo next")).content == "next"
            assert len(runners(tmp_path)) == 1

    run(main)
    assert runners(tmp_path) == []


def test_leaving_the_executor_by_cancellation_ends_everything(tmp_path: Path) -> None:
    async def main() -> None:
        with trio.move_on_after(1):
            async with local(tmp_path / "w") as workspace:
                await bash(workspace, "(setsid sleep 6501 &); sleep 6502")

    run(main)
    assert not sleeping("6501")
    assert not sleeping("6502")
    assert runners(tmp_path) == []


def test_a_consumer_that_blocks_can_be_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        async def emit(chunk: OutputChunk) -> None:
            await trio.sleep_forever()

        async with local(tmp_path / "w") as workspace:
            with trio.move_on_after(0.5) as scope:
                await bash(workspace, "yes", emit=emit)
            assert scope.cancelled_caught
            assert (await bash(workspace, "echo next")).content == "next"

    run(main)


def test_a_workspace_that_was_removed_is_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with local(tmp_path / "w") as workspace:
            await bash(workspace, "rm -rf $PWD")
            result = await bash(workspace, "mktemp >/dev/null && pwd")
            assert result.content == str(workspace.root)

    run(main)


def test_options_reach_the_command(tmp_path: Path) -> None:
    async def main() -> None:
        options = {"path": "/usr/bin:/bin", "environment": {"MINE": "1"}, "limits": Limits(open_files=99)}
        async with local(tmp_path / "w", **options) as workspace:
            result = await bash(workspace, "echo $PATH $MINE $YOURS $(ulimit -n)", environment={"YOURS": "2"})
            assert result.content == "/usr/bin:/bin 1 2 99"
            refused = await bash(workspace, ":", environment={"A=B": "x"})
            assert (
                refused.content
                == "the command was not started: the environment variable 'A=B' is not one the system allows"
            )

    run(main)


def test_a_call_id_from_the_model_never_becomes_a_path(tmp_path: Path) -> None:
    async def main() -> None:
        async with local(tmp_path / "w") as workspace:
            for id in ("../../escape", "", "a/b", "x" * 500, "\ud800", "a\0b"):
                call = ToolCall(id=id, name="bash_tool", input={"command": "seq 2000"})
                result = await workspace.execute(call, ToolContext(max_output_chars=1_000))
                assert result.outcome == "ok"
                assert result.output_file is not None
                assert (workspace.root / result.output_file).resolve().is_relative_to(workspace.root)
                assert (workspace.root / result.output_file).read_text().endswith("\n2000\n")

    run(main)


def test_a_place_where_nothing_can_run_is_unavailable(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_local(LocalOptions(path="/nowhere")) as executor:
            with pytest.raises(BackendUnavailable, match="no bash in PATH '/nowhere'"):
                await executor.check()
        (tmp_path / "file").touch()
        async with open_local() as executor:
            await executor.check()
            with pytest.raises(BackendUnavailable, match="cannot be used"):
                await executor.open(WorkspaceSpec(session="s", root=tmp_path / "file" / "w"))

    run(main)


def test_a_runner_that_cannot_start_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with local(tmp_path / "w") as workspace:
            for program, words in (("/no/python", "could be started"), ("/bin/true", "ended as soon as")):
                monkeypatch.setattr("sys.executable", program)
                with pytest.raises(BackendUnavailable, match=words):
                    await bash(workspace, ":")
            monkeypatch.undo()
            assert (await bash(workspace, "echo next")).content == "next"

    run(main)


def test_idle_workspaces_cost_no_process_no_task_and_no_descriptor(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_local() as executor:
            before = (len(os.listdir("/proc/self/fd")), trio.lowlevel.current_statistics().tasks_living)
            opened = [await executor.open(WorkspaceSpec(session=f"s{n}", root=tmp_path / str(n))) for n in range(50)]
            assert (len(os.listdir("/proc/self/fd")), trio.lowlevel.current_statistics().tasks_living) == before
            assert len(opened) == 50

    run(main)


def test_survivors_are_found_by_their_mark_and_killed(tmp_path: Path) -> None:
    async def main() -> None:
        mark = f"SKILLD_RUNNER=test-{os.getpid()}"
        process = await trio.lowlevel.open_process(["sleep", "6601"], env=dict([mark.split("=")]))
        while not marked(mark):  # noqa: ASYNC110  # another process gets there
            await trio.sleep(0.01)
        assert await trio.to_thread.run_sync(end_marked, mark) == 0
        assert await process.wait() == -signal.SIGKILL

    run(main)
