"""What the janitor removes, and what it leaves alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from skill_actors.errors import Refused
from skill_actors.sessions.table import Viewer
from skilld.config import RetentionConfig
from skilld.janitor import Janitor, overdue
from support import run
from tree_kit import Tree, open_tree

ANYBODY = Viewer(uid=0, admin=True)
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)


def at(day: int) -> str:
    return f"2026-01-{day:02}T12:00:00.000Z"


@pytest.mark.parametrize(
    ("settings", "total", "expected"),
    [
        ({}, 10**12, []),
        ({"session_age_days": 5.0}, 0, ["a", "b"]),
        ({"session_age_days": 5.001}, 0, ["a"]),
        ({"session_age_days": 100.0}, 0, []),
        ({"total_bytes": 1000}, 1000, []),
        ({"total_bytes": 1000}, 1001, ["a"]),
        ({"total_bytes": 1000}, 1111, ["a", "b"]),
        ({"total_bytes": 1}, 2000, ["a", "b", "c"]),
        ({"session_age_days": 7.0, "total_bytes": 1000}, 1050, ["a"]),
    ],
)
def test_what_is_overdue_is_the_oldest_until_the_bounds_are_kept(
    settings: dict[str, Any], total: int, expected: list[str]
) -> None:
    oldest = [("a", at(1), 100), ("b", at(5), 100), ("c", at(9), 100)]
    assert overdue(oldest, total, RetentionConfig(**settings), NOON.replace(second=1)) == expected


def age(state: Path, session: str) -> None:
    """Make the session look as if nobody had used it for years. Only while no daemon runs."""
    from skill_actors.store.codec import head_sum

    db = apsw.Connection(str(state / "journal.db"))
    last_seq, fence = db.execute("SELECT last_seq, fence FROM session WHERE id = ?", (session,)).get
    old = "2001-01-01T00:00:00.000Z"
    db.execute(
        "UPDATE session SET updated = ?, head_sum = ? WHERE id = ?",
        (old, head_sum(session, old, last_seq, fence), session),
    )
    db.close()


async def rounds(tree: Tree, done: Any) -> None:
    """Wait until `done` holds."""
    with trio.fail_after(20):
        while not await done():  # noqa: ASYNC110  # what others do to the disk
            await trio.sleep(0.02)


def test_a_conversation_that_outlived_its_time_is_deleted_with_its_files_and_one_in_use_is_not(tmp_path: Path) -> None:
    state = tmp_path / "state"

    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            old, used, new = [(await tree.ask(f"hello {number}"))["session"] for number in range(3)]
            for session in (old, used, new):
                folder = state / "workspaces" / session
                folder.mkdir(parents=True, exist_ok=True)  # nothing else runs
        age(state, old)
        age(state, used)
        async with open_tree(tmp_path, retention_session_age_days=30.0) as tree:
            async with tree.sessions._table.use(used, ANYBODY):
                await Janitor(tree.parts).look_after(tree.parts.journal.get(), tree.sessions)
                with pytest.raises(Refused, match="no session"):
                    await tree.sessions.get(old, ANYBODY)
                assert not (state / "workspaces" / old).exists()
                assert (state / "workspaces" / used).exists()
                assert (await tree.sessions.get(used, ANYBODY))["id"] == used
            assert (await tree.sessions.get(new, ANYBODY))["id"] == new
            assert (state / "workspaces" / new).exists()

    run(main)


def test_leftovers_of_killed_processes_are_removed_and_damage_is_found_by_itself(tmp_path: Path) -> None:
    state = tmp_path / "state"
    orphan = state / "workspaces" / f"ses_{'a' * 26}"

    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            hurt = (await tree.ask("hello"))["session"]
        db = apsw.Connection(str(state / "journal.db"))
        db.execute("UPDATE event SET data = '{}' WHERE session = ? AND seq = 2", (hurt,))
        db.close()
        async with open_tree(tmp_path, retention_check_every_s=0.05) as tree:
            for folder in (orphan, state / "backup-1234", state / "skills" / ("0" * 64)):
                folder.mkdir(parents=True, exist_ok=True)  # left by somebody else
            mine = (await tree.ask("hello"))["session"]
            (state / "workspaces" / mine).mkdir(parents=True, exist_ok=True)

            async def clean() -> bool:
                left = (orphan, state / "backup-1234", state / "skills" / ("0" * 64))
                return not any(folder.exists() for folder in left)

            await rounds(tree, clean)
            assert (state / "workspaces" / mine).exists()

            async def found() -> bool:
                return [damage.session for damage in tree.parts.journal.get().damage()] == [hurt]

            await rounds(tree, found)

    run(main)


def test_a_session_that_has_reached_its_bound_takes_no_more_messages_and_others_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path, retention_session_events=3) as tree, tree.http() as http:
            full = (await tree.ask("hello"))["session"]
            answer = await http.post(f"/v1/sessions/{full}/messages", json={"text": "again"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
            assert "retention" in answer.json()["error"]["message"]
            assert (await tree.ask("hello"))["status"] == "finished"

    run(main)
