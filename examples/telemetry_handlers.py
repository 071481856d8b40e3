#!/usr/bin/env python3
"""What a conversation tells those who watch: spans of calls on a bus, and callbacks. Takes a second and no API key.

    python examples/telemetry_handlers.py

Names are those of the daemon (docs/telemetry.md): `conversation.iteration`, `execute.start`, `execute.stop`,
`backend.<name>.tool_call`. A handler that raises is detached, a callback that raises is counted; no turn ends by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from skill_actors.library import new_native
from skill_actors.models.base import Message
from skill_actors.native import Context, NativeSkill, SkillInfo
from skill_actors.telemetry import Bus


class Scale(NativeSkill):
    """Weighs things."""

    skill_info = SkillInfo(name="scale", description="Weighs things.", allowed_tools=("execute",))

    def execute(self, command: str, context: Context) -> str:
        if command == "nothing":
            raise ValueError("there is nothing on the scale")
        return f"{len(command)} kg"


def model(messages: Sequence[Message]) -> object:
    """Stands in for a language model: weighs an elephant, then nothing."""
    things = ("elephant", "nothing")
    done = len(messages) // 2
    if done == len(things):
        return {"stop_reason": "end_turn", "content": [{"type": "text", "text": "Weighed."}]}
    use: dict[str, Any] = {"type": "tool_use", "id": f"toolu_{done}", "name": "scale_execute"}
    return {"stop_reason": "tool_use", "content": [{**use, "input": {"command": things[done]}}]}


def handle(event: str, measurements: Mapping[str, float], metadata: Mapping[str, object]) -> None:
    shown = {name: metadata[name] for name in ("tool", "outcome") if name in metadata}
    print(event, sorted(measurements), shown)


def fail(*_told: object) -> None:
    raise RuntimeError("this watcher is broken")


async def main() -> None:
    bus = Bus()
    bus.attach("monitoring-agent", ["backend.native.tool_call", "execute.*", "conversation.iteration"], handle)
    async with new_native([Scale], bus=bus, on_tool_result=fail) as session:
        response, _ = await session.chat("Weigh all there is.", model)
        print(response.text, dict(session.callback_failures))


if __name__ == "__main__":
    import logging

    logging.disable(logging.ERROR)  # the broken watcher's tracebacks
    trio.run(main)
