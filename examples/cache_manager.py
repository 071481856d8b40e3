#!/usr/bin/env python3
"""A native skill that manages the cache of the program around it, in this process and in a worker process.

    python examples/cache_manager.py

In this process the skill is made with the cache itself. In a worker process it has a copy of nothing: it asks the actor
that keeps the cache, which the program has exposed to skills by name. The model is scripted and asks for the same.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, ClassVar, cast

import trio

from skill_actors.backends import Executor, Host, ToolCall, ToolResult, Workers, WorkersRef, open_native
from skill_actors.loop import create_context, model_caller, run_loop
from skill_actors.native import AskFailed, Context, NativeSkill, SkillInfo
from skill_actors.runtime import ChildSpec, Reject, TrioActor, open_system
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse

INFO = SkillInfo(
    name="cache-manager", description="Manage application cache", allowed_tools=["execute", "read", "write"]
)


class Cache:
    """What the program wants managed."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def clear(self) -> None:
        self.entries.clear()

    def stats(self) -> dict[str, int]:
        return {"entries": len(self.entries), "bytes": sum(map(len, self.entries.values()))}


class CacheManager(NativeSkill):
    """For this process: has the cache itself. No other process could import it as it is made, and none has to."""

    skill_info = INFO

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def execute(self, command: str, context: Context) -> str:
        """Do something to the cache: clear."""
        if command != "clear":
            raise ValueError(f"there is no command {command!r}; there is clear")
        self._cache.clear()
        return "Cache cleared"

    def read(self, path: str, context: Context) -> str:
        """Show stats, or the entry of a key."""
        return json.dumps(self._cache.stats()) if path == "stats" else self._cache.entries[path]

    def write(self, path: str, content: str, context: Context) -> str:
        """Keep an entry under a key."""
        self._cache.entries[path] = content
        return f"{path} is kept"


class CacheActor(TrioActor):
    """Keeps the cache, and takes JSON values. What makes no sense is refused: that ends the question, not the actor."""

    def __init__(self, cache: Cache) -> None:
        super().__init__()
        self._cache = cache

    async def on_receive(self, message: Any) -> Any:
        match message:
            case {"do": "clear"}:
                self._cache.clear()
            case {"do": "stats"}:
                return self._cache.stats()
            case {"do": "get", "key": str(key)} if key in self._cache.entries:
                return self._cache.entries[key]
            case {"do": "put", "key": str(key), "value": str(value)}:
                self._cache.entries[key] = value
            case _:
                raise Reject(f"a cache does not understand {message!r:.200}")
        return None


class RemoteCacheManager(NativeSkill):
    """For worker processes: asks the actor named "cache"."""

    skill_info = INFO
    parallel: ClassVar[bool] = True  # the actor takes one message at a time

    def execute(self, command: str, context: Context) -> str:
        """Do something to the cache: clear."""
        context.ask("cache", {"do": command})
        return "Cache cleared"

    def read(self, path: str, context: Context) -> str:
        """Show stats, or the entry of a key."""
        try:
            answer = context.ask("cache", {"do": path} if path == "stats" else {"do": "get", "key": path}, timeout_s=2)
        except AskFailed as failed:
            return f"nothing to read: {failed}"
        return answer if isinstance(answer, str) else json.dumps(answer)

    def write(self, path: str, content: str, context: Context) -> str:
        """Keep an entry under a key."""
        context.tell("cache", {"do": "put", "key": path, "value": content})
        return f"{path} is kept"


async def converse(executor: Executor, folder: Path) -> None:
    """What the model is offered, calls, and says."""
    model = ScriptedModel(
        [
            Reply([ToolUse("cache_manager_write", {"path": "greeting", "content": "hello"})]),
            Reply(
                [ToolUse("cache_manager_read", {"path": "stats"}), ToolUse("cache_manager_read", {"path": "greeting"})]
            ),
            Reply([ToolUse("cache_manager_execute", {"command": "clear"})]),
            Reply([ToolUse("cache_manager_read", {"path": "stats"})]),
            Reply([Text("I have cleared the cache.")]),
        ]
    )

    async def show(call: ToolCall, result: ToolResult) -> None:
        print(f"  {call.name} {call.input.get('path') or call.input.get('command')}: {result.content}")

    async with create_context((), working_directory=folder, backend=executor, timeout_s=30) as here:
        ask = model_caller(model, name="scripted", system="You manage a cache.", tools=here.tools)
        question = {"role": "user", "content": "Clear the cache"}
        result = await run_loop([question], ask, here, max_iterations=10, on_tool_result=show)
    print(f"  {result.text}")


async def main(folder: Path) -> None:
    print("in this process:")
    async with open_native([CacheManager(Cache())]) as executor:
        await converse(executor, folder)

    print("in a worker process:")
    tree = [
        ChildSpec(id="workers", name="workers", factory=Workers, isolated=True),
        ChildSpec(id="cache", name="cache", factory=lambda: CacheActor(Cache())),
    ]
    async with open_system(tree) as system:
        names = system.directory
        host = Host(
            find_workers=lambda: cast("WorkersRef", names.ref("workers")), expose={"cache": names.named("cache")}
        )
        async with open_native([RemoteCacheManager], host, isolation="process") as executor:
            await converse(executor, folder)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        trio.run(main, Path(scratch, "work"))
