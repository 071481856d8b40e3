"""Files that somebody is writing are not taken, whatever they hold."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from skill_actors.runtime import ChildSpec, open_system
from skill_actors.skills import PublishedSkills, Registry, Reload, Skill, Source, load_skill
from skill_actors.skills.inventory import is_being_written
from skill_actors.telemetry import Bus
from support import run

Make = Callable[..., Path]


def grants_leases(folder: Path) -> bool:
    """Whether the file system of this folder tells of writers."""
    with (folder / "probe").open("w") as file:
        descriptor = os.open(file.name, os.O_RDONLY)
        try:
            return is_being_written(descriptor)
        finally:
            os.close(descriptor)


@pytest.fixture(autouse=True)
def _leases(tmp_path: Path) -> None:
    if not grants_leases(tmp_path):
        pytest.skip("the file system grants no leases")


def test_a_file_nobody_writes_is_told_from_one_that_somebody_does(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    descriptor = os.open(file, os.O_RDONLY)
    try:
        assert not is_being_written(descriptor)
        with file.open("a"):
            assert is_being_written(descriptor)
        assert not is_being_written(descriptor)
        with file.open():
            assert not is_being_written(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("path", ["SKILL.md", "scripts/run.py"])
def test_half_a_file_is_not_taken_though_it_can_be_read(tmp_path: Path, make_skill: Make, path: str) -> None:
    folder = make_skill(tmp_path / "tides")
    (folder / "scripts").mkdir()
    text = (folder / "SKILL.md").read_text()
    with (folder / path).open("w") as file:
        file.write(text)
        file.flush()
        failure = load_skill(folder)
        assert not isinstance(failure, Skill)
        assert [found.code for found in failure.diagnostics] == ["being_written"]
    assert isinstance(load_skill(folder), Skill)


def test_a_file_that_is_open_for_writing_and_long_unchanged_is_taken(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    os.utime(folder / "SKILL.md", (1, 1))
    with (folder / "SKILL.md").open("a"):
        assert isinstance(load_skill(folder), Skill)


def test_the_registry_keeps_what_it_has_and_looks_again_without_being_asked(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    published = PublishedSkills()
    spec = ChildSpec(id="r", name="r", factory=lambda: Registry(published, [Source(path=tmp_path)], Bus()))

    async def main() -> None:
        async with open_system([spec]) as system:
            with (folder / "SKILL.md").open("w") as file:
                file.write("---\nname: tides\ndescription: Half\n---\n")
                file.flush()
                await system.directory.ref("r").call(Reload())
                assert published.snapshot.skills["tides"].description == "Does things"
                assert published.snapshot.failures[0].kept == "tides"
                generation = published.snapshot.generation
            assert list((await published.changes.next(generation)).changed) == ["tides"]
            assert published.snapshot.skills["tides"].description == "Half"
            assert published.snapshot.failures == ()

    run(main)
