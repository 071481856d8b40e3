"""Lists of conversations: filters, and pages that stay put while others are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from session_kit import ME, Kit, open_kit
from skill_actors.sessions.table import Viewer
from skill_actors.sessions.wanted import Wanted
from skill_actors.store import reads
from skill_actors.testing import Reply, ScriptedModel, Text
from support import run


async def walk(kit: Kit, limit: int, wanted: Wanted | None = None, viewer: Viewer = ME) -> list[str]:
    """Ids of all pages."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await kit.manager.list(viewer, limit=limit, cursor=cursor, wanted=wanted)
        assert len(page["items"]) <= limit
        found += [str(item["id"]) for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            return found


def test_each_filter_finds_what_it_says_and_all_must_hold(tmp_path: Path) -> None:
    go = trio.Event()
    model = ScriptedModel(respond=lambda _: Reply([Text("x")], holds={0: go}))

    async def main() -> None:
        async with open_kit(tmp_path, model, slots=1) as kit:
            logs = await kit.session(title="Große LOGS", labels={"team": "Web", "env": "prod"})
            disk = await kit.session(title="disk", labels={"team": "ops"})
            await trio.sleep(0.002)  # times are stored in milliseconds
            since = str((await kit.manager.get(await kit.session(title="late"), ME))["updated"])
            plain = await kit.session()
            foreign = str((await kit.manager.create(7, {"title": "logs"}))["id"])

            async def find(**filters: Any) -> set[str]:
                return set(await walk(kit, 2, Wanted(**filters)))

            assert await find(title="GROSSE log") == {logs}
            assert await find(label="team") == {logs, disk}
            assert await find(label="team=ops") == {disk}
            assert await find(label="team=op") == set()
            assert await find(text="web") == {logs}
            assert await find(text=plain[4:]) == {plain}
            assert await find(text="o", label="env=prod") == {logs}
            assert plain in await find(since=since)
            assert not {logs, disk} & await find(since=since)
            assert foreign in set(await walk(kit, 2, Wanted(title="logs"), Viewer(uid=0, admin=True)))

            await kit.manager.submit(logs, ME, "runs")
            while kit.manager.status()["turns_running"] == 0:  # noqa: ASYNC110
                await trio.sleep(0.01)
            await kit.manager.submit(disk, ME, "waits")
            assert await find(status="running") == {logs}
            assert await find(status="queued") == {disk}
            assert not {logs, disk} & await find(status="idle")
            assert await find(status="running", title="disk") == set()
            go.set()

    run(main)


def test_pages_do_not_shift_when_sessions_are_made_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel()) as kit:
            made = [await kit.session(title="x") for _ in range(9)]
            seen: list[str] = []
            for wanted in (None, Wanted(title="x")):
                seen.clear()
                cursor: str | None = None
                while True:
                    page = await kit.manager.list(ME, limit=2, cursor=cursor, wanted=wanted)
                    seen += [str(item["id"]) for item in page["items"]]
                    await kit.session(title="x")
                    cursor = page["next"]
                    if cursor is None:
                        break
                assert len(seen) == len(set(seen))
                assert set(made) <= set(seen)

    run(main)


def test_a_page_looks_at_so_many_and_then_gives_a_cursor(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(reads, "_MAX_LOOK", 4)
    monkeypatch.setattr(reads, "_LOOK_AHEAD", 3)

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel()) as kit:
            wanted = await kit.session(title="needle")
            for _ in range(10):
                await kit.session(title="hay")
            page = await kit.manager.list(ME, limit=5, wanted=Wanted(title="needle"))
            assert page["items"] == []
            assert page["next"] is not None
            assert await walk(kit, 5, Wanted(title="needle")) == [wanted]
            assert len(await walk(kit, 5, Wanted(title="a"))) == 10

    run(main)
