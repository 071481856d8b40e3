"""What the janitor removes, and what it leaves alone."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from package_kit import tides
from skill_actors.errors import Refused
from skill_actors.sessions.ledger import Account
from skill_actors.sessions.table import Viewer
from skilld.config import RetentionConfig
from skilld.janitor import ClockWatch, Janitor, overdue
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


def test_a_clock_that_was_set_is_told_from_one_that_runs_fast_and_from_a_machine_that_slept() -> None:
    wall, steady = [NOON], [1000.0]
    clock = ClockWatch(lambda: wall[0], lambda: steady[0])
    for wall_s, steady_s, was_set in (
        (3600, 3600, False),
        (3630, 3600, False),  # being corrected
        (86_400 * 365, 3600, True),
        (3600, 3600, False),  # once only
        (-86_400, 3600, True),
        (3600, 86_400, True),
    ):
        wall[0] += timedelta(seconds=wall_s)
        steady[0] += steady_s
        assert clock.was_set() == was_set, wall_s


def test_a_clock_that_is_set_forward_deletes_nothing_before_it_could_be_set_right(tmp_path: Path) -> None:
    """By a broken battery, say, or a typing error: everything seems to be years old at once."""
    ahead = timedelta()

    async def main() -> None:
        nonlocal ahead
        async with open_tree(tmp_path, retention_session_age_days=30.0) as tree:
            session = (await tree.ask("hello"))["session"]
            janitor = Janitor(tree.parts, now=lambda: datetime.now(UTC) + ahead)
            journal = tree.parts.journal.get()
            ahead = timedelta(days=10_000)
            await janitor.look_after(journal, tree.sessions)
            ahead = timedelta(days=-10_000)
            for _ in range(2):
                await janitor.look_after(journal, tree.sessions)
            assert (await tree.sessions.get(session, ANYBODY))["id"] == session
            ahead = timedelta(days=31)
            for _ in range(2):  # it stays so: then it is true
                await janitor.look_after(journal, tree.sessions)
            with pytest.raises(Refused, match="no session"):
                await tree.sessions.get(session, ANYBODY)

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


def test_packages_that_are_no_skill_any_more_are_removed_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, source, repo = tmp_path / "state/packages", tmp_path / "skills", tmp_path / "repo/.agents/skills"
    for folder in (source, repo):
        folder.mkdir(parents=True)
    for path, text in ((source / "a.skill", "one"), (source / "b.skill", "two"), (repo / "c.skill", "three")):
        path.write_bytes(tides(description=text))  # of one name: the second is shadowed

    async def main() -> None:
        flags: dict[str, Any] = {"skills_paths": [source], "skills_projects": [tmp_path], "skills_watch": False}
        async with open_tree(tmp_path, **flags) as tree:
            janitor, journal = Janitor(tree.parts), tree.parts.journal.get()
            session = (await tree.sessions.create(os.geteuid(), {"cwd": str(tmp_path / "repo")}))["id"]
            assert list((await tree.sessions.skills(session, ANYBODY)).skills) == ["tides"]
            assert len(list(cache.iterdir())) == 3
            (source / "a.skill").write_bytes(tides(description="four"))
            async with tree.http() as http:
                assert (await http.post("/v1/skills/reload")).json()["changed"] == ["tides"]
            await janitor.look_after(journal, tree.sessions)
            assert len(list(cache.iterdir())) == 4  # it may be in use
            spare_s = -tree.parts.config.limits.turn_timeout_s
            monkeypatch.setattr("skilld.janitor._COPY_SPARE_S", spare_s)
            await janitor.look_after(journal, tree.sessions)
            assert len(list(cache.iterdir())) == 3
            kept = tree.parts.published.snapshot.skills["tides"]
            assert (kept.description, kept.root.is_dir()) == ("four", True)

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


def in_days(days: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def test_sums_of_turns_go_when_nothing_was_charged_to_them_for_a_month_and_what_was_spent_stays(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            ledger, store = tree.parts.ledger.get(), tree.parts.journal.get().ledger
            turn = f"trn_{'a' * 26}"
            await ledger.add_cost(Account(session=f"ses_{'a' * 26}", turn=turn, owner_uid=1), 0.5)
            for days, left in ((29, 1), (31, 0)):
                janitor = Janitor(tree.parts, now=partial(in_days, days))
                await janitor.look_after(tree.parts.journal.get(), tree.sessions)
                assert len(await store.sums([f"turn/{turn}"])) == left
            assert [row.used.nanousd for row in await ledger.usage("user")] == [500_000_000]
            assert list(await ledger.verify()) == []

    run(main)


def test_damage_in_the_ledger_is_found_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    account = Account(session=f"ses_{'a' * 26}", turn=f"trn_{'a' * 26}", owner_uid=1)

    async def spend() -> None:
        async with open_tree(tmp_path) as tree:
            await tree.parts.ledger.get().add_cost(account, 0.5)

    async def look() -> None:
        async with open_tree(tmp_path) as tree:
            await Janitor(tree.parts).look_after(tree.parts.journal.get(), tree.sessions)
            assert "the ledger" in caplog.text
            assert list(await tree.parts.ledger.get().verify()) == [], "sums are made anew"

    run(spend)
    db = apsw.Connection(str(tmp_path / "state/journal.db"))
    db.execute("UPDATE ledger_sum SET nanousd = 1 WHERE key = 'user/1'")
    db.close()
    run(look)


def test_events_of_the_workshop_are_forgotten_after_their_days_unless_the_clock_was_set(tmp_path: Path) -> None:
    now = datetime.now(UTC)

    async def main() -> None:
        nonlocal now
        async with open_tree(tmp_path, retention_workshop_event_days=1.0) as tree:
            workshop, journal = tree.parts.workshop.get(), tree.parts.journal.get()
            await workshop.feed.publish_custom(0, "custom.x", "done", {})
            janitor = Janitor(tree.parts, now=lambda: now)
            for days, left in ((0.9, 1), (1.1, 0)):
                now = datetime.now(UTC) + timedelta(days=days)
                await janitor.look_after(journal, tree.sessions)  # the clock was set
                assert len(await journal.documents.events(after=0)) == 1
                await janitor.look_after(journal, tree.sessions)
                assert len(await journal.documents.events(after=0)) == left

    run(main)


def test_documents_of_the_workshop_are_read_and_compared_with_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "state"

    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            await tree.parts.workshop.get().entries.put(0, "n", "k", 1)
        db = apsw.Connection(str(state / "journal.db"))
        db.execute("UPDATE document SET data = '{\"value\":2}'")
        db.close()
        async with open_tree(tmp_path) as tree:
            await Janitor(tree.parts).look_after(tree.parts.journal.get(), tree.sessions)
        assert "entry 0/n/k is damaged on disk" in caplog.text

    run(main)
