"""Skills that come by message: registered with a registry, or pushed to it as packages."""

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from skill_actors.runtime import ChildSpec, Reject, open_system
from skill_actors.skills import (
    PublishedSkills,
    Registry,
    Reload,
    Skill,
    SkillSnapshot,
    Source,
    UnknownSkill,
    load_skill,
)
from skill_actors.skills.changes import SkillChanges, describe_change
from skill_actors.skills.packages import PackageCache
from skill_actors.skills.pushed import PushedPackages
from skill_actors.skills.registry import NotPushed, Push, PushFailed, PushRejected, Register, RemovePushed, Unregister
from skill_actors.telemetry import Bus
from support import run

Make = Callable[..., Path]


def package(name: str = "tides", *, description: str = "Pushed", entries: Sequence[tuple[str, str]] = ()) -> bytes:
    """The bytes of a `.skill` file with its SKILL.md beside `entries`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("SKILL.md", f"---\nname: {name}\ndescription: {description}\n---\nBody\n")
        for path, content in entries:
            file.writestr(path, content)
    return out.getvalue()


class Setup:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.published = PublishedSkills()
        self.cache = PackageCache(folder / "packages")
        self.store = PushedPackages(folder / "pushed", self.cache)

    @property
    def spec(self) -> ChildSpec:
        sources = [Source(path=self.folder / "source", optional=True)]
        return ChildSpec(
            id="registry",
            name="registry",
            factory=lambda: Registry(self.published, sources, Bus(), packages=self.cache, pushed=self.store),
        )

    def skills(self) -> dict[str, str]:
        return {name: skill.description for name, skill in self.published.snapshot.skills.items()}


def loaded(folder: Path) -> Skill:
    skill = load_skill(folder)
    assert isinstance(skill, Skill)
    return skill


def test_a_pushed_skill_wins_survives_reloads_and_restarts_and_can_be_taken_back(
    tmp_path: Path, make_skill: Make
) -> None:
    make_skill(tmp_path / "source/tides", description="On disk")
    setup = Setup(tmp_path)

    async def push() -> None:
        async with open_system([setup.spec]) as system:
            registry = system.directory.ref("registry")
            assert setup.skills() == {"tides": "On disk"}
            first = await registry.call(Push(package(description="Pushed")))
            assert (first.name, first.replaced, first.summary.changed) == ("tides", False, ("tides",))
            assert first.digest == setup.published.snapshot.skills["tides"].digest
            again = await registry.call(Push(package(description="Pushed again")))
            assert (again.replaced, setup.skills()) == (True, {"tides": "Pushed again"})
            await registry.call(Reload())
            await registry.call(Reload("tides"))
            assert setup.skills() == {"tides": "Pushed again"}

    async def take_back() -> None:
        async with open_system([setup.spec]) as system:
            registry = system.directory.ref("registry")
            assert setup.skills() == {"tides": "Pushed again"}
            assert [failure.path.name for failure in setup.published.snapshot.failures] == ["tides"]
            assert (await registry.call(RemovePushed("tides"))).changed == ("tides",)
            assert setup.skills() == {"tides": "On disk"}
            with pytest.raises(NotPushed, match="tides"):
                await registry.call(RemovePushed("tides"))

    run(push)
    setup = Setup(tmp_path)  # another process
    run(take_back)
    assert list((tmp_path / "pushed").iterdir()) == []


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"", "package"),
        (b"no zip", "package"),
        (package(name="../../etc"), "name_unsafe"),
        (package(description=""), "description_missing"),
        (package(entries=[("../outside", "x")]), "path"),
        (package(entries=[("/etc/passwd", "x")]), "package_unsafe"),
    ],
)
def test_a_package_that_holds_no_good_skill_changes_nothing(tmp_path: Path, bad: bytes, why: str) -> None:
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            registry = system.directory.ref("registry")
            await registry.call(Push(package()))
            before = setup.published.snapshot
            with pytest.raises(PushRejected) as caught:
                await registry.call(Push(bad))
            assert why in " ".join(f"{found.code} {found.message}" for found in caught.value.cause.diagnostics)
            await registry.call(Reload())
            assert setup.published.snapshot is before
            assert [path.name for path in (tmp_path / "pushed").iterdir()] == ["tides.skill"]

    run(main)


def test_a_name_that_is_not_plain_never_becomes_a_path(tmp_path: Path) -> None:
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            registry = system.directory.ref("registry")
            for name in ("Tides of March", "..", "t" * 300):
                if name == "..":
                    with pytest.raises(PushRejected):
                        await registry.call(Push(package(name=name)))
                    continue
                await registry.call(Push(package(name=name)))
                await registry.call(RemovePushed(name))
            assert list((tmp_path / "pushed").iterdir()) == []
            await registry.call(Push(package(name="Tides of March")))
            assert list(setup.skills()) == ["Tides of March"]

    run(main)


def test_a_package_that_cannot_be_stored_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "pushed").write_text("a file in the way")
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            with pytest.raises(PushFailed, match="cannot be stored"):
                await system.directory.ref("registry").call(Push(package()))
            assert setup.skills() == {}

    run(main)


def test_a_package_that_cannot_be_removed_changes_nothing_and_the_registry_lives(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    setup.store.path_of("tides").mkdir(parents=True)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            registry = system.directory.ref("registry")
            with pytest.raises(PushFailed, match="cannot be removed"):
                await registry.call(RemovePushed("tides"))
            assert (await registry.call(Reload())).skills == 0

    run(main)


def test_a_registry_without_a_folder_takes_no_packages() -> None:
    async def main() -> None:
        spec = ChildSpec(id="r", name="r", factory=lambda: Registry(PublishedSkills(), [], Bus()))
        async with open_system([spec]) as system:
            with pytest.raises(Reject, match="takes no packages"):
                await system.directory.ref("r").call(Push(package()))

    run(main)


def test_registered_skills_win_survive_reloads_and_crashes_and_replace_each_other(
    tmp_path: Path, make_skill: Make
) -> None:
    make_skill(tmp_path / "source/tides", description="On disk")
    first = loaded(make_skill(tmp_path / "a/tides", description="Registered"))
    second = loaded(make_skill(tmp_path / "b/tides", description="Registered again"))
    moon = loaded(make_skill(tmp_path / "a/moon", description="Moon"))
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            registry = system.directory.ref("registry")
            summary = await registry.call(Register((first, moon)))
            assert (summary.added, summary.changed) == (("moon",), ("tides",))
            await registry.call(Register((second,)))
            await registry.call(Reload())
            assert setup.skills() == {"moon": "Moon", "tides": "Registered again"}
        async with open_system([setup.spec]) as system:  # a registry made anew beside the same readers
            assert setup.skills() == {"moon": "Moon", "tides": "Registered again"}
            registry = system.directory.ref("registry")
            assert (await registry.call(Unregister("tides"))).changed == ("tides",)
            assert setup.skills() == {"moon": "Moon", "tides": "On disk"}
            with pytest.raises(UnknownSkill):
                await registry.call(Unregister("tides"))

    run(main)


def test_changes_are_told_in_order_to_whoever_follows(tmp_path: Path, make_skill: Make) -> None:
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            registry = system.directory.ref("registry")
            digest = (await registry.call(Push(package()))).digest
            await registry.call(RemovePushed("tides"))
            changes = [change async for change in setup.published.changes.follow(0, live=False)]
            told = [(change.generation, dict(change.added), list(change.removed)) for change in changes]
            assert told == [(1, {}, []), (2, {"tides": digest}, []), (3, {}, ["tides"])]
            assert not any(change.missed for change in changes)
            following = setup.published.changes.follow(3)
            make_skill(tmp_path / "source/bad", description="")
            await registry.call(Reload())
            change = await anext(following)
            assert (change.generation, list(change.failed)) == (4, [str(tmp_path / "source/bad")])
            (late,) = [change async for change in setup.published.changes.follow(3, live=False)]
            assert not late.missed
            newborn = [change async for change in setup.published.changes.follow(99, live=False)]
            assert [change.missed for change in newborn] == [True, False, False, False]
            await following.aclose()

    run(main)


def test_who_comes_too_late_for_what_is_remembered_is_told() -> None:

    changes = SkillChanges()
    for generation in range(1, 301):
        changes.add(describe_change(SkillSnapshot(generation=generation - 1), SkillSnapshot(generation=generation)))

    async def main() -> None:
        found = [change async for change in changes.follow(10, live=False)]
        assert [found[0].generation, found[-1].generation] == [45, 300]
        assert [change.missed for change in found[:2]] == [True, False]

    run(main)
