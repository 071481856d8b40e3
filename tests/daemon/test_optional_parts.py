"""What is optional fails again and again, and no conversation notices: same actor, same turn, a normal end."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from session_kit import ME
from skill_actors.runtime import ChildInfo
from skill_actors.sessions.events import Position
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run
from tree_kit import BACK_S, Tree, open_tree

ROUNDS = 4
OPTIONAL = ("root/observability", "root/services/skills/workers", "root/services/skills/watcher")


class Boom(Exception):
    """Of this test."""


async def boom() -> None:
    raise Boom


def find(tree: Tree, path: str) -> ChildInfo:
    """The node at a path of ids."""
    return next(info for info in tree.system.walk() if info.path == path)


def optional_paths(tree: Tree) -> list[str]:
    """The optional parts of the running tree and all below them, leaves last."""
    return [info.path for info in tree.system.walk() if info.path.startswith(OPTIONAL)]


async def crash(tree: Tree, path: str) -> None:
    """End the actor as a bug of its own would, or kill what cannot have one; wait until it has been made again."""
    with trio.fail_after(BACK_S):
        while find(tree, path).phase != "running":  # noqa: ASYNC110  # it waits for its restart
            await trio.sleep(0.01)
        victim = find(tree, path).ref
        actor = victim._actor_weakref()
        if hasattr(actor, "spawn") and find(tree, path).strategy is None:
            actor.spawn(boom)
            victim.tell("wake")
            del actor
        else:
            del actor
            victim._cell.kill()
        await victim.wait_stopped()
        while (found := find(tree, path)).phase != "running" or found.ref is victim:  # noqa: ASYNC110
            await trio.sleep(0.01)


def test_the_optional_parts_are_those_that_the_tree_marks_isolated(tmp_path: Path) -> None:
    skills = tmp_path / "skills"
    skills.mkdir()

    async def main() -> None:
        async with open_tree(tmp_path, skills_paths=[skills]) as tree:
            for path in OPTIONAL:
                assert find(tree, path).isolated, path
            assert {path.rpartition("/")[2] for path in optional_paths(tree)} >= {"watcher", "workers", "canary", "gc"}

    run(main)


@pytest.mark.parametrize("together", [False, True], ids=["one after the other", "all at once"])
def test_a_failing_optional_part_never_restarts_a_conversation(tmp_path: Path, together: bool) -> None:
    skills, go = tmp_path / "skills", tmp_path / "go"
    skills.mkdir()
    wait = ToolUse("bash_tool", {"command": f"until [ -e {go} ]; do sleep 0.05; done; echo done", "description": "d"})
    model = ScriptedModel([Reply([wait]), Reply([Text("ended well")])])

    async def main() -> None:
        async with open_tree(tmp_path, model=model, skills_paths=[skills]) as tree:
            session = await tree.session()
            turn = (await tree.sessions.submit(session, ME, "go")).turn
            async with tree.sessions.follow(session, ME, after=Position()) as events:
                async for event in events:
                    if event.type == "tool.started":
                        break
            actor, manager = tree.find("Session"), tree.sessions
            if together:
                for _ in range(ROUNDS):
                    async with trio.open_nursery() as nursery:
                        for path in optional_paths(tree):
                            if find(tree, path).strategy is None:  # a branch that is killed takes its leaves along
                                nursery.start_soon(crash, tree, path)
            else:
                for path in optional_paths(tree):
                    await crash(tree, path)
            assert tree.find("Session") is actor
            assert tree.sessions is manager
            assert (await tree.sessions.get_turn(turn, ME))["status"] == "running"
            go.touch()
            ended = await tree.sessions.get_turn(turn, ME, wait_s=20)
            assert (ended["status"], ended["result"]["text"]) == ("finished", "ended well")
            assert tree.find("Session") is actor
            restarted = [report.child for report in tree.parts.reports.recent() if report.event.value == "restarted"]
            assert len(restarted) >= ROUNDS
            assert not {"session", "sessions", "journal", "socket"} & set(restarted)

    run(main)
