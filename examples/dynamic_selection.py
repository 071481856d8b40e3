#!/usr/bin/env python3
"""The backend is chosen while the program runs, and the code is the same for all. Takes a second and no API key.

    python examples/dynamic_selection.py [local|docker|native|hybrid] ...

Without arguments: what fits the mode (`SKILLD_MODE`), then native, then both together.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from skill_actors.library import SkillError, default_executor, start_session
from skill_actors.native import Context, NativeSkill, SkillInfo


class Clock(NativeSkill):
    """Tells the time, in this process."""

    skill_info = SkillInfo(name="clock", description="Tells what time it is.", allowed_tools=("execute",))

    def execute(self, command: str, context: Context) -> str:
        return f"noon ({command})"


SKILLS: Mapping[str, Any] = {"native": [Clock], "hybrid": ["local", ("native", {"classes": [Clock]})]}


def model(request: Mapping[str, Any]) -> object:
    """Stands in for a language model: calls the last tool it is offered that takes a command, then is content."""
    if len(request["messages"]) > 1:
        result = request["messages"][-1]["content"][0]["content"]
        return {"stop_reason": "end_turn", "content": [{"type": "text", "text": result}]}
    tool = [tool["name"] for tool in request["tools"] if "command" in tool["input_schema"]["properties"]][-1]
    use = {"type": "tool_use", "id": "toolu_1", "name": tool, "input": {"command": "echo it is noon"}}
    return {"stop_reason": "tool_use", "content": [use]}


async def ask(message: str, backend: str, skills: Any) -> str:
    """The same for every backend."""
    async with start_session(backend, skills) as session:
        response, _ = await session.chat(message, model)
        return f"{session.execution_mode}: {response.text}"


async def main(backends: Sequence[str]) -> int:
    for backend in backends:
        try:
            print(await ask("What time is it?", backend, SKILLS.get(backend, [])))
        except SkillError as error:
            print(f"{backend}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(trio.run(main, sys.argv[1:] or [default_executor(), "native", "hybrid"]))
