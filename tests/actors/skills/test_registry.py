"""The Registry actor."""

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.runtime import Ask, ChildSpec, Reject, open_system
from skill_actors.skills import (
    FoldersChanged,
    Library,
    PublishedSkills,
    Registry,
    Reload,
    SkillCopies,
    Source,
    UnknownSkill,
)
from skill_actors.telemetry import Bus
from support import run

Make = Callable[..., Path]


class Setup:
    """A registry of one source, and what it told the bus."""

    def __init__(self, source: Path, copies: SkillCopies | None = None) -> None:
        self.published = PublishedSkills()
        self.bus = Bus()
        self.events: list[tuple[Mapping[str, float], Mapping[str, object]]] = []
        self.bus.attach("test", ["skill.reloaded"], lambda _name, numbers, facts: self.events.append((numbers, facts)))
        sources = [Source(path=source)]
        self.spec = ChildSpec(
            id="registry", name="registry", factory=lambda: Registry(self.published, sources, self.bus, copies=copies)
        )

    @property
    def outcomes(self) -> list[object]:
        return [facts["outcome"] for _, facts in self.events]


def test_skills_are_there_when_the_registry_has_started(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "tides")
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]):
            assert list(setup.published.snapshot.skills) == ["tides"]
            assert setup.published.snapshot.generation == 1

    run(main)
    numbers, facts = setup.events[0]
    assert numbers["skills"] == 1
    assert numbers["duration_s"] > 0
    assert facts == {"outcome": "ok", "generation": 1, "added": ("tides",), "changed": (), "removed": ()}


def test_reload_answers_with_what_it_did(tmp_path: Path, make_skill: Make) -> None:
    for name in ("a", "b", "c"):
        make_skill(tmp_path / name)
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            registry = system.directory.ref("registry")
            make_skill(tmp_path / "a", description="Another")
            shutil.rmtree(tmp_path / "b")
            make_skill(tmp_path / "d")
            (tmp_path / "c/SKILL.md").write_text("broken")
            summary = await registry.call(Reload())
            assert (summary.added, summary.changed, summary.removed) == (("d",), ("a",), ("b",))
            assert (summary.skills, summary.failed, summary.outcome, summary.generation) == (3, 1, "failed", 2)
            assert (await registry.call(Reload())).outcome == "unchanged"

    run(main)
    assert setup.outcomes == ["ok", "failed", "unchanged"]


def test_reload_of_one_skill_leaves_the_others_alone(tmp_path: Path, make_skill: Make) -> None:
    for name in ("a", "b"):
        make_skill(tmp_path / name)
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            for name in ("a", "b"):
                make_skill(tmp_path / name, description="Another")
            assert (await system.directory.ref("registry").call(Reload("a"))).changed == ("a",)

    run(main)


def test_reload_of_an_unknown_skill_is_refused_and_the_registry_lives(tmp_path: Path) -> None:
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            registry = system.directory.ref("registry")
            with pytest.raises(UnknownSkill, match="nothing"):
                await registry.call(Reload("nothing"))
            with pytest.raises(Reject):
                await registry.call(Ask())
            assert (await registry.call(Reload())).skills == 0

    run(main)


def test_changed_path_that_cannot_be_looked_at_is_as_one_that_is_gone(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "tides")
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            registry = system.directory.ref("registry")
            make_skill(tmp_path / "moon")
            too_long = tmp_path / "tides" / ("x" * 300)
            assert (await registry.call(FoldersChanged(frozenset({too_long})))).added == ("moon",)

    run(main)


def test_skill_that_never_loaded_can_be_reloaded_by_its_folder(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "tides", description="")
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            make_skill(tmp_path / "tides")
            assert (await system.directory.ref("registry").call(Reload("tides"))).added == ("tides",)

    run(main)


def test_looks_that_find_nothing_new_are_not_told(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "tides")
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            registry = system.directory.ref("registry")
            await registry.call(FoldersChanged())
            make_skill(tmp_path / "tides", description="Another")
            await registry.call(FoldersChanged(frozenset({tmp_path / "tides/SKILL.md"})))

    run(main)
    assert setup.outcomes == ["ok", "ok"]


def test_restarted_registry_goes_on_from_the_last_good_versions(
    tmp_path: Path, make_skill: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_skill(tmp_path / "tides")
    setup = Setup(tmp_path)
    crashes = iter([True])
    load = Library.load

    def crash_once(self: Library, *args: Any) -> Any:
        if args[0].generation and next(crashes, False):
            raise RuntimeError("out of luck")
        return load(self, *args)

    monkeypatch.setattr(Library, "load", crash_once)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            (tmp_path / "tides/SKILL.md").write_text("broken")
            with pytest.raises(RuntimeError, match="luck"):
                await system.directory.ref("registry").call(Reload())
            registry = await system.directory.wait("registry")
            await registry.call(Reload())
            assert setup.published.snapshot.skills["tides"].description == "Does things"
            assert setup.published.snapshot.failures[0].kept == "tides"

    run(main)


def test_reading_never_waits_and_stopping_does_not_wait_for_a_load_that_hangs(
    tmp_path: Path, make_skill: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_skill(tmp_path / "tides")
    setup = Setup(tmp_path)
    loading, release = threading.Event(), threading.Event()
    load = Library.load

    def hang(self: Library, *args: Any) -> Any:
        if args[0].generation:
            loading.set()
            release.wait(60)
        return load(self, *args)

    monkeypatch.setattr(Library, "load", hang)

    async def main() -> None:
        async with open_system([setup.spec]) as system, trio.open_nursery() as nursery:
            registry = system.directory.ref("registry")
            nursery.start_soon(registry.call, Reload())
            await trio.to_thread.run_sync(loading.wait)
            assert list(setup.published.snapshot.skills) == ["tides"]
            nursery.cancel_scope.cancel()

    try:
        run(main)
    finally:
        release.set()


def test_pinned_snapshot_stays_as_it_was(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "tides")
    setup = Setup(tmp_path)

    async def main() -> None:
        async with open_system([setup.spec]) as system:
            pinned = setup.published.snapshot
            make_skill(tmp_path / "tides", description="Another")
            await system.directory.ref("registry").call(Reload())
            assert pinned.skills["tides"].description == "Does things"
            assert setup.published.snapshot.skills["tides"].description == "Another"

    run(main)
