"""Loading skills without a registry."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from skill_actors.skills import PackageCache, Skill, SkillFailure, load, load_all, load_skill_file

Make = Callable[..., Path]


def pack(folder: Path, target: Path, **files: str) -> Path:
    """A package of the skill in `folder`, with more files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "SKILL.md", f"{folder.name}/SKILL.md")
        for name, content in files.items():
            archive.writestr(f"{folder.name}/{name}", content)
    return target


def codes(failures: object) -> list[str]:
    assert isinstance(failures, tuple)
    return [found.code for failure in failures for found in failure.diagnostics]


def test_one_folder_of_skills_is_loaded_whole(tmp_path: Path, make_skill: Make) -> None:
    for name in ("tides", "charts"):
        make_skill(tmp_path / name)
    snapshot = load(tmp_path)
    assert list(snapshot.skills) == ["charts", "tides"]
    assert snapshot.skills["tides"].body.strip() == "Body"
    assert snapshot.failures == ()


def test_a_folder_that_is_a_skill_itself_is_loaded(tmp_path: Path, make_skill: Make) -> None:
    assert list(load(make_skill(tmp_path / "tides")).skills) == ["tides"]


def test_one_package_is_loaded_by_its_path(tmp_path: Path, make_skill: Make) -> None:
    package = pack(make_skill(tmp_path / "src/tides"), tmp_path / "tides.skill")
    assert list(load(package, packages=PackageCache(tmp_path / "cache")).skills) == ["tides"]


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_single_wrong_path_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "file":
        path.write_text("no folder")
    with pytest.raises(OSError, match=kind):
        load(path)


def test_skills_are_trusted_only_if_their_loader_says_so(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "tides")
    assert not load(tmp_path).skills["tides"].trusted
    assert load(tmp_path, trusted=True).skills["tides"].trusted


def test_the_first_of_several_places_wins_a_name(tmp_path: Path, make_skill: Make) -> None:
    first = make_skill(tmp_path / "a/tides", description="First")
    make_skill(tmp_path / "b/tides", description="Second")
    snapshot = load_all([tmp_path / "a", tmp_path / "b"])
    assert snapshot.skills["tides"].root == first
    assert codes(snapshot.failures) == ["duplicate_name"]


def test_a_package_that_is_no_package_is_a_failure_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "odd.skill"
    path.write_bytes(b"no zip")
    outcome = load_skill_file(path, PackageCache(tmp_path / "cache"))
    assert isinstance(outcome, SkillFailure)
    assert (outcome.path, outcome.diagnostics[0].code) == (path, "package_damaged")


def test_a_package_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    outcome = load_skill_file(tmp_path / "none.skill", PackageCache(tmp_path / "cache"))
    assert isinstance(outcome, SkillFailure)
    assert outcome.diagnostics[0].code == "package_unreadable"


def test_a_package_gives_its_skill(tmp_path: Path, make_skill: Make) -> None:
    package = pack(make_skill(tmp_path / "src/tides"), tmp_path / "tides.skill", note="high water")
    skill = load_skill_file(package, PackageCache(tmp_path / "cache"), trusted=True)
    assert isinstance(skill, Skill)
    assert (skill.name, skill.package, skill.trusted) == ("tides", package, True)
    assert skill.files == ("SKILL.md", "note")
