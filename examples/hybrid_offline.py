#!/usr/bin/env python3
"""One conversation over three places: classes of this program and two workspaces. Takes a second and no API key.

    python examples/hybrid_offline.py

Tools are routed by their names, files are handed over by name, and there is one history and one list of files. The
model is scripted, so that it runs anywhere. ("docker", {...}) and ("anthropic", {"skills": [...]}) are further places.
"""

from __future__ import annotations

from typing import Any

import trio

from skill_actors.library import new_hybrid
from skill_actors.native import Context, NativeSkill, SkillInfo
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse


class Meter(NativeSkill):
    """Reads a meter of this very program, and leaves what it reads where the first place finds it."""

    skill_info = SkillInfo(name="meter", description="Reads the meter.", allowed_tools=("execute",))

    def __init__(self, readings: list[int] | None = None) -> None:
        self._readings = readings or []

    def execute(self, command: str, context: Context) -> str:
        context.workspace.joinpath("readings.txt").write_text("\n".join(map(str, self._readings)) + "\n")
        return f"{len(self._readings)} readings are in readings.txt"


def bash(command: str, place: str = "") -> ToolUse:
    return ToolUse(f"{place}bash_tool", {"command": command, "description": "computes"})


async def main() -> None:
    model = ScriptedModel(
        [
            Reply([ToolUse("meter_execute", {"command": "read"})]),
            Reply([bash("sort -n readings.txt | tail -1 > highest.txt")]),
            Reply([ToolUse("hand_over", {"name": "highest.txt", "from": "local", "to": "archive"})]),
            Reply([bash("echo highest: $(cat highest.txt) | tee report.txt", "archive_")]),
            Reply([Text("The report is in the archive.")]),
        ]
    )
    places: list[Any] = [("native", {"classes": [Meter([17, 42, 23])]}), "local", ("local", {"name": "archive"})]
    async with new_hybrid(places, model_name="scripted") as session:
        print("tools:", ", ".join(tool["name"] for tool in session.tools))
        response, _ = await session.chat("Report the highest reading.", model)
        print(response.text)
        for file in await session.files():
            print(f"{file.source}/{file.name}: {(await session.read_file(file.name, file.source)).decode().split()}")
        assert session.capabilities is not None
        for name, own in session.capabilities.places.items():
            print(f"{name}: sandbox {own.sandbox}, network {own.network}")


if __name__ == "__main__":
    trio.run(main)
