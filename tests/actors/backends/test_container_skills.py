"""Which skills are in a container: with the code of both ends in folders of the host, and in a real one."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from docker_bench import boxed
from skill_actors.backends import bundles
from skill_actors.backends.container_skills import ContainerSkills
from skill_actors.backends.paths import PathRefused
from support import run


class Inside:
    """What the runner does with skills, in a folder of the host with room for so many entries of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.room = 100

    async def operate(self, name: str, arguments: Mapping[str, Any]) -> Any:
        await trio.lowlevel.checkpoint()
        folder = self.folder / arguments["folder"]
        if name == "drop_skill":
            bundles.remove(str(folder), bundles.listing(str(folder)))
            folder.rmdir()
            return None
        folder.mkdir(parents=True, exist_ok=True)
        made = bundles.unpack(str(folder), base64.b64decode(arguments["tar"]))
        return min(len(made), self.room)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def skill(folder: Path, name: str, size: int = 10) -> Path:
    copy = folder / name
    (copy / "scripts").mkdir(parents=True)
    (copy / "SKILL.md").write_text("use me\n")
    (copy / "scripts" / "data").write_bytes(b"x" * size)
    return copy


def test_what_is_withdrawn_goes_unless_another_call_may_be_using_it(tmp_path: Path) -> None:
    async def main() -> None:
        skills, inside = ContainerSkills(trio.CapacityLimiter(1)), Inside(tmp_path / "inside")
        one, two = (skill(tmp_path, name) for name in ("one", "two"))
        await skills.arrange(inside.operate, [one, two], alone=True)
        assert inside.names == ["one", "two"]
        await skills.arrange(inside.operate, [two], alone=False)
        assert inside.names == ["one", "two"]
        await skills.arrange(inside.operate, [two], alone=True)
        assert inside.names == ["two"]
        await skills.arrange(inside.operate, [one], alone=True)
        assert inside.names == ["one"]
        assert (inside.folder / "one" / "scripts" / "data").read_bytes() == b"x" * 10
        skills.forget()
        bundles.remove(str(inside.folder), bundles.listing(str(inside.folder)))
        await skills.arrange(inside.operate, [one], alone=True)
        assert inside.names == ["one"]

    run(main)


def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        skills, inside = ContainerSkills(trio.CapacityLimiter(1)), Inside(tmp_path / "inside")
        one = skill(tmp_path, "one")
        inside.room = 2
        with pytest.raises(PathRefused, match="/mnt/skills/one does not fit into the container"):
            await skills.arrange(inside.operate, [one], alone=True)
        assert inside.names == []
        inside.room = 100
        await skills.arrange(inside.operate, [one], alone=True)
        assert inside.names == ["one"]

    run(main)


def test_skills_that_change_all_day_do_not_fill_the_container(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w", skills_bytes=1 << 20) as box:
            for number in range(5):
                version = skill(tmp_path / str(number), "skill", 600 << 10)
                inside = box.workspace.path_of_skill(version)
                seen = await box.bash(f"stat -c %s {inside}/scripts/data; ls -A /mnt/skills", readable=[version])
                assert seen.content.split() == [str(600 << 10), inside.rpartition("/")[2]]
            large = skill(tmp_path, "large", 2 << 20)
            refused = await box.bash("true", readable=[large])
            assert "does not fit into the container" in refused.content
            assert (await box.bash("ls -A /mnt/skills")).content == "(no output)"

    run(main)
