"""The page for readers who come from Elixir: its example works, and what it names is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from skill_actors.runtime import ChildSpec, StartFailed, open_system
from skill_actors.skills.discovery import Source
from skill_actors.skills.registry import PublishedSkills, Registry, Reload
from skill_actors.telemetry import Bus
from support import run

PAGE = Path(__file__).parents[2] / "docs/design/elixir-trees.md"
SKILL = "---\nname: {name}\ndescription: Says hello.\n---\nSay it.\n"


def add_skill(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "SKILL.md").write_text(SKILL.format(name=name))


def test_the_example_of_a_supervised_registry_runs(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    add_skill(tmp_path / "skills", "hello")
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "['hello']\nunchanged\n", "")


def test_a_registry_that_crashes_comes_back_under_its_name_and_nobody_misses_a_skill(tmp_path: Path) -> None:
    """As a GenServer would under a Supervisor; but what it published is read meanwhile, too."""
    add_skill(tmp_path, "one")
    published = PublishedSkills()
    spec = ChildSpec(
        id="my-skills",
        name="my-skills",
        factory=lambda: Registry(published, [Source(path=tmp_path)], Bus()),
    )

    async def boom() -> None:
        raise OSError("boom")

    async def main() -> None:
        async with open_system([spec]) as system:
            named, first = system.directory.named("my-skills"), system.directory.ref("my-skills")
            add_skill(tmp_path, "two")
            actor = first._actor_weakref()
            assert actor is not None
            actor.spawn(boom)
            del actor
            first.tell("wake")
            await first.wait_stopped()
            assert "one" in published.snapshot.skills
            await named.call(Reload(), wait_s=5)
            assert set(published.snapshot.skills) == {"one", "two"}
            assert system.directory.ref("my-skills") is not first
            assert system.tree().children is not None
            assert system.tree().children[0].restarts == 1  # type: ignore[index]  # asserted the line before

    run(main)


def test_a_registry_that_cannot_start_fails_the_start_of_the_tree() -> None:
    def make() -> Registry:
        raise OSError("no skills today")

    async def main() -> None:
        with pytest.raises(StartFailed, match="no skills today"):
            async with open_system([ChildSpec(id="skills", factory=make)]):
                raise AssertionError("the block was entered")

    run(main)


def test_classes_and_paths_that_the_page_names_are_those_of_the_daemon() -> None:
    """The picture that the daemon is held to is in tests/e2e/test_tree.py."""
    picture = (Path(__file__).parents[1] / "e2e/test_tree.py").read_text()
    page = PAGE.read_text()
    for name in ("JournalKeeper", "Conversations", "Session", "Workers", "Registry", "Watcher"):
        assert re.search(rf"^\s*\S+\s+{name} ", picture, flags=re.M), name
        assert f"`{name}`" in page, name
