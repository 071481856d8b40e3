"""Native skills that are classes of a program of one's own, run by worker processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from native_kit import (
    no_native_process_is_left,
    open_host,
)
from native_targets import Greeter
from skill_actors.backends import (
    BackendUnavailable,
    Executor,
    Host,
    OutputChunk,
    ToolCall,
    ToolContext,
    Workspace,
    WorkspaceSpec,
    open_native,
)
from skill_actors.native import BadSkill
from support import run

_no_process_is_left = no_native_process_is_left


def test_classes_of_a_program_are_an_executor(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_host() as host, open_native([Greeter, Greeter], host, isolation="process") as executor:
            contract: Executor = executor
            await contract.check()
            assert [tool["name"] for tool in contract.tools()] == ["greeter_execute", "greeter_write"]
            space: Workspace = await contract.open(WorkspaceSpec(session="s", root=tmp_path / "work"))
            said: list[str] = []

            async def emit(chunk: OutputChunk) -> None:
                said.append(chunk.text)

            call = ToolCall(id="1", name="greeter_execute", input={"command": "you"})
            result = await space.execute(call, ToolContext(emit=emit, timeout_s=20))
            assert (result.content, result.outcome, said) == ("hello, you", "ok", ["thinking"])
            write = ToolCall(id="2", name="greeter_write", input={"path": "a.txt", "content": "x"})
            assert (await space.execute(write, ToolContext())).content == "written"
            assert (tmp_path / "work" / "a.txt").read_text() == "x"
            outside = ToolCall(id="3", name="greeter_write", input={"path": "../a.txt", "content": "x"})
            assert "PermissionError" in (await space.execute(outside, ToolContext())).content
            await space.aclose()
            assert host.workers.count_children() == 1
        # the block's end took the process along; the workers' own end is that of the tree

    run(main)


def test_a_class_that_no_other_process_can_import_is_refused() -> None:
    class Local(Greeter):
        skill_info = replace(Greeter.skill_info, name="local")

    async def main() -> None:
        with pytest.raises(ValueError, match="cannot be imported by another process"):
            async with open_native([Local], Host(), isolation="process"):
                raise AssertionError("the block was entered")
        with pytest.raises(BadSkill):
            async with open_native([Path], Host(), isolation="process"):
                raise AssertionError("the block was entered")

    run(main)


def test_without_worker_processes_it_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_native([Greeter], Host(), isolation="process") as executor:
            with pytest.raises(BackendUnavailable, match="no worker processes"):
                await executor.check()
            space = await executor.open(WorkspaceSpec(session="s", root=tmp_path))
            call = ToolCall(id="1", name="greeter_execute", input={"command": "you"})
            with pytest.raises(BackendUnavailable):
                await space.execute(call, ToolContext())

    run(main)
