"""What Conjure's local and docker executors do wrong when they run one tool, and what happens in every backend of ours.

The names of the tests say what goes wrong there. What goes wrong in its loops: tests/actors/loop.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conformance.executor_kit import Bench, Body, bench, demand, on_each_executor
from support import run

on = on_each_executor


def test_a_range_of_lines_is_numbered_anew(on: Callable[[Body], None]) -> None:
    async def body(here: Bench) -> None:
        await here.bash("seq 101 110 > file")
        shown = await here.tool("view", {"path": "file", "view_range": [4, 5]})
        assert [line.split() for line in shown.content.splitlines()[:2]] == [["4", "104"], ["5", "105"]]
        last = await here.tool("view", {"path": "file", "view_range": [10, -1]})
        assert last.content.split()[:2] == ["10", "110"]

    on(body)


def test_why_an_edit_failed_is_lost(on: Callable[[Body], None]) -> None:
    async def body(here: Bench) -> None:
        await here.bash("printf 'a\\na\\n' > file")
        for old, said in (("b", "not"), ("a", "2")):
            result = await here.tool("str_replace", {"path": "file", "old_str": old, "new_str": "x"})
            assert (result.outcome, said in result.content) == ("error", True), result.content
        assert (await here.bash("cat file")).content == "a\na"

    on(body)


def test_a_file_of_more_than_128_kilobytes_cannot_be_made_and_others_get_a_newline(on: Callable[[Body], None]) -> None:
    async def body(here: Bench) -> None:
        text = "CONJURE_EOF\nEOF\n" + "x" * 300_000
        made = await here.tool("create_file", {"path": "file", "file_text": text, "description": "d"})
        assert made.outcome == "ok", made.content
        assert (await here.bash("wc -c < file")).content == str(len(text))
        assert (here.folder / "file").read_text() == text

    on(body)


def test_an_edit_needs_programs_that_the_place_may_not_have(on: Callable[[Body], None]) -> None:
    """No program is looked for in the paths of commands, which may be empty."""

    async def body(here: Bench) -> None:
        await here.tool("create_file", {"path": "python3", "file_text": "#!/bin/sh\ntouch ran\n", "description": "d"})
        await here.bash("chmod +x python3; echo old > file")
        environment = {"PATH": str(here.workspace.root)}
        edit = {"path": "file", "old_str": "old", "new_str": "new"}
        assert (await here.tool("str_replace", edit, environment=environment)).outcome == "ok"
        assert (await here.bash("cat file; ls ran")).content.splitlines()[0] == "new"
        assert not (here.folder / "ran").exists()

    on(body)


def test_the_environment_of_a_call_is_passed_over(on: Callable[[Body], None]) -> None:
    async def body(here: Bench) -> None:
        assert (await here.bash('echo "[$GIVEN]"', environment={"GIVEN": "yes"})).content == "[yes]"
        assert (await here.bash('echo "[$GIVEN]"')).content == "[]"

    on(body)


def test_commands_begin_in_another_folder_than_files_are_made_in(on: Callable[[Body], None]) -> None:
    async def body(here: Bench) -> None:
        await here.tool("create_file", {"path": "made", "file_text": "by a tool", "description": "d"})
        assert (await here.bash("cat made && echo 'by a command' > also")).content == "by a tool"
        assert "by a command" in (await here.tool("view", {"path": "also"})).content

    on(body)


def test_the_location_that_the_prompt_names_is_not_there(on: Callable[[Body], None], tmp_path: Path) -> None:
    async def body(here: Bench) -> None:
        skills = []
        for name in ("first", "second"):
            skill = tmp_path / "skills" / name
            (skill / "scripts").mkdir(parents=True)
            (skill / "SKILL.md").write_text(f"I am {name}\n")
            (skill / "scripts/run.sh").write_text(f"echo ran {name}\n")
            skills.append(skill)
        for skill in skills:
            location = here.workspace.path_of_skill(skill)
            shown = await here.tool("view", {"path": f"{location}/SKILL.md"}, readable=skills)
            assert f"I am {skill.name}" in shown.content
            ran = await here.bash(f"bash '{location}/scripts/run.sh'", readable=skills)
            assert ran.content == f"ran {skill.name}"

    on(body)


def test_a_place_is_made_anew_for_each_message(tmp_path: Path) -> None:
    demand("docker")

    async def main() -> None:
        async with bench("docker", tmp_path / "workspace") as here:
            found = [(await here.bash("cat /proc/sys/kernel/hostname")).content for _ in range(3)]
            assert len(set(found)) == 1

    run(main)


def test_a_call_that_leaves_something_in_the_background_holding_its_output_waits_for_it(
    on: Callable[[Body], None],
) -> None:
    async def body(here: Bench) -> None:
        result = await here.bash("sleep 60 & echo done", timeout_s=20)
        assert result.outcome == "ok"
        assert result.content.startswith("done")
        assert result.duration_ms < 10_000

    on(body)


def test_input_that_is_missing_kills_the_caller(on: Callable[[Body], None]) -> None:
    async def body(here: Bench) -> None:
        for tool in ("view", "bash_tool", "create_file", "str_replace"):
            result = await here.tool(tool, {})
            assert (result.outcome, "missing" in result.content) == ("error", True), result.content
        assert (await here.bash("echo here")).content == "here"

    on(body)
