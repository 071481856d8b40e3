"""What holds for every bundled skill, and for echo."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SKILLS = Path(__file__).resolve().parents[2] / "skills"
NAMES = sorted(path.parent.name for path in SKILLS.glob("*/SKILL.md"))
FIELDS = {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}


def front_matter(name: str) -> dict[str, object]:
    """The front matter of a bundled skill."""
    match = re.match(r"---\n(.*?)\n---\n", (SKILLS / name / "SKILL.md").read_text(encoding="utf-8"), re.DOTALL)
    assert match
    value = yaml.safe_load(match[1])
    assert isinstance(value, dict)
    return value


def echo(*words: str) -> subprocess.CompletedProcess[bytes]:
    """Run echo's script."""
    command = [sys.executable, str(SKILLS / "echo/scripts/echo.py"), *words]
    return subprocess.run(command, capture_output=True, timeout=30)


def test_the_skills_that_the_readme_names_are_bundled() -> None:
    assert {"echo", "log-analyzer", "log-fetcher"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_front_matter_conforms_to_the_specification(name: str) -> None:
    fields = front_matter(name)
    assert fields.keys() <= FIELDS
    assert fields["name"] == name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert 1 <= len(str(fields["description"])) <= 1024
    assert not re.search("[<>]", str(fields["description"]))
    assert fields["license"] == "Apache-2.0"
    assert 1 <= len(str(fields["compatibility"])) <= 500
    metadata = fields["metadata"]
    assert isinstance(metadata, dict)
    assert (SKILLS / name / str(metadata["skilld-entry"])).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_files_that_a_skill_names_exist(name: str) -> None:
    text = (SKILLS / name / "SKILL.md").read_text(encoding="utf-8")
    for path in re.findall(r"\b(?:scripts|references|assets)/[\w./-]+\w", text):
        assert (SKILLS / name / path).is_file(), path


@pytest.mark.parametrize("path", sorted(SKILLS.rglob("scripts/*.py")), ids=lambda path: path.name)
def test_scripts_are_python_3_9_and_programs_are_executable(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 9))
    is_program = "__main__" in source
    assert source.startswith("#!/usr/bin/env python3\n") is is_program
    assert os.access(path, os.X_OK) is is_program


def test_echo_prints_its_arguments() -> None:
    assert echo("hello", "two  spaces", "ünï").stdout.decode() == "echo: hello two  spaces ünï\n"
    assert echo("--", "-x").stdout == b"echo: -x\n"


def test_echo_without_arguments_is_a_usage_error() -> None:
    assert echo().returncode == 2
    assert echo("--help").returncode == 0
