"""Opening and closing the place where calls run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from loop_kit import MemoryExecutor, call
from skill_actors.backends import BackendUnavailable
from skill_actors.loop import create_context, execute
from skill_actors.skills import Skill, SkillCopies, load
from support import run


def make_skill(folder: Path, extra: str = "") -> Skill:
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(f"---\nname: {folder.name}\ndescription: Does things\n{extra}---\nBody\n")
    return load(folder).skills[folder.name]


def test_the_working_directory_is_made_and_its_files_stay(tmp_path: Path) -> None:
    async def main() -> None:
        async with create_context([], working_directory=tmp_path / "a/b") as context:
            assert context.working_directory == tmp_path / "a/b"
            made = await execute(call(name="create_file", path="x", file_text="y", description="d"), context)
            assert not made.is_error

    run(main)
    assert (tmp_path / "a/b/x").read_text() == "y"


def test_an_executor_of_ones_own_is_used_and_left_open_but_its_workspace_is_closed(tmp_path: Path) -> None:
    executor = MemoryExecutor()

    async def main() -> None:
        async with create_context([], working_directory=tmp_path, backend=executor) as context:
            assert (await execute(call(command="ls"), context)).content == "did toolu_1"

    run(main)
    assert executor.closed == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": 0},
        {"timeout_s": -1},
        {"timeout_s": float("nan")},
        {"max_output_chars": 0},
        {"only": ["bash"]},
        {"backend": MemoryExecutor(), "options": {"idle_s": 1}},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_an_error_and_not_a_group_of_errors(tmp_path: Path, wrong: Mapping[str, Any]) -> None:
    async def main() -> None:
        async with create_context([], working_directory=tmp_path, **wrong):
            raise AssertionError("it was opened")

    with pytest.raises(ValueError, match=r".+"):
        run(main)


def test_an_error_of_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with create_context([], working_directory=tmp_path):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(main)


def test_several_errors_of_the_block_come_out_as_their_group(tmp_path: Path) -> None:
    async def main() -> None:
        async with create_context([], working_directory=tmp_path):
            raise ExceptionGroup("two", [LookupError("a"), KeyError("b")])

    with pytest.raises(ExceptionGroup) as caught:
        run(main)
    assert caught.group_contains(LookupError)
    assert caught.group_contains(KeyError)


def test_an_unknown_option_of_a_backend_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with create_context([], working_directory=tmp_path, options={"colour": "none"}):
            raise AssertionError("it was opened")

    with pytest.raises(BackendUnavailable, match="no option 'colour'"):
        run(main)


def test_cancelling_the_block_kills_what_runs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    pid = ""

    async def main() -> None:
        nonlocal pid
        with trio.CancelScope() as scope:
            async with create_context([], working_directory=tmp_path) as context, trio.open_nursery() as nursery:
                nursery.start_soon(execute, call(command="echo $$ > pid; sleep 1000"), context)
                pid = await trio.to_thread.run_sync((tmp_path / "pid").read_text, abandon_on_cancel=True)
                scope.cancel()

    run(main)
    assert not Path("/proc", pid.strip()).exists()


def test_a_workspace_is_closed_to_its_end_when_the_block_is_cancelled(tmp_path: Path) -> None:
    executor = MemoryExecutor()

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with create_context([], working_directory=tmp_path, backend=executor):
                scope.cancel()
                await trio.sleep_forever()

    run(main)
    assert executor.closed == 1


def test_reading_a_skill_is_not_limited_by_what_skills_allow(tmp_path: Path) -> None:
    skill = make_skill(tmp_path / "skills/tides", "allowed-tools: Bash\n")

    async def main() -> None:
        async with create_context([skill], working_directory=tmp_path / "w", restrict_to_allowed_tools=True) as context:
            seen = await execute(call(name="view", path=context.location_of(skill)), context)
            assert "name: tides" in seen.content
            assert (await execute(call(name="view", path="."), context)).is_error

    run(main)


def test_locations_are_where_the_tools_find_the_skills(tmp_path: Path) -> None:
    skill = make_skill(tmp_path / "skills/tides")

    async def main() -> None:
        async with create_context([skill], working_directory=tmp_path / "w") as context:
            seen = await execute(call(name="view", path=context.location_of(skill)), context)
            assert "name: tides" in seen.content
            assert f"<location>{context.location_of(skill)}</location>" in context.system_prompt()
        memory = MemoryExecutor()
        async with create_context([skill], working_directory=tmp_path / "w", backend=memory) as context:
            assert "<location>/mnt/skills/tides/SKILL.md</location>" in context.system_prompt("You are a pilot.")
            assert "usage_instructions" not in context.system_prompt(include_instructions=False)

    run(main)


def test_with_copies_an_edit_changes_nothing_for_this_conversation(tmp_path: Path) -> None:
    skill = make_skill(tmp_path / "skills/tides")
    copies = SkillCopies(tmp_path / "copies")

    async def main() -> None:
        async with create_context([skill], working_directory=tmp_path / "w", copies=copies) as context:
            (skill.root / "SKILL.md").write_text("changed")
            seen = await execute(call(name="view", path=context.location_of(skill)), context)
            assert "name: tides" in seen.content

    run(main)
    copies.collect(())


def test_the_environment_is_given_to_commands_and_not_shown(tmp_path: Path) -> None:
    async def main() -> None:
        async with create_context([], working_directory=tmp_path, environment={"TIDE": "high"}) as context:
            assert "high" not in repr(context)
            assert (await execute(call(command="echo $TIDE"), context)).content == "high"

    run(main)


def test_a_skill_outside_of_the_context_is_not_readable(tmp_path: Path) -> None:
    tides, charts = make_skill(tmp_path / "skills/tides"), make_skill(tmp_path / "skills/charts")

    async def main() -> None:
        async with create_context([tides], working_directory=tmp_path / "w") as context:
            seen = await execute(call(name="view", path=str(charts.root / "SKILL.md")), context)
            assert seen.is_error
            with pytest.raises(KeyError):
                context.location_of(charts)

    run(main)
