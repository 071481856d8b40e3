"""Who may make a backup, how many at once, and what is said when there is no room for one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from skill_actors.errors import Refused
from skilld.cli.commands.backup import _size
from support import run
from tree_kit import open_tree


class Usage(NamedTuple):
    free: int


def test_only_one_backup_is_made_at_a_time_and_the_next_one_after_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree, tree.http() as http:
            async with tree.parts.backups.open():
                refused = await http.get("/v1/backup")
                assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
                await tree.parts.backups.clean()  # which must not remove the one that is being made
                assert len(list((tmp_path / "state").glob("backup-*"))) == 1
            done = await http.get("/v1/backup")
            assert (done.status_code, done.headers["content-type"]) == (200, "application/x-tar")
            assert b"manifest.json" in done.content
            assert not list((tmp_path / "state").glob("backup-*"))

    run(main)


def test_a_disk_without_room_for_the_copy_refuses_the_backup_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree, tree.http() as http:
            with monkeypatch.context() as patch:
                patch.setattr("skilld.backup.shutil.disk_usage", lambda place: Usage(free=1_000_000))
                refused = await http.get("/v1/backup")
            assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_full")
            assert not list((tmp_path / "state").glob("backup-*"))
            assert (await tree.ask("hello"))["status"] == "finished"
            tree.parts.journal.clear()
            with pytest.raises(Refused, match="opened again"):
                await tree.parts.backups.open().__aenter__()

    run(main)


@pytest.mark.parametrize(("size", "shown"), [(0, "0 B"), (2048, "2 KiB"), (5 << 20, "5 MiB"), (3 << 30, "3.0 GiB")])
def test_sizes_are_shown_in_a_unit_that_fits(size: int, shown: str) -> None:
    assert _size(size) == shown
