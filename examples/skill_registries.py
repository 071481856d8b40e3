"""Skills without the daemon: two registries in a tree of one's own, one of them watched, one read every minute.

python examples/skill_registries.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio

from skill_actors.runtime import open_system
from skill_actors.skills import PublishedSkills, Register, Reload, Skill, catalogue, load_skill, registry_spec


def write_skill(folder: Path, description: str) -> Path:
    """A skill as small as they get."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SKILL.md").write_text(f"---\nname: {folder.name}\ndescription: {description}\n---\n\nDo so.\n")
    return folder


async def main(folder: Path) -> None:
    """Load, edit, register."""
    write_skill(folder / "company/tides", "Tells when the tide is high")
    write_skill(folder / "team/moon", "Tells the phase of the moon")
    company, team = PublishedSkills(), PublishedSkills()
    tree = [
        registry_spec("company", [folder / "company"], company, watch=False, reload_s=60),
        registry_spec("team", [folder / "team"], team),
    ]
    async with open_system(tree) as system:
        pinned = team.snapshot  # never changes, whatever happens on disk
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, write_skill, folder / "team/stars", "Names the stars")
            change = await team.changes.next(pinned.generation)
            print(f"team, generation {change.generation}: {', '.join(change.added)} came")
        write_skill(folder / "company/tides", "Tells when the tide is low")
        summary = await system.directory.named("company").call(Reload("tides"))
        print(f"company: {', '.join(summary.changed)} changed")
        mine = load_skill(write_skill(folder / "mine", "Kept in memory"))
        assert isinstance(mine, Skill)
        await system.directory.named("company").call(Register((mine,)))
        print(f"company has {', '.join(company.snapshot.skills)}; the pinned snapshot has {', '.join(pinned.skills)}")
        print(catalogue((skill, f"{skill.root}/SKILL.md") for skill in team.snapshot.skills.values()).count("<skill>"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        trio.run(main, Path(name))
