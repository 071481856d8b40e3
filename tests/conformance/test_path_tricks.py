"""Paths that a model may try, through all four tools of every backend: none leads to what is not its own."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from conformance.executor_kit import NAMES, Bench, bench, demand
from skill_actors.backends import OutputChunk

SECRET = "top-secret-0123456789"
SWAPS = 200


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` under trio; in a container all of it takes some ten seconds."""

    async def bounded() -> None:
        with trio.fail_after(120):
            await main()

    trio.run(bounded, strict_exception_groups=True)


def tricks(outside: Path) -> list[str]:
    """Ways to a file outside of the workspace, whose folder is `outside`, beside that of the workspace."""
    name = outside.name
    return [
        f"{outside}/file",
        f"../{name}/file",
        f"./a/../../{name}/file",
        f"a/b/../../../{name}/file",
        f"//{str(outside).lstrip('/')}/file",
        f"/proc/self/cwd/../{name}/file",
        f"/proc/self/root{outside}/file",
        f"/proc/1/root{outside}/file",
        f"/dev/fd/../../..{outside}/file",
        f"file://{outside}/file",
        f"..%2f{name}%2ffile",
        f"link/../../{name}/file",
        "link/file",
        "hop/file",
        "link-to-file",
        f"~/../../../../../../..{outside}/file",
        f"$PWD/../{name}/file",
        f"${{PWD}}/../{name}/file",
        f"`echo ../{name}`/file",
        f"..\u2215{name}\u2215file",
        f" ../{name}/file",
        f"../{name}/file\n",
        f"../{name}/file/.",
        f"..\\{name}\\file",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_no_path_leads_out_of_the_workspace(name: str, tmp_path: Path) -> None:
    demand(name)
    outside = make_outside(tmp_path)

    async def main() -> None:
        async with bench(name, tmp_path / "workspace") as here:
            await here.bash(f"mkdir -p a/b; ln -s {outside} link; ln -s link hop; ln -s {outside}/file link-to-file")
            for path in tricks(outside):
                seen = await here.tool("view", {"path": path})
                assert SECRET not in seen.content, path
                for tool, more in (
                    ("create_file", {"file_text": "theirs"}),
                    ("str_replace", {"old_str": SECRET, "new_str": "theirs"}),
                ):
                    await here.tool(tool, {"path": path, "description": "x", **more})
                    assert (outside / "file").read_text() == SECRET, (tool, path)
                if here.executor.capabilities.sandbox != "none":
                    await a_command(here, path)
                assert [entry.name for entry in outside.iterdir()] == ["file"], path
                assert (outside / "file").read_text() == SECRET, path

    run(main)


async def a_command(here: Bench, path: str) -> None:
    """The fourth tool: a shell that is given the path, as it is and to expand."""
    quoted = "'" + path.replace("'", "'\\''") + "'"
    for word in (quoted, f'"{path}"'):
        result = await here.bash(f"cat {word}; cp {word} stolen; cat stolen; echo theirs > {word}; rm -f {word}")
        assert SECRET not in result.content, path


def make_outside(tmp_path: Path) -> Path:
    outside = tmp_path / "another-session"
    outside.mkdir()
    (outside / "file").write_text(SECRET)
    return outside


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_becomes_a_link_again_and_again_lets_nothing_through(name: str, tmp_path: Path) -> None:
    """A command swaps a folder and a link out of the workspace while the file tools go through it."""
    demand(name)
    outside = make_outside(tmp_path)
    swap = f"while :; do mkdir s; echo mine > s/file; rm -rf s; ln -s {outside} s; rm s; done 2>/dev/null"

    async def main() -> None:
        async with bench(name, tmp_path / "workspace") as here, trio.open_nursery() as nursery:
            begun = trio.Event()

            async def emit(_chunk: OutputChunk) -> None:
                begun.set()

            nursery.start_soon(lambda: here.bash(f"echo begun; {swap}", timeout_s=100, emit=emit))
            await begun.wait()
            answers = set()
            for number in itertools.count():
                seen = await here.tool("view", {"path": "s/file"})
                assert SECRET not in seen.content
                answers.add(seen.content)
                await here.tool("create_file", {"path": f"s/new{number}", "file_text": "theirs", "description": "x"})
                edit = {"path": "s/file", "old_str": SECRET, "new_str": "theirs", "description": "x"}
                assert (await here.tool("str_replace", edit)).is_error
                if number >= (SWAPS if name != "docker" else 30) and len(answers) > 1:  # it has been swapped meanwhile
                    break
            nursery.cancel_scope.cancel()
        assert [entry.name for entry in outside.iterdir()] == ["file"]
        assert (outside / "file").read_text() == SECRET

    run(main)
