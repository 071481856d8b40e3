"""Parts of the daemon die one by one, and it goes on: what was taken is answered, and new messages are taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from session_kit import ME
from skill_actors.sessions.events import Position
from skill_actors.testing import FakeMessagesApi, Reply, ScriptedModel, Text, ToolUse, serve_in_thread
from support import run
from tree_kit import BACK_S, Tree, open_tree

ACTORS = [
    *(
        "JournalKeeper",
        "Loop",
        "GarbageKeeper",
        "Canary",
        "Watchdog",
        "Registry",
        "Watcher",
        "ModelKeeper",
        "ExecutorKeeper",
        "Conversations",
    ),
    *("Socket", "Gate"),
]


def bash(command: str) -> ToolUse:
    return ToolUse("bash_tool", {"command": command, "description": "d"})


async def see(tree: Tree, session: str, type: str) -> None:
    async with tree.sessions.follow(session, ME, after=Position()) as events:
        async for event in events:
            if event.type == type:
                return
    raise AssertionError(f"the session ended without {type}")


async def break_journal(tree: Tree) -> None:
    """End the journal's thread as a bug would, and wait until everybody who used the journal has been made again."""
    gate = tree.find("Gate")
    tree.parts.journal.get()._writer._queue.put("no ticket")  # type: ignore[arg-type]
    with trio.fail_after(BACK_S):
        await gate.wait_stopped()
    await tree.wait_back("Gate")


@pytest.mark.parametrize("actor", ACTORS)
def test_whichever_actor_is_killed_the_daemon_answers_again(tmp_path: Path, actor: str) -> None:
    skills = tmp_path / "skills"
    skills.mkdir()

    async def main() -> None:
        async with open_tree(tmp_path, skills_paths=[skills]) as tree:
            before = tree.find(actor)
            await tree.kill(actor)
            assert tree.find(actor) is not before
            assert (await tree.ask("hello"))["status"] == "finished"

    run(main)


def test_messages_are_taken_again_after_the_socket_failed(tmp_path: Path) -> None:
    async def fail() -> None:
        raise OSError("accept failed")

    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            session = await tree.session()
            assert (await tree.ask("hello", session))["status"] == "finished"
            manager, socket = tree.sessions, tree.find("Socket")
            actor = socket._actor_weakref()
            assert actor is not None
            actor.spawn(fail)
            del actor
            await socket.wait_stopped()
            await tree.wait_back("Gate")
            assert (await tree.ask("hello", session))["status"] == "finished"
            assert tree.sessions is manager, "conversations were made again with the socket"
            assert not tree.parts.closed.is_set(), "the next drain would not wait for its clients"

    run(main)


def test_the_daemon_goes_on_after_the_journals_thread_died_while_a_tool_ran(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([bash("sleep 60")]), Reply([Text("second")]), Reply([Text("third")])])

    async def main() -> None:
        async with open_tree(tmp_path, model=model) as tree:
            session = await tree.session()
            one, two = [(await tree.sessions.submit(session, ME, text)).turn for text in ("a", "b")]
            await see(tree, session, "tool.started")
            await break_journal(tree)
            assert (await tree.sessions.get_turn(one, ME))["status"] == "interrupted"
            assert (await tree.sessions.get_turn(two, ME, wait_s=20))["result"]["text"] == "second"
            assert (await tree.ask("c", session))["result"]["text"] == "third"

    run(main)


def test_the_daemon_goes_on_after_the_journals_thread_died_beside_the_models_client(tmp_path: Path) -> None:
    """The client outlives the restart: it must be usable after it, and be closed only once."""
    with serve_in_thread(FakeMessagesApi([Reply([Text("one")]), Reply([Text("two")])])) as api:
        environ = {"ANTHROPIC_API_KEY": "sk-x", "ANTHROPIC_BASE_URL": api.base_url}

        async def main() -> None:
            async with open_tree(tmp_path, environ) as tree:
                assert (await tree.ask("a"))["result"]["text"] == "one"
                await break_journal(tree)
                assert (await tree.ask("b"))["result"]["text"] == "two"

        run(main)


def test_a_session_opens_its_workspace_anew_after_its_backend_was_made_again(tmp_path: Path) -> None:
    model = ScriptedModel(
        [Reply([bash("echo a > file")]), Reply([Text("1")]), Reply([bash("cat file")]), Reply([Text("2")])]
    )

    async def main() -> None:
        async with open_tree(tmp_path, model=model) as tree:
            session = await tree.session()
            assert (await tree.ask("x", session))["status"] == "finished"
            await tree.kill("ExecutorKeeper")
            assert (await tree.ask("y", session))["status"] == "finished"
            (result,) = model.requests[-1].messages[-1]["content"]
            assert (result["content"].strip(), result.get("is_error", False)) == ("a", False)

    run(main)


def test_a_turn_that_comes_while_its_backend_is_away_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path, model=ScriptedModel([Reply([Text("back")])])) as tree:
            session = await tree.session()
            tree.parts.executors["local"].clear()  # as between a crash and the restart
            away = await tree.ask("x", session)
            assert away["result"]["error"]["code"] == "backend_unavailable"
            await tree.kill("ExecutorKeeper")
            assert (await tree.ask("y", session))["result"]["text"] == "back"

    run(main)


def test_turns_are_closed_and_waiting_ones_run_after_their_supervisor_was_killed(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([bash("sleep 60")]), Reply([Text("second")])])

    async def main() -> None:
        async with open_tree(tmp_path, model=model) as tree:
            session = await tree.session()
            one, two = [(await tree.sessions.submit(session, ME, text)).turn for text in ("a", "b")]
            await see(tree, session, "tool.started")
            await tree.kill("Conversations")
            assert (await tree.sessions.get_turn(one, ME))["status"] == "interrupted"
            assert (await tree.sessions.get_turn(two, ME, wait_s=20))["result"]["text"] == "second"

    run(main)
