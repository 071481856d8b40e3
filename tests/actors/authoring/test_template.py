"""New skills: valid and running from the first moment, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.authoring.folder import open_skill
from skill_actors.authoring.lint import lint
from skill_actors.authoring.template import BadTemplate, Script, make_skill
from skill_actors.authoring.trials import run_trials
from skill_actors.skills.validate import validate_skill


@pytest.mark.parametrize("script", ["python", "bash", "none"])
def test_new_skill_is_valid_loads_without_a_finding_and_passes_its_tests(tmp_path: Path, script: Script) -> None:
    root = make_skill(tmp_path / "new", "tide-table", script=script)
    assert root == tmp_path / "new" / "tide-table"
    verdict = validate_skill(root, for_api=True)
    assert (verdict.errors, verdict.warnings) == ((), ())
    results = run_trials(open_skill(root))
    assert [result.failures for result in results] == ([] if script == "none" else [()] * 3)


def test_lint_names_what_is_left_to_write(tmp_path: Path) -> None:
    codes = {finding.code for finding in lint(open_skill(make_skill(tmp_path, "a")))}
    assert codes == {"description_placeholder", "script_placeholder"}
    plain = {finding.code for finding in lint(open_skill(make_skill(tmp_path, "b", script="none")))}
    assert plain == {"description_placeholder", "body_placeholder"}


def test_options_are_written_down(tmp_path: Path) -> None:
    root = make_skill(tmp_path, "a", description="Does: all", license_name="MIT", script="bash", tests=False)
    skill = open_skill(root).skill
    assert skill is not None
    assert (skill.description, skill.license, skill.entry) == ("Does: all", "MIT", ("scripts/main.sh",))
    assert skill.files == ("SKILL.md", "scripts/main.sh")
    assert os.access(root / "scripts/main.sh", os.X_OK)


# What YAML would read as something else, and what could end the front matter.
@given(st.text(min_size=1, max_size=200))
def test_any_description_is_read_back_as_it_was_given(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("d")
    try:
        root = make_skill(folder, "a", description=text, license_name=text)
    except BadTemplate:
        assert list(folder.iterdir()) == []
        return
    verdict = validate_skill(root)
    assert verdict.errors == ()
    assert verdict.warnings == ()


@pytest.mark.parametrize(
    "text", ["true", "null", "1.0", "2026-01-01", "~", "- a", "a: b", "--- x", "'", '"', "#a", "@a"]
)
def test_description_that_looks_like_yaml_stays_text(tmp_path: Path, text: str) -> None:
    skill = open_skill(make_skill(tmp_path, "a", description=text)).skill
    assert skill is not None
    assert skill.description == text


@pytest.mark.parametrize("name", ["", "A", "a b", "a--b", "-a", "../a", "a/b", "x" * 65, ".", "a\n", "\uff41"])
def test_name_that_is_none_makes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadTemplate):
        make_skill(tmp_path / "p", name)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("description", ["", "   ", "x" * 1025])
def test_description_that_is_none_makes_nothing(tmp_path: Path, description: str) -> None:
    with pytest.raises(BadTemplate, match="characters"):
        make_skill(tmp_path, "a", description=description)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_somebody_makes_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "a").write_text("") if kind == "file" else (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.setattr("os.path.lexists", lambda path: False)  # it was not there when we looked
    with pytest.raises(BadTemplate, match="meanwhile"):
        make_skill(tmp_path, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadTemplate, match="exists"):
        make_skill(tmp_path, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
