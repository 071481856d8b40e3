#!/usr/bin/env python3
"""Skills that are reloaded while conversations run. Takes a second and no API key.

    python examples/registry_reload.py

A conversation keeps the skills it was given; the next one has the new ones. What is broken keeps its last good version.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

from skill_actors.library import Registry, new_local
from skill_actors.models.base import Message
from skill_actors.skills.changes import SkillChange


def write(folder: Path, name: str, body: str) -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "SKILL.md").write_text(f"---\nname: {name}\ndescription: Knows of {name}.\n---\n{body}\n")


def model(messages: Sequence[Message]) -> object:
    """Stands in for a language model."""
    return {"stop_reason": "end_turn", "content": [{"type": "text", "text": "I have read my skills."}]}


def tell(change: SkillChange) -> None:
    print(f"changed: added {sorted(change.added)}, changed {sorted(change.changed)}, failed {len(change.failed)}")


async def main(folder: Path) -> None:
    write(folder, "tides", "High water is at noon.")
    async with Registry("my-skills", [folder]) as registry:
        registry.subscribe(tell)
        async with new_local(registry.list()) as before:
            write(folder, "winds", "It blows from the west.")
            await registry.reload()
            await before.chat("What do you know?", model)
            print("before:", [skill.name for skill in before.skills])
        async with new_local(registry.list()) as after:
            print("after:", [skill.name for skill in after.skills])
        (folder / "tides/SKILL.md").write_text("half wr")
        summary = await registry.reload()
        print(f"{summary.outcome}: {registry.get('tides').body}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        trio.run(main, Path(scratch))
