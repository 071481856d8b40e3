"""Both levels, loader and validator, against a corpus of hostile and ordinary SKILL.md files, where one is at hand.

`SKILLS_CORPUS` names its JSON file.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from skill_actors.skills import Skill, load_skill
from skill_actors.skills.validate import validate_skill


def cases() -> list[Any]:
    path = os.environ.get("SKILLS_CORPUS", "")
    if not os.path.isfile(path):
        return [pytest.param({}, marks=pytest.mark.skip(reason="SKILLS_CORPUS names no file"), id="corpus")]
    return [pytest.param(case, id=case["id"]) for case in json.loads(Path(path).read_text())["cases"]]


def build(case: dict[str, Any], top: Path) -> Path:
    folder = top / str(case["dir_name"])
    if case.get("make_dir", True):
        folder.mkdir()
    if name := case.get("file_name", "SKILL.md"):
        (folder / name).write_bytes(skill_file(case))
        if mode := case.get("mode"):
            (folder / name).chmod(int(mode, 8))
    for file in case.get("files", ()):
        for number in range(file.get("repeat", 1)):
            place(file, top / (file["path"].format(i=number) if "repeat" in file else file["path"]))
    return folder


def skill_file(case: dict[str, Any]) -> bytes:
    if case.get("skill_md_text") is not None:
        return str(case["skill_md_text"]).encode()
    if case.get("skill_md_base64") is not None:
        return base64.b64decode(case["skill_md_base64"])
    keys = "".join(f"  k{number}: v\n" for number in range(2_000))
    return "".join((keys if text == "__KEYS__" else text) * times for text, times in case["skill_md_parts"]).encode()


def place(file: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if "text" in file:
        path.write_text(file["text"])
    elif "symlink_to" in file:
        path.symlink_to(file["symlink_to"])
    else:
        os.mkfifo(path)


@pytest.mark.parametrize("case", cases())
def test_loader_loads_and_skips_as_advised(case: dict[str, Any], tmp_path: Path) -> None:
    outcome = load_skill(build(case, tmp_path))
    advice = case["recommended_client_action"]
    assert isinstance(outcome, Skill) == (advice != "skip"), outcome
    if not isinstance(outcome, Skill):
        assert outcome.diagnostics[0].message
        return
    assert not set(case.get("expected_resources_refused", ())) & set(outcome.files)
    expected = case.get("expected_properties") or {}
    for key in {"name", "description"} & set(expected):
        assert getattr(outcome, key) == expected[key]
    assert [found.code for found in outcome.diagnostics if not (found.message and found.remedy)] == []
    assert bool(outcome.diagnostics) == (advice == "load_with_warning"), outcome.diagnostics


@pytest.mark.parametrize("case", cases())
def test_validator_is_as_strict_as_the_specification(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(case, tmp_path)
    monkeypatch.chdir(tmp_path / case.get("invoke_cwd", "."))
    verdict = validate_skill(Path(case.get("invoke_as", case["dir_name"])))
    judged = case["spec_valid"] if case["spec_valid"] is not None else case["expected_valid"]
    assert verdict.valid == judged, verdict
