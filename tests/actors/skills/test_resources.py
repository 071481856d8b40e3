"""Reading the files of a skill: the right bytes, and never any others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skill_actors.skills import (
    ResourceError,
    Skill,
    SkillCopies,
    load_skill,
    read_resource,
    read_resource_bytes,
    resources_of,
)

Make = Callable[..., Path]
SECRET = "the secret"


@pytest.fixture
def tides(tmp_path: Path, make_skill: Make, add_file: Make) -> Skill:
    (tmp_path / "secret.txt").write_text(SECRET)
    folder = make_skill(tmp_path / "skills/tides")
    add_file(folder, "scripts/now.py", "print('now')\n")
    add_file(folder, "scripts/lib/moon.py", "PHASES = 8\n")
    add_file(folder, "references/harbours.md", "# Harbours\n")
    add_file(folder, "assets/chart.txt", "~~~\n")
    add_file(folder, "data/2026/table.csv", "1,2\n")
    return loaded(folder)


def loaded(folder: Path) -> Skill:
    skill = load_skill(folder)
    assert isinstance(skill, Skill)
    return skill


def refusal(skill: Skill, path: str, max_bytes: int = 1_000) -> str:
    with pytest.raises(ResourceError) as caught:
        read_resource(skill, path, max_bytes=max_bytes)
    assert SECRET not in caught.value.message
    return caught.value.code


def test_files_are_listed_by_their_use_however_deep(tides: Skill) -> None:
    assert resources_of(tides) == {
        "scripts": ("scripts/lib/moon.py", "scripts/now.py"),
        "references": ("references/harbours.md",),
        "assets": ("assets/chart.txt",),
        "other": ("SKILL.md", "data/2026/table.csv"),
    }


def test_every_listed_file_can_be_read(tides: Skill) -> None:
    texts = {path: read_resource(tides, path) for paths in resources_of(tides).values() for path in paths}
    assert texts["scripts/lib/moon.py"] == "PHASES = 8\n"
    assert texts["SKILL.md"].startswith("---\nname: tides\n")
    assert len(texts) == 6


def test_a_lower_case_skill_file_is_read_as_skill_md(tides: Skill) -> None:
    (tides.root / "SKILL.md").rename(tides.root / "skill.md")
    assert read_resource(loaded(tides.root), "SKILL.md").startswith("---\nname: tides\n")


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "../secret.txt", "scripts/../../../secret.txt", "/etc/passwd", "scripts", "scripts/"),
        *("./SKILL.md", "scripts//now.py", "SKILL.md\0", "skill.md", "scripts\\now.py", "~/x", "\ud800"),
    ],
)
def test_a_path_that_the_skill_does_not_list_is_refused(tides: Skill, path: str) -> None:
    assert refusal(tides, path) == "no_resource"


@given(path=st.text(st.sampled_from("./ab\\\0-S"), max_size=20))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_path_but_those_listed_is_ever_read(tides: Skill, path: str) -> None:
    assert path in tides.files or refusal(tides, path) == "no_resource"


def test_a_link_that_was_put_in_place_of_a_file_leads_nowhere(tides: Skill, tmp_path: Path) -> None:
    script = tides.root / "scripts/now.py"
    script.unlink()
    script.symlink_to(tmp_path / "secret.txt")
    assert refusal(tides, "scripts/now.py") == "leaves_root"


def test_a_link_that_was_put_in_place_of_a_folder_leads_nowhere(tides: Skill, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (tides.root / "references").rename(outside)
    (tides.root / "references").symlink_to(outside)
    assert refusal(tides, "references/harbours.md") == "leaves_root"


def test_a_folder_whose_name_only_begins_alike_is_outside(tides: Skill, tmp_path: Path) -> None:
    twin = tides.root.with_name("tides-secrets")
    twin.mkdir()
    (twin / "x").write_text(SECRET)
    (tides.root / "assets/chart.txt").unlink()
    (tides.root / "assets/chart.txt").symlink_to("../../tides-secrets/x")
    assert refusal(tides, "assets/chart.txt") == "leaves_root"


def test_a_link_inside_of_the_skill_is_followed(tides: Skill) -> None:
    (tides.root / "scripts/again.py").symlink_to("now.py")
    assert read_resource(loaded(tides.root), "scripts/again.py") == "print('now')\n"


def test_a_skill_reached_through_a_link_is_read(tides: Skill, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tides.root)
    assert read_resource(tides, "assets/chart.txt", root=tmp_path / "link") == "~~~\n"


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tides: Skill) -> None:
    (tides.root / "scripts/now.py").unlink()
    os.mkfifo(tides.root / "scripts/now.py")
    assert refusal(tides, "scripts/now.py") == "unreadable"


def test_a_file_that_is_gone_is_unreadable(tides: Skill) -> None:
    (tides.root / "scripts/now.py").unlink()
    assert refusal(tides, "scripts/now.py") == "unreadable"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"PK\x03\x04\x00"])
def test_what_is_no_text_is_had_as_bytes(tides: Skill, content: bytes) -> None:
    (tides.root / "assets/chart.txt").write_bytes(content)
    assert refusal(tides, "assets/chart.txt") == "not_text"
    assert read_resource_bytes(tides, "assets/chart.txt") == content


def test_a_file_is_read_up_to_the_bound_and_not_beyond(tides: Skill) -> None:
    assert read_resource(tides, "assets/chart.txt", max_bytes=4) == "~~~\n"
    assert refusal(tides, "assets/chart.txt", max_bytes=3) == "too_large"


def test_a_copy_has_the_version_that_was_loaded(tides: Skill, tmp_path: Path) -> None:
    copies = SkillCopies(tmp_path / "copies")
    copy = copies.materialise(tides)
    (tides.root / "assets/chart.txt").write_text("new\n")
    assert read_resource(tides, "assets/chart.txt") == "new\n"
    assert read_resource(tides, "assets/chart.txt", root=copy) == "~~~\n"
    copies.collect(())
