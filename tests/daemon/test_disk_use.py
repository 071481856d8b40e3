"""What the state takes on the disk: measured by kind, and shown."""

from __future__ import annotations

from pathlib import Path

import trio

from skilld.disk_use import KINDS, measure, used_by
from support import run
from tree_kit import open_tree

MANUAL = Path(__file__).parents[2] / "docs/operate.md"


def test_every_file_counts_for_its_kind_and_links_are_not_followed(tmp_path: Path) -> None:
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    for path, size in (("workspaces/ses_a/deep/x", 100_000), ("journal.db", 50_000), ("journal.db-wal", 20_000)):
        (state / path).parent.mkdir(parents=True, exist_ok=True)
        (state / path).write_bytes(b"x" * size)
    (state / "something.json").write_bytes(b"x" * 10_000)
    elsewhere.mkdir()
    (elsewhere / "huge").write_bytes(b"x" * 5_000_000)
    (state / "workspaces/out").symlink_to(elsewhere)
    found = measure(state)
    assert found.keys() == set(KINDS)
    assert 100_000 <= found["workspaces"] < 200_000
    assert 70_000 <= found["journal"] < 100_000
    assert 10_000 <= found["other"] < 30_000
    assert found["audit"] == 0
    total = used_by(found)
    assert total is not None
    assert total["total"] == sum(found.values())


def test_a_hole_takes_no_room_and_a_folder_that_is_gone_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "workspaces").mkdir()
    with (tmp_path / "workspaces/sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert measure(tmp_path)["workspaces"] < 1 << 20
    assert sum(measure(tmp_path / "none").values()) == 0
    assert used_by(None) is None


def test_the_status_and_the_metrics_show_it_soon_after_the_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree, tree.http() as http:
            with trio.fail_after(20):
                while (await http.get("/v1/status")).json()["disk_use"] is None:  # noqa: ASYNC110  # over a socket
                    await trio.sleep(0.02)
            shown = (await http.get("/v1/status")).json()["disk_use"]
            assert shown["journal"] > 0
            assert shown["total"] == sum(shown[kind] for kind in KINDS)
            lines = (await http.get("/metrics")).text.splitlines()
            told = {
                line.split('"')[1]: float(line.split()[-1]) for line in lines if line.startswith("skilld_disk_bytes")
            }
            assert told == {kind: shown[kind] for kind in KINDS}

    run(main)


def test_the_manual_says_of_every_kind_what_bounds_it() -> None:
    _, _, rest = MANUAL.read_text().partition("\n## The disk\n")
    rows = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    listed = {kind for kind in KINDS for row in rows if f"`{kind}`" in row.split("|")[1]}
    assert listed == set(KINDS) - {"other"}
