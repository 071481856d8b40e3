#!/usr/bin/env python3
"""Skills, tools and a model in a program of your own, without the daemon. Takes a second and no API key.

    python examples/tool_loop.py [FOLDER]

Loads the skills in FOLDER (by default those beside this program), tells the model of them and runs what it calls. The
model is scripted, so that it runs anywhere; `AnthropicModel(...)` from skill_actors.models goes in its place.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import trio

from skill_actors.backends import ToolCall, ToolResult
from skill_actors.loop import create_context, model_caller, run_loop
from skill_actors.skills import find, load
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse


async def show(call: ToolCall, result: ToolResult) -> None:
    print(f"{call.name} ({result.outcome}): {result.content.splitlines()[0]}")


async def main(folder: Path, workspace: Path) -> int:
    snapshot = await trio.to_thread.run_sync(load, folder)
    for failure in snapshot.failures:
        print(f"not loaded: {failure.path}: {failure.diagnostics[0].message}")
    echo = find(snapshot.skills, "echo")
    if echo is None:
        print(f"this example wants a skill 'echo' in {folder}", file=sys.stderr)
        return 1
    async with create_context(
        snapshot.skills.values(), working_directory=workspace, only=["view", "bash_tool"]
    ) as here:
        script = Path(here.location_of(echo)).parent / "scripts/echo.py"
        model = ScriptedModel(
            [
                Reply([Text("I read how."), ToolUse("view", {"path": here.location_of(echo), "view_range": [1, 2]})]),
                Reply([ToolUse("bash_tool", {"command": f"python3 '{script}' hello", "description": "echoes"})]),
                Reply([ToolUse("create_file", {"path": "x", "file_text": "x", "description": "tries"})]),
                Reply([Text("It said hello, and I may not write files.")]),
            ]
        )
        ask = model_caller(model, name="scripted", system=here.system_prompt("Be brief."), tools=here.tools)
        question = {"role": "user", "content": "Echo hello, then write a file."}
        result = await run_loop([question], ask, here, max_iterations=10, on_tool_result=show)
    print(f"{result.outcome} after {result.iterations} model calls: {result.text}")
    return 0


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "skills"
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(trio.run(main, source, Path(scratch, "work")))
