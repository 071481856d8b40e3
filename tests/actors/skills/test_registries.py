"""Registries by name, in trees of one's own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from native_kit import write_native
from skill_actors.runtime import ChildSpec, StartFailed, Supervisor, open_system
from skill_actors.skills import PublishedSkills, Reload, registry_spec
from skill_actors.skills.native import NativeLoader
from support import run

Make = Callable[..., Path]
EXAMPLE = Path(__file__).parents[3] / "examples/skill_registries.py"


def test_several_live_under_one_supervisor_and_each_reloads_its_own(tmp_path: Path, make_skill: Make) -> None:
    for name in ("one", "two"):
        make_skill(tmp_path / name / "tides", description=name)
    published = {name: PublishedSkills() for name in ("one", "two")}

    def descriptions() -> list[str]:
        return [found.snapshot.skills["tides"].description for found in published.values()]

    async def main() -> None:
        def branch() -> Supervisor:
            return Supervisor(
                [registry_spec(name, [tmp_path / name], found, watch=False) for name, found in published.items()]
            )

        async with open_system([ChildSpec(id="skills", factory=branch)]) as system:
            assert descriptions() == ["one", "two"]
            for name in ("one", "two"):
                make_skill(tmp_path / name / "tides", description=f"{name} again")
            await system.directory.named("two").call(Reload())
            assert descriptions() == ["one", "two again"]
            await system.directory.named("one").call(Reload())
            assert descriptions() == ["one again", "two again"]

    run(main)


def test_edits_are_followed_unless_that_is_not_wanted(tmp_path: Path, make_skill: Make) -> None:
    sources = tmp_path / "sources"
    make_skill(sources / "tides")
    watched, unwatched = PublishedSkills(), PublishedSkills()

    async def main() -> None:
        tree = [
            registry_spec("watched", [sources], watched),
            registry_spec("unwatched", [sources], unwatched, watch=False),
        ]
        async with open_system(tree):
            made = make_skill(tmp_path / "made", name="tides", description="Another")
            (made / "SKILL.md").rename(sources / "tides/SKILL.md")  # whole at once: the first look may go on just now
            assert list((await watched.changes.next(1)).changed) == ["tides"]
            assert unwatched.snapshot.generation == 1

    run(main)


def test_the_interval_alone_finds_edits_too(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "tides")
    published = PublishedSkills()

    async def main() -> None:
        async with open_system([registry_spec("r", [tmp_path], published, watch=False, reload_s=0.05)]):
            for number in range(3):
                make_skill(tmp_path / "tides", description=f"Another {number}")
                assert list((await published.changes.next(number + 1)).changed) == ["tides"]

    run(main)


def test_native_skills_are_judged_by_the_loader_that_is_given(tmp_path: Path) -> None:
    write_native(tmp_path, "one", "")
    published = PublishedSkills()

    async def main() -> None:
        async with open_system([registry_spec("r", [tmp_path], published, natives=NativeLoader.of_nobody())]):
            assert published.snapshot.failures[0].diagnostics[0].code == "native_not_trusted"

    run(main)


def test_an_interval_of_nothing_is_refused(tmp_path: Path) -> None:
    spec = registry_spec("r", [tmp_path], PublishedSkills(), reload_s=0)

    async def main() -> None:
        async with open_system([spec]):
            raise AssertionError("it started")

    with pytest.raises(StartFailed, match="reload_s must be more than 0"):
        run(main)


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the examples are in the repository; this is a copy of the tests")
def test_the_example_runs() -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "team, generation 2: stars came",
        "company: tides changed",
        "company has mine, tides; the pinned snapshot has moon",
        "2",
    ]
