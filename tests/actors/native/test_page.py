"""The page on native skills: its examples work, and what it lists is what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from native_kit import code_in, open_processes
from skill_actors.backends import NativeRoom, NativeTools, ToolCall, ToolContext, WorkspaceSpec
from skill_actors.native import AskFailed
from skill_actors.runtime.process_spec import INHERITED
from skill_actors.skills import Skill, load_skill
from support import run

PAGE = Path(__file__).parents[3] / "docs/native-skills.md"
SOURCES = Path(__file__).parents[3] / "actors/skill_actors"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the page is in the repository, and this is a copy")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_skill_of_the_page_works(tmp_path: Path) -> None:
    (front,) = blocks("yaml")
    root = tmp_path / "notes"
    root.mkdir()
    (root / "SKILL.md").write_text(front)
    (root / "notes.py").write_text(blocks("python")[0])
    loaded = load_skill(root)
    assert isinstance(loaded, Skill)
    assert loaded.diagnostics == ()

    async def main() -> None:
        async with open_processes() as processes:
            code = code_in(root, class_name="Notes", file="notes.py")
            described = await processes.describe(code)
            spec = WorkspaceSpec(session="s", root=tmp_path)
            room = NativeRoom([NativeTools(code=code, tools=described.tools)], processes, spec)

            async def call(tool: str, **input: str | int) -> str:
                result = await room.execute(ToolCall(id="1", name=tool, input=input), ToolContext(timeout_s=20))
                return result.content

            assert await call("notes_write", path="a", content="one\ntwo\n") == "noted a"
            assert await call("notes_read", path="a", offset=1) == "two"

    run(main)


def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(blocks("python")[-1])
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "['greeter_execute'] execute\nok hello, you\n"


def test_the_program_with_classes_of_its_own_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", blocks("python")[-2]], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "ok Cache cleared {}\n")


def test_the_kinds_of_failed_questions_are_listed() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ", PAGE.read_text().partition("`AskFailed.kind`")[2], re.MULTILINE)
    assert AskFailed.__doc__ is not None
    kinds = re.findall(r'"(\w+)"', AskFailed.__doc__)
    assert rows[: len(kinds)] == kinds
    text = (SOURCES / "backends/exposed.py").read_text() + (SOURCES / "backends/native_inline.py").read_text()
    used = set(re.findall(r'(?:_failed|AskFailed)\("(\w+)"', text))
    assert used == set(kinds)


def test_every_code_of_a_refusal_is_listed() -> None:
    files = [
        *(SOURCES / "native").glob("*.py"),
        *(SOURCES / "backends").glob("native*.py"),
        SOURCES / "skills/native.py",
    ]
    text = "".join(re.sub(r"^__all__ = .*$", "", file.read_text(), flags=re.MULTILINE) for file in files)
    used = set(re.findall(r'"(native_[a-z_]+)"', text))
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `native_")]
    assert {code for row in rows for code in re.findall(r"`(native_[a-z_]+)`", row)} == used


def test_the_variables_of_a_process_are_listed() -> None:
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith("- The environment holds")]
    named = re.findall(r"`([A-Z_]+)`", line.partition(" of the daemon")[0])
    assert sorted(named) == sorted(INHERITED)
