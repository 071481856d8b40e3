"""The loader against a corpus of hostile and ordinary SKILL.md files, where one is at hand.

`SKILLS_CORPUS` names its JSON file.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from skill_actors.skills import Skill, load_skill

# Advice that the loader does not follow, and why.
DEVIATIONS = {
    "dir-hidden": "hidden folders are passed over when skills are looked for, not when one is loaded",
    "fs-skill-md-unreadable": "depends on who runs the tests",
    "yaml-5mb-scalar": "a SKILL.md has at most 1 MiB",
}


def cases() -> list[Any]:
    path = os.environ.get("SKILLS_CORPUS", "")
    if not os.path.isfile(path):
        return [pytest.param({}, marks=pytest.mark.skip(reason="SKILLS_CORPUS names no file"), id="corpus")]
    return [pytest.param(case, id=case["id"]) for case in json.loads(Path(path).read_text())["cases"]]


def build(case: dict[str, Any], top: Path) -> Path:
    folder = top / case["dir_name"]
    if case.get("make_dir", True):
        folder.mkdir()
    if name := case.get("file_name", "SKILL.md"):
        (folder / name).write_bytes(skill_file(case))
        if mode := case.get("mode"):
            (folder / name).chmod(int(mode, 8))
    for file in case.get("files", ()):
        for number in range(file.get("repeat", 1)):
            place(file, top / (file["path"].format(i=number) if "repeat" in file else file["path"]))
    return Path(os.path.realpath(folder))


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
    if case["id"] in DEVIATIONS:
        return
    advice = case["recommended_client_action"]
    assert isinstance(outcome, Skill) == (advice != "skip"), outcome
    if not isinstance(outcome, Skill):
        assert outcome.diagnostics[0].message
        return
    assert not set(case.get("expected_resources_refused", ())) & set(outcome.files)
    expected = case.get("expected_properties") or {}
    for key in {"name", "description"} & set(expected):
        assert getattr(outcome, key) == expected[key]
    if advice == "load" and not case.get("expected_resources_refused"):
        assert outcome.diagnostics == ()
