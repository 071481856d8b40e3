"""A leaf of the daemon's tree that crashes all the time hurts no conversation; nor does one conversation the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from session_kit import ME
from skill_actors.runtime import Backoff, ChildInfo
from skill_actors.testing import Reply, ScriptedModel, Text
from support import run
from tree_kit import Tree, open_tree

CRASHES = 20
WITHIN_S = 5.0
FATAL = {"root/journal"}  # its loss is the conversations' loss
LEAVES = [
    *("root/observability/loop", "root/observability/gc", "root/observability/canary", "root/observability/watchdog"),
    "root/observability/audit",
    *("root/services/janitor", "root/services/hangup"),
    *("root/services/skills/native", "root/services/skills/registry", "root/services/skills/watcher"),
    *("root/services/backends/model", "root/services/backends/local"),
    *(
        f"root/extras/{name}"
        for name in ("workshop", "agents", "board", "workers", "schedules", "workflows", "setup", "monitor", "sweeper")
    ),
    *(f"root/extras/monitor-{name}" for name in ("rules", "alerts", "sessions")),
    *("root/listener/socket", "root/listener/gate"),
]


def leaves(tree: Tree) -> Iterator[ChildInfo]:
    """Every actor that is no supervisor and no conversation's."""
    for info in tree.system.walk():
        if info.children is None and not info.path.startswith("root/sessions/"):
            yield info


def find(tree: Tree, path: str) -> ChildInfo:
    (found,) = [info for info in leaves(tree) if info.path == path]
    return found


async def crash(tree: Tree, path: str) -> None:
    """End the leaf once it runs."""
    while (info := find(tree, path)).phase != "running":  # noqa: ASYNC110  # it starts files, threads and sockets
        await trio.sleep(0.002)
    info.ref._cell.kill()
    await info.ref.wait_stopped()


def test_every_leaf_is_listed_here(tmp_path: Path) -> None:
    (tmp_path / "skills").mkdir()

    async def main() -> None:
        async with open_tree(tmp_path, skills_paths=[tmp_path / "skills"]) as tree:
            assert {info.path for info in leaves(tree)} == {*LEAVES, *FATAL}
            assert all(info.isolated for info in leaves(tree) if info.path not in FATAL)

    run(main)


@pytest.mark.parametrize("path", LEAVES)
def test_a_leaf_that_crashes_twenty_times_leaves_a_conversations_actor_and_turn_alone(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its pauses it could not even crash so often; here they are shortened."""
    monkeypatch.setattr(Backoff, "delay_s", lambda _self, _attempt: 0.001)
    (tmp_path / "skills").mkdir()

    async def main() -> None:
        go_on = trio.Event()
        model = ScriptedModel([Reply([Text("done")], holds={0: go_on}), Reply([Text("after")])])
        async with open_tree(tmp_path, model=model, skills_paths=[tmp_path / "skills"]) as tree:
            session = await tree.session()
            turn = (await tree.sessions.submit(session, ME, "x")).turn
            with trio.fail_after(10):
                while not model.running:  # noqa: ASYNC110  # the model says so by this only
                    await trio.sleep(0.002)
            manager, actor = tree.sessions, tree.find("Session")
            begin = trio.current_time()
            for _ in range(CRASHES):
                await crash(tree, path)
            assert trio.current_time() - begin < 10 * WITHIN_S
            assert tree.find("Session") is actor
            assert actor.is_alive()
            assert tree.sessions is manager
            go_on.set()
            ended = await tree.sessions.get_turn(turn, ME, wait_s=20)
            assert (ended["status"], ended["result"]["text"]) == ("finished", "done")
            await tree.wait_back(find(tree, path).actor_class)
            assert (await tree.ask("y", session))["result"]["text"] == "after"

    run(main)


def test_a_conversation_that_crashes_is_refused_and_the_others_are_not_touched(tmp_path: Path) -> None:
    """A script without answers raises what no turn expects: the actor crashes with it."""

    async def main() -> None:
        go_on = trio.Event()
        model = ScriptedModel([Reply([Text("done")], holds={0: go_on})])
        async with open_tree(tmp_path, model=model) as tree:
            good, bad = await tree.session(), await tree.session()
            turn = (await tree.sessions.submit(good, ME, "x")).turn
            with trio.fail_after(10):
                while not model.running:  # noqa: ASYNC110  # as above
                    await trio.sleep(0.002)
            actor = tree.find("Session")
            for number in range(5):
                ended = await tree.ask(str(number), bad)
                assert ended["result"]["error"]["code"] == "internal"
            async with tree.http() as http:
                refused = await http.post(f"/v1/sessions/{bad}/messages", json={"text": "again"})
                shown = (await http.get(f"/v1/sessions/{bad}")).json()
                metrics = (await http.get("/metrics")).text
            assert (refused.status_code, refused.json()["error"]["code"]) == (500, "internal")
            assert 0 < int(refused.headers["retry-after"]) <= 60
            assert (shown["crashes"], shown["poisoned_until"] is not None) == (5, True)
            assert "skilld_session_crashes_total 5.0" in metrics
            assert "skilld_sessions_poisoned_total 1.0" in metrics
            assert actor.is_alive()
            go_on.set()
            assert (await tree.sessions.get_turn(turn, ME, wait_s=20))["status"] == "finished"

    run(main)
