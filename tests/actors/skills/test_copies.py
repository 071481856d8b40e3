"""Read-only copies of skills, by digest."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from skill_actors.skills import CopyError, Skill, SkillCopies, load_skill
from support import run

Make = Callable[..., Path]


def loaded(folder: Path) -> Skill:
    skill = load_skill(folder)
    assert isinstance(skill, Skill)
    return skill


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_copy_holds_the_same_files_and_is_read_only(tmp_path: Path, make_skill: Make, add_file: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    add_file(folder, "scripts/run.sh", "echo", mode=0o755)
    add_file(folder, "references/deep/a.md", "text", mode=0o600)
    skill = loaded(folder)
    copy = SkillCopies(tmp_path / "copies").materialise(skill)
    assert copy == tmp_path / "copies" / skill.digest
    assert content(copy) == content(folder)
    modes = {str(path.relative_to(copy)): path.stat().st_mode & 0o777 for path in (copy, *copy.rglob("*"))}
    assert modes.pop("scripts/run.sh") == 0o555
    assert modes.pop("SKILL.md") == modes.pop("references/deep/a.md") == 0o444
    assert set(modes.values()) == {0o555}
    assert loaded(copy).digest == skill.digest


def test_copy_is_made_once_and_survives_the_live_folder(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    skill = loaded(folder)
    copies = SkillCopies(tmp_path / "copies")
    copy = copies.materialise(skill)
    made = copy.stat().st_ino
    (folder / "SKILL.md").unlink()
    assert copies.materialise(skill).stat().st_ino == made
    assert SkillCopies(tmp_path / "copies").materialise(skill).stat().st_ino == made


def test_copy_resolves_links_inside_the_skill_and_leaves_out_others(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    (folder / "alias.md").symlink_to("SKILL.md")
    (folder / "leak").symlink_to("/etc/passwd")
    copy = SkillCopies(tmp_path / "copies").materialise(loaded(folder))
    assert sorted(content(copy)) == ["SKILL.md", "alias.md"]
    assert not (copy / "alias.md").is_symlink()


def test_other_version_on_disk_is_an_error_and_leaves_nothing(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    skill = loaded(folder)
    copies = SkillCopies(tmp_path / "copies")
    (folder / "SKILL.md").write_text("changed")
    with pytest.raises(CopyError, match="tides"):
        copies.materialise(skill)
    with pytest.raises(CopyError, match="gone"):
        copies.materialise(replace(skill, root=tmp_path / "nowhere"))
    assert os.listdir(tmp_path / "copies") == []


def test_damaged_copy_of_an_earlier_process_is_made_anew(tmp_path: Path, make_skill: Make) -> None:
    skill = loaded(make_skill(tmp_path / "tides"))
    copy = SkillCopies(tmp_path / "copies").materialise(skill)
    (copy / "SKILL.md").chmod(0o644)
    (copy / "SKILL.md").write_text("")  # as after a power cut
    assert content(SkillCopies(tmp_path / "copies").materialise(skill)) == content(skill.root)


def test_link_in_the_place_of_a_copy_is_replaced(tmp_path: Path, make_skill: Make) -> None:
    skill = loaded(make_skill(tmp_path / "tides"))
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / skill.digest).symlink_to(skill.root)
    copy = SkillCopies(tmp_path / "copies").materialise(skill)
    assert not copy.is_symlink()
    assert skill.root.exists()


def test_threads_that_copy_the_same_skill_at_once_agree(tmp_path: Path, make_skill: Make, add_file: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    for number in range(20):
        add_file(folder, f"assets/{number}")
    skill = loaded(folder)
    copies = SkillCopies(tmp_path / "copies")
    failures: list[BaseException] = []

    def copy() -> None:
        try:
            copies.materialise(skill)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=copy) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path / "copies") == [skill.digest]


def test_ensure_works_in_a_worker_thread(tmp_path: Path, make_skill: Make) -> None:
    skill = loaded(make_skill(tmp_path / "tides"))
    copies = SkillCopies(tmp_path / "copies")

    async def main() -> None:
        assert await copies.ensure(skill) == await copies.ensure(skill) == copies.path_of(skill.digest)

    run(main)


def test_collect_removes_what_nobody_refers_to(tmp_path: Path, make_skill: Make) -> None:
    first, second = (loaded(make_skill(tmp_path / name)) for name in ("a", "b"))
    copies = SkillCopies(tmp_path / "copies")
    copies.materialise(first)
    kept = copies.materialise(second)
    (tmp_path / "copies/.building-abandoned/x").mkdir(parents=True)
    assert copies.collect({second.digest}) == 2
    assert os.listdir(tmp_path / "copies") == [second.digest]
    assert kept.is_dir()
    assert copies.materialise(first).is_dir()
    assert SkillCopies(tmp_path / "none").collect(()) == 0
