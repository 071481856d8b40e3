"""The page for readers who come from Conjure: it runs as a whole, and leaves out no function."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).parents[2] / "docs/conjure.md"
EXAMPLE = Path(__file__).parents[2] / "examples/tool_loop.py"
FUNCTIONS = {
    *("load/1", "load_all/1", "load_skill_file/1", "load_body/1", "read_resource/2", "validate/1"),
    *("system_prompt/2", "build_system_prompt/3", "tool_definitions/1", "create_context/2", "execute/3"),
    *("run_loop/4", "process_response/3", "parse_response/1"),
    *("Backend.Native.tool_definitions/1", "Backend.Native.build_tool_map/1"),
    *("Registry.list/1", "Registry.get/2", "find/2", "Registry.count/1", "Registry.find_matching/2"),
    *("Registry.index/1", "Registry.register/2", "Registry.reload/1"),
    *("API.Anthropic.beta_headers/0", "code_execution_tool/0", "API.Anthropic.container_config/1"),
    *("with_container_id/2", "API.Anthropic.build_request/3", "parse_response/1", "API.Anthropic.extract_file_ids/1"),
    *("extract_text/1", "Conversation.Anthropic.run/4", "continue/4", "complete?/1", "Files.Anthropic.metadata/2"),
    *("list/2", "delete/2", "download/3", "download_to_file/4", "download_all/3", "Skills.Anthropic.upload/3"),
    *("create_version/3", "package_skill/1", "Skills.Anthropic.list/2", "get/2", "list_versions/2"),
    *("delete_version/3", "Backend.Anthropic", "Storage.Local", "Storage.S3", "Storage.Tigris"),
    *("init/2", "write/3", "read/2", "exists?/2", "list/1", "local_path/1", "sync_to_remote/1"),
    *("sync_from_remote/1", "cleanup/1"),
}

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the page is in the repository")


def rows() -> list[tuple[ModuleType, list[str], list[str]]]:
    """Package, Conjure's functions and ours, for each row of each table."""
    found = []
    package: ModuleType | None = None
    for line in PAGE.read_text().splitlines():
        head = re.match(r"\| Conjure \| here, of `([\w.]+)` \|", line)
        if head:
            package = importlib.import_module(head[1])
        elif line.startswith("| `"):
            theirs, ours = line.strip("| ").split(" | ")[:2]
            assert package is not None
            found.append((package, re.findall(r"`([^`]+)`", theirs), re.findall(r"`([^`]+)`", ours)))
    return found


def blocks() -> list[tuple[int, str]]:
    """The page's Python blocks, each with the line it begins in."""
    text = PAGE.read_text()
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start(1)), block[1]) for block in found]


def test_the_page_runs_as_a_whole(tmp_path: Path) -> None:
    page = [""] * max(first + block.count("\n") for first, block in blocks())  # so that a traceback has its lines
    for first, block in blocks():
        page[first : first + block.count("\n")] = block.splitlines()
    done = run_python(tmp_path, "-c", "\n".join(page))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("bash_tool: high water at noon\ninvalid_response ")


def test_the_example_runs(tmp_path: Path) -> None:
    done = run_python(tmp_path, str(EXAMPLE))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "view (ok):      1\t---",
        "bash_tool (ok): echo: hello",
        "create_file (error): There is no tool 'create_file' in this conversation. Offered: bash_tool, view.",
        "finished after 4 model calls: It said hello, and I may not write files.",
    ]


def test_the_example_says_what_it_misses(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/SKILL.md").write_text("nothing")
    done = run_python(tmp_path, str(EXAMPLE), str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.startswith(f"not loaded: {tmp_path}/broken: ")
    assert "wants a skill 'echo'" in done.stderr


def run_python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_every_function_has_its_row() -> None:
    assert {name for _, theirs, _ in rows() for name in theirs} == FUNCTIONS


@pytest.mark.parametrize(("package", "theirs", "ours"), rows(), ids=lambda value: str(value)[:40])
def test_what_stands_for_a_function_is_there_and_shown(package: ModuleType, theirs: list[str], ours: list[str]) -> None:
    assert ours
    for dotted in ours:
        name, _, attribute = dotted.partition(".")
        assert name in package.__all__, dotted
        kind = getattr(package, name)
        assert not attribute or hasattr(kind, attribute) or attribute in kind.__slots__, dotted
        shown = rf"\.{attribute}\b" if attribute else rf"\b{name}\("
        assert any(re.search(shown, block) for _, block in blocks()), f"{dotted} is in no piece of program"


def defects() -> list[tuple[str, str, str]]:
    """What goes wrong there, the name of the test that shows ours, and its file."""
    part = PAGE.read_text().partition("## What it does wrong")[2]
    return re.findall(r"^\| ([^|]+) \| \[([^\]]+)\]\(\.\./([\w/]+\.py)\) \|$", part, re.MULTILINE)


@pytest.mark.parametrize(("defect", "name", "file"), defects(), ids=lambda value: str(value)[:60])
def test_every_defect_names_a_test_that_there_is(defect: str, name: str, file: str) -> None:
    text = PAGE.parents[1].joinpath(file).read_text()
    assert re.search(rf"^def test_{name.replace(' ', '_')}\(", text, re.MULTILINE), defect


def test_no_defect_is_without_a_test() -> None:
    part = PAGE.read_text().partition("## What it does wrong")[2]
    lines = [line for line in part.splitlines() if line.startswith("| ") and not line.startswith("| what goes wrong")]
    assert len(lines) == len(defects()) > 60
