"""From folders to snapshots."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from skill_actors.skills import Library, SkillCopies, SkillSnapshot, Source
from skill_actors.skills.choice import SkillRules
from skill_actors.skills.discovery import find_skill_folders

EMPTY = SkillSnapshot()

Make = Callable[..., Path]


def library(*paths: Path) -> Library:
    return Library([Source(path=path) for path in paths])


def failures(snapshot: SkillSnapshot) -> list[tuple[str, str, str | None]]:
    return [(failure.path.name, failure.diagnostics[0].code, failure.kept) for failure in snapshot.failures]


def names(paths: Sequence[Path], below: Path) -> list[str]:
    return [str(path.relative_to(below)) for path in paths]


def test_skills_are_found_at_any_depth_up_to_six_also_inside_skills(tmp_path: Path, make_skill: Make) -> None:
    for path in ("a", "a/nested", "b/c/d/e/f/g", "b/c/d/e/f/g/too-deep"):
        make_skill(tmp_path / path)
    assert names(find_skill_folders(tmp_path).roots, tmp_path) == ["a", "a/nested", "b/c/d/e/f/g"]


def test_source_may_be_a_skill_itself(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path)
    assert find_skill_folders(tmp_path).roots == [tmp_path]


def test_hidden_and_dependency_folders_are_passed_over(tmp_path: Path, make_skill: Make) -> None:
    for path in (".git/x", ".hidden", "node_modules/y", "__pycache__/z"):
        make_skill(tmp_path / path)
    assert find_skill_folders(tmp_path).roots == []


def test_links_to_folders_are_followed_and_each_folder_counts_once(tmp_path: Path, make_skill: Make) -> None:
    outside = make_skill(tmp_path / "outside/stars")
    source = tmp_path / "source"
    make_skill(source / ".store/tides")
    (source / "tides").symlink_to(".store/tides")
    (source / "again").symlink_to(".store/tides")
    (source / "loop").symlink_to(".")
    (source / "up").symlink_to(tmp_path)
    (source / "out").symlink_to(outside)
    (source / "out-again").symlink_to(outside)
    found = find_skill_folders(source)
    assert names(found.roots, tmp_path) == ["outside/stars", "source/.store/tides"]
    assert found.linked == {source / "out": outside, source / "out-again": outside}
    assert found.problems == {}


def test_what_a_skill_links_to_outside_is_not_looked_into(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "outside/stars")
    source = make_skill(tmp_path / "source/tides").parent
    (source / "tides/data").symlink_to(tmp_path / "outside")
    found = find_skill_folders(source)
    assert (names(found.roots, source), found.linked) == (["tides"], {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_link_out_of_the_source_by_somebody_else_is_not_followed(tmp_path: Path, make_skill: Make) -> None:
    outside = make_skill(tmp_path / "outside/secret")
    source = make_skill(tmp_path / "source/tides").parent
    link = source / "out"
    link.symlink_to(outside)
    os.lchown(link, 12345, 12345)
    found = find_skill_folders(source)
    assert names(found.roots, source) == ["tides"]
    assert [(path.name, problem.code) for path, problem in found.problems.items()] == [("out", "link_leaves_root")]
    os.chown(outside, 12345, 12345)
    assert outside in find_skill_folders(source).roots


def test_skill_that_is_a_link_is_read_again_when_its_target_changes(tmp_path: Path, make_skill: Make) -> None:
    outside = make_skill(tmp_path / "outside/stars")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/stars").symlink_to(outside)
    loader = library(tmp_path / "source")
    first = loader.load(EMPTY)
    assert (list(first.skills), loader.linked) == (["stars"], {tmp_path / "source/stars": outside})
    make_skill(outside, description="Another")
    assert loader.load(first, [outside / "SKILL.md"]).skills["stars"].description == "Another"
    (tmp_path / "source/stars").unlink()
    assert list(loader.load(first, [tmp_path / "source/stars"]).skills) == []
    assert loader.linked == {}


def test_skills_that_the_rules_do_not_permit_are_left_out_and_reported(tmp_path: Path, make_skill: Make) -> None:
    for name in ("pdf", "pdf-forms", "my-pdf", "tides"):
        make_skill(tmp_path / name)
    rules = SkillRules(allow=("pdf*", "t?des"), deny=("*-forms",))
    snapshot = Library([Source(path=tmp_path)], rules=rules).load(EMPTY)
    assert list(snapshot.skills) == ["pdf", "tides"]
    assert failures(snapshot) == [("my-pdf", "denied", None), ("pdf-forms", "denied", None)]


def test_trusted_source_that_everybody_may_write_to_is_not_trusted_until_that_is_mended(
    tmp_path: Path, make_skill: Make
) -> None:
    make_skill(tmp_path / "source/tides")
    loader = Library([Source(path=tmp_path / "source", trusted=True)])
    first = loader.load(EMPTY)
    assert first.skills["tides"].trusted
    (tmp_path / "source").chmod(0o777)
    second = loader.load(first)
    assert not second.skills["tides"].trusted
    assert failures(second) == [("source", "open_to_all", None)]
    (tmp_path / "source/tides/SKILL.md").write_text("broken")
    assert not loader.load(second).skills["tides"].trusted
    make_skill(tmp_path / "source/tides")
    (tmp_path / "source").chmod(0o755)
    assert loader.load(second).skills["tides"].trusted


def test_optional_source_is_nothing_to_report_and_takes_its_skills_along(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "always/tides")
    loader = Library([Source(path=tmp_path / "maybe", optional=True), Source(path=tmp_path / "always")])
    first = loader.load(EMPTY)
    assert (list(first.skills), first.failures) == (["tides"], ())
    make_skill(tmp_path / "maybe/moon")
    second = loader.load(first)
    assert list(second.skills) == ["moon", "tides"]
    shutil.rmtree(tmp_path / "maybe")
    third = loader.load(second)
    assert (list(third.skills), third.failures) == (["tides"], ())


def test_scan_stops_at_too_many_folders_also_where_they_lie_in_a_skill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_skill: Make
) -> None:
    monkeypatch.setattr("skill_actors.skills.discovery.MAX_FOLDERS", 10)
    for number in range(20):
        (make_skill(tmp_path / "a") / f"data{number}").mkdir()
    make_skill(tmp_path / "z")
    found = find_skill_folders(tmp_path)
    assert names(found.roots, tmp_path) == ["a"]
    assert found.problems[tmp_path].code == "scan_limit"


def test_scan_stops_at_too_many_plain_folders_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_skill: Make
) -> None:
    monkeypatch.setattr("skill_actors.skills.discovery.MAX_PLAIN_FOLDERS", 10)
    make_skill(tmp_path / "a")
    for number in range(20):
        (tmp_path / f"b{number:02}").mkdir()
    make_skill(tmp_path / "z")
    snapshot = library(tmp_path).load(EMPTY)
    assert list(snapshot.skills) == ["a"]
    assert failures(snapshot) == [(tmp_path.name, "scan_limit", None)]


def test_scan_stops_at_too_many_skills_also_where_they_are_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_skill: Make
) -> None:
    monkeypatch.setattr("skill_actors.skills.discovery.MAX_SKILLS", 5)
    make_skill(tmp_path / "a")
    for number in range(5):
        (tmp_path / f"b{number}.skill").write_bytes(b"")
    found = find_skill_folders(tmp_path)
    assert names(found.roots, tmp_path) == ["a"]
    assert names(found.packages, tmp_path) == ["b0.skill", "b1.skill", "b2.skill", "b3.skill"]
    assert found.problems[tmp_path].code == "scan_limit"


def test_source_that_became_a_link_out_of_its_bounds_is_not_followed(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "outside/tides")
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/skills").symlink_to(tmp_path / "outside")
    snapshot = Library([Source(path=tmp_path / "repo/skills", bounds=tmp_path / "repo")]).load(EMPTY)
    assert (dict(snapshot.skills), failures(snapshot)) == ({}, [("skills", "link_leaves_root", None)])


def test_one_bad_skill_never_hurts_another(tmp_path: Path, make_skill: Make, add_file: Make) -> None:
    make_skill(tmp_path / "good")
    add_file(tmp_path, "bad/SKILL.md", "---\nname: [")
    make_skill(tmp_path / "worse", name="../x")
    snapshot = library(tmp_path).load(EMPTY)
    assert list(snapshot.skills) == ["good"]
    assert failures(snapshot) == [("bad", "front_matter_open", None), ("worse", "name_unsafe", None)]


def test_first_source_wins_a_name_and_the_other_is_reported(tmp_path: Path, make_skill: Make) -> None:
    first = make_skill(tmp_path / "one/tides", description="first")
    make_skill(tmp_path / "two/tides", description="second")
    make_skill(tmp_path / "one/z-copy", name="tides")
    snapshot = library(tmp_path / "one", tmp_path / "two").load(EMPTY)
    assert snapshot.skills["tides"].root == first
    assert failures(snapshot) == [("z-copy", "duplicate_name", None), ("tides", "duplicate_name", None)]
    assert str(first) in snapshot.failures[0].diagnostics[0].message


def test_look_alike_spellings_collide(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "fish")
    make_skill(tmp_path / "z", name="\ufb01sh")
    assert failures(library(tmp_path).load(EMPTY)) == [("z", "duplicate_name", None)]


def test_overlapping_sources_count_a_folder_once(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "a/tides")
    snapshot = Library([Source(path=tmp_path / "a", trusted=True), Source(path=tmp_path)]).load(EMPTY)
    assert snapshot.skills["tides"].trusted
    assert failures(snapshot) == []


def test_nothing_new_gives_the_same_snapshot(tmp_path: Path, make_skill: Make, add_file: Make) -> None:
    make_skill(tmp_path / "tides")
    add_file(tmp_path, "bad/SKILL.md", "")
    loader = library(tmp_path)
    first = loader.load(EMPTY)
    assert first.generation == 1
    assert loader.load(first) is first
    make_skill(tmp_path / "tides", description="Another")
    assert loader.load(first).generation == 2


def test_snapshot_is_sorted_and_cannot_be_written_to(tmp_path: Path, make_skill: Make) -> None:
    for name in ("b", "a"):
        make_skill(tmp_path / name)
    snapshot = library(tmp_path).load(EMPTY)
    assert list(snapshot.skills) == ["a", "b"]
    with pytest.raises(TypeError):
        snapshot.skills["c"] = snapshot.skills["a"]  # type: ignore[index]


def test_broken_edit_keeps_the_last_good_version_until_it_is_mended(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    loader = library(tmp_path)
    good = loader.load(EMPTY)
    (folder / "SKILL.md").write_text("---\nname: tides\ndescrip")
    broken = loader.load(good, [folder / "SKILL.md"])
    assert broken.skills == good.skills
    assert failures(broken) == [("tides", "front_matter_open", "tides")]
    make_skill(folder, description="Mended")
    mended = loader.load(broken, [])  # what failed is looked at again, whatever changed
    assert mended.skills["tides"].description == "Mended"
    assert failures(mended) == []


def test_removed_folder_is_gone_and_a_new_one_is_there(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "old")
    loader = library(tmp_path)
    first = loader.load(EMPTY)
    shutil.rmtree(tmp_path / "old")
    make_skill(tmp_path / "new")
    assert list(loader.load(first, [tmp_path / "new"]).skills) == ["new"]


def test_vanished_source_keeps_its_skills_until_it_is_back(tmp_path: Path, make_skill: Make) -> None:
    source = tmp_path / "source"
    make_skill(source / "tides")
    make_skill(tmp_path / "other/moon")
    loader = library(source, tmp_path / "other")
    first = loader.load(EMPTY)
    source.rename(tmp_path / "away")
    second = loader.load(first)
    assert second.skills == first.skills
    assert failures(second) == [("source", "source_missing", None)]
    assert loader.load(second) is second
    make_skill(source / "stars")
    third = loader.load(second)
    assert list(third.skills) == ["moon", "stars"]
    assert failures(third) == []


def test_source_that_was_never_there_is_only_a_warning(tmp_path: Path) -> None:
    snapshot = library(tmp_path / "none").load(EMPTY)
    assert snapshot.failures[0].diagnostics[0].severity == "warning"


def test_only_what_changed_is_looked_at(tmp_path: Path, make_skill: Make) -> None:
    for name in ("a", "b"):
        make_skill(tmp_path / name)
    loader = library(tmp_path)
    first = loader.load(EMPTY)
    for name in ("a", "b"):
        make_skill(tmp_path / name, description="Another")
    second = loader.load(first, [tmp_path / "a/SKILL.md"])
    assert [skill.description for skill in second.skills.values()] == ["Another", "Does things"]
    third = loader.load(second, [tmp_path])
    assert third.skills["b"].description == "Another"


def test_new_library_goes_on_from_the_last_snapshot(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "source/tides")
    good = library(tmp_path / "source").load(EMPTY)
    (folder / "SKILL.md").write_text("")
    broken = Library([Source(path=tmp_path / "source")], last=good).load(good)
    assert broken.skills == good.skills
    shutil.rmtree(tmp_path / "source")
    gone = Library([Source(path=tmp_path / "source")], last=good).load(good)
    assert gone.skills == good.skills


def test_versions_are_copied_as_they_are_loaded_so_that_a_kept_one_stays_usable(
    tmp_path: Path, make_skill: Make
) -> None:
    folder = make_skill(tmp_path / "source/tides")
    copies = SkillCopies(tmp_path / "copies")
    loader = Library([Source(path=tmp_path / "source")], copies=copies)
    good = loader.load(EMPTY)
    (folder / "SKILL.md").write_text("broken")
    kept = loader.load(good).skills["tides"]
    assert (copies.materialise(kept) / "SKILL.md").read_text().startswith("---\nname: tides")


def test_copies_that_cannot_be_written_do_not_stop_the_load(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make_skill: Make, add_file: Make
) -> None:
    make_skill(tmp_path / "source/tides")
    add_file(tmp_path, "copies", "a file in the way")
    loader = Library([Source(path=tmp_path / "source")], copies=SkillCopies(tmp_path / "copies"))
    assert list(loader.load(EMPTY).skills) == ["tides"]
    assert "could not be copied" in caplog.text


def test_source_that_is_a_link_to_itself_is_missing_and_hurts_no_other(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "good/tides")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    sources = [Source(path=tmp_path / "loop"), Source(path=tmp_path / "loop/below"), Source(path=tmp_path / "good")]
    snapshot = Library(sources).load(SkillSnapshot())
    assert list(snapshot.skills) == ["tides"]
    assert [failure.diagnostics[0].code for failure in snapshot.failures] == ["source_missing", "source_missing"]
