"""skillctl skills validate, with no daemon anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from skilld.cli.app import skillctl


def run(*args: str | Path, socket: str = "/nonexistent/skilld.sock") -> Result:
    return CliRunner().invoke(skillctl, ["skills", "validate", *map(str, args)], env={"SKILLD_SOCKET": socket})


def skill(folder: Path, header: str | None = None) -> Path:
    folder.mkdir()
    (folder / "SKILL.md").write_text(f"---\n{header or f'name: {folder.name}' + chr(10) + 'description: d'}\n---\n")
    return folder


def test_valid_skills_are_told_and_the_command_succeeds(tmp_path: Path) -> None:
    tides = skill(tmp_path / "tides")
    result = run(tides)
    assert (result.exit_code, result.stdout) == (0, f"valid: {tides}\n")


def test_one_invalid_among_many_fails_the_command(tmp_path: Path) -> None:
    tides = skill(tmp_path / "tides")
    wrong = skill(tmp_path / "wrong", "name: Wrong\ndescription: d")
    result = run(tides, wrong, tides / "SKILL.md")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"valid: {tides}",
        f"invalid: {wrong}",
        "  error: name 'Wrong' must be lowercase (line 2). Write name: wrong [name_case]",
        "  error: name 'Wrong' differs from the name of its folder, 'wrong' (line 2)."
        " Give both the same name. [name_folder]",
        f"valid: {tides}/SKILL.md",
        "2 of 3 are valid",
    ]


@pytest.mark.parametrize("path", ["nowhere", "empty", "file"])
def test_wrong_path_is_a_failure(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    result = run(tmp_path / path)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"invalid: {tmp_path / path}\n  error: ")


def test_no_path_is_a_mistake_in_use() -> None:
    assert run().exit_code == 2


def test_empty_path_is_no_name_for_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(skill(tmp_path / "tides"))
    assert run(".").exit_code == 0
    result = run("")
    assert (result.exit_code, result.stdout) == (2, "")


def test_json_has_an_item_a_path_in_their_order(tmp_path: Path) -> None:
    tides = skill(tmp_path / "tides", "name: tides\ndescription: d\nmetadata:\n  skilld-entry: scripts/gone.sh")
    result = run("--json", tmp_path / "nowhere", tides)
    assert result.exit_code == 1
    missing, found = json.loads(result.stdout)
    assert missing == {
        "path": str(tmp_path / "nowhere"),
        "valid": False,
        "errors": [{"code": "path_missing", "message": "there is no such path", "line": None}],
        "warnings": [],
    }
    assert (found["path"], found["valid"], found["errors"]) == (str(tides), True, [])
    assert {key for warning in found["warnings"] for key in warning} == {"code", "message", "line"}


def test_reserved_words_count_for_the_api_only(tmp_path: Path) -> None:
    claude = skill(tmp_path / "claude-tides")
    assert run(claude).exit_code == 0
    result = run("--for-api", "--json", claude)
    assert result.exit_code == 1
    assert [error["code"] for error in json.loads(result.stdout)[0]["errors"]] == ["name_reserved"]


def test_what_a_skill_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    wrong = skill(tmp_path / "wrong\x1b[2J", 'name: "w\\x1b]0;x\\a"\ndescription: d\n"k\\x1b[2J": v\n"k\u202e": v')
    result = run(wrong)
    assert result.exit_code == 1
    assert not {"\x1b", "\a", "\u202e"} & set(result.stdout)


def test_names_that_are_not_utf8_are_judged_as_well(tmp_path: Path) -> None:
    """In a process of its own: only there the arguments and the stream are what a shell gives."""
    folder = bytes(tmp_path) + b"/tid\xffes"
    os.mkdir(folder)
    Path(os.fsdecode(folder + b"/SKILL.md")).write_text("---\nname: tides\ndescription: d\n---\n")
    done = subprocess.run(
        [sys.executable, "-m", "skilld.cli", "skills", "validate", "--json", folder], capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, b"")
    assert [error["code"] for error in json.loads(done.stdout)[0]["errors"]] == ["name_folder"]


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root reads everything")
def test_what_may_not_be_read_is_judged_among_the_others(tmp_path: Path) -> None:
    folders = [skill(tmp_path / name) for name in ("tides", "listed", "closed")]
    folders[1].chmod(0o444)
    folders[2].chmod(0)
    command = [sys.executable, "-m", "skilld.cli", "skills", "validate", "--json", *map(str, folders)]
    if os.geteuid() == 0:
        command[:0] = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    done = subprocess.run(command, capture_output=True, timeout=60)
    for folder in folders:
        folder.chmod(0o755)
    assert (done.returncode, done.stderr) == (1, b"")
    found = {Path(item["path"]).name: [error["code"] for error in item["errors"]] for item in json.loads(done.stdout)}
    assert found == {"tides": [], "listed": ["unreadable"], "closed": ["unreadable"]}
