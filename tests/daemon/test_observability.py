"""The branch that watches the daemon: what it tells the watchdog and the service manager, and that it is no burden."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from skilld import observability
from skilld.watchdog import Stage
from support import run
from tree_kit import Tree, open_tree

BACK_S = 15.0


async def grows(tree: Tree) -> None:
    """Wait for another round trip."""
    before = tree.parts.pulse.round_trips
    with trio.fail_after(BACK_S):
        while tree.parts.pulse.round_trips == before:  # noqa: ASYNC110  # counted once a second, by nobody's event
            await trio.sleep(0.01)


def test_it_is_the_first_branch_and_its_watchdog_runs_before_the_journal_opens(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            branch = tree.system.root.which_children()[0]
            assert (branch.id, [child.id for child in branch.children or ()]) == (
                "observability",
                ["loop", "gc", "canary", "watchdog", "audit"],
            )

    run(main)


def test_round_trips_go_on_after_the_canary_and_the_sender_were_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            await grows(tree)
            await tree.kill("Canary")
            await grows(tree)
            await tree.kill("Loop")
            await grows(tree)

    run(main)


def test_no_round_trip_comes_back_while_the_canary_is_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            await grows(tree)
            branch = tree.system.root.child("observability")
            assert branch is not None
            await branch.terminate_child("canary")  # type: ignore[attr-defined]
            before = tree.parts.pulse.round_trips
            await trio.sleep(1.5)
            assert tree.parts.pulse.round_trips <= before + 1, "one may have been on its way"
            await branch.restart_child("canary")  # type: ignore[attr-defined]
            await grows(tree)

    run(main)


def test_the_stage_is_that_of_the_socket(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            parts = tree.parts
            assert parts.stage() is Stage.SERVING
            server = parts.server.get()
            parts.server.clear()  # as between the end of the socket and its next start
            assert parts.stage() is Stage.REBUILDING
            parts.server.put(server)
            parts.stopping = True
            assert parts.stage() is Stage.STOPPING
            parts.stopping = False
            parts.ready = trio.Event()
            assert parts.stage() is Stage.STARTING
            parts.ready.set()

    run(main)


def test_the_service_manager_reads_how_many_conversations_and_turns_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observability, "_STATUS_S", 0.02)

    async def main(manager: socket.socket) -> None:
        async with open_tree(tmp_path, {"NOTIFY_SOCKET": str(tmp_path / "notify")}) as tree:
            await tree.ask("hello")
            heard: list[bytes] = []  # of the turn that waited and ran, too
            while b"STATUS=1 conversations in memory, 0 turns running, 0 waiting" not in heard:
                heard.append(await trio.to_thread.run_sync(manager.recv, 4096))
            tree.parts.stopping = True
            assert observability.status_line(tree.parts) == "", "what was said of the drain stays"
            tree.parts.stopping = False

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(BACK_S)
        run(main, manager)
