"""The audit log: its lines, its files, and a disk that does not take them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.runtime import ChildSpec, open_system
from skilld.audit import AuditTrail, AuditWriter, append_lines
from support import run


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "audit.log").read_text().splitlines()]


def writer(trail: AuditTrail, folder: Path, max_bytes: int = 1 << 20, keep: int = 3) -> ChildSpec:
    return ChildSpec(
        id="audit", factory=lambda: AuditWriter(trail, folder, max_bytes=max_bytes, keep=keep), isolated=True
    )


def test_what_was_noted_is_written_in_order_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    async def main() -> None:
        trail = AuditTrail()
        trail.add("first", {"uid": 1})
        async with open_system([writer(trail, tmp_path / "audit")]):
            trail.add("second", {"path": Path("/x"), "text": "\udcff\n\x1b[31m"})
            with trio.fail_after(10):
                while not (tmp_path / "audit/audit.log").exists():  # noqa: ASYNC110
                    await trio.sleep(0.01)
        assert [entry["what"] for entry in entries(tmp_path / "audit")] == ["first", "second"]

    run(main)
    assert entries(tmp_path / "audit")[1]["path"] == "/x"
    assert "\x1b" not in (tmp_path / "audit/audit.log").read_text()
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "audit/audit.log").stat().st_mode & 0o777 == 0o600


def test_what_is_noted_at_the_very_end_is_written_as_well(tmp_path: Path) -> None:
    async def main() -> None:
        trail = AuditTrail()
        async with open_system([writer(trail, tmp_path / "audit")]) as system:
            trail.add("stop", {})
            system.request_shutdown()

    run(main)
    assert [entry["what"] for entry in entries(tmp_path / "audit")] == ["stop"]


def test_a_disk_that_takes_nothing_loses_the_oldest_and_says_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("skilld.audit._RETRY_S", 0.05)
    folder = tmp_path / "audit"
    folder.write_text("in the way")

    async def main() -> None:
        trail = AuditTrail()
        async with open_system([writer(trail, folder, max_bytes=1 << 30)]):
            for number in range(10_007):
                trail.add("entry", {"number": number})
            with trio.fail_after(20):
                while "cannot be written" not in caplog.text:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            for number in range(10_007, 10_010):
                trail.add("entry", {"number": number})
            folder.unlink()
            with trio.fail_after(20):
                while not folder.exists():  # noqa: ASYNC110
                    await trio.sleep(0.01)

    run(main)
    found = entries(folder)
    lost = found[0]["entries"]
    assert found[0]["what"] == "audit.lost"
    assert lost in (7, 10), "those that came while a thread had the others are within the bound too"
    assert [entry["number"] for entry in found[1:]] == list(range(lost, 10_010))


def test_a_full_file_is_renamed_and_the_oldest_goes(tmp_path: Path) -> None:
    for number in range(6):
        append_lines(tmp_path, [json.dumps({"number": number, "pad": "x" * 80})], 150, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.log", "audit.log.1", "audit.log.2"]
    assert [json.loads((tmp_path / name).read_text())["number"] for name in ("audit.log.2", "audit.log.1")] == [3, 4]
    append_lines(tmp_path, ["{}"], 10, 0)
    assert (tmp_path / "audit.log").read_text() == "{}\n"


def test_a_line_that_a_crash_cut_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_text('{"what": "cut')
    append_lines(tmp_path, ['{"what": "whole"}'], 1 << 20, 2)
    assert (tmp_path / "audit.log").read_text().splitlines()[1:] == ['{"what": "whole"}']


def test_a_link_in_the_place_of_the_file_is_moved_away_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("kept\n")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit/audit.log").symlink_to(tmp_path / "elsewhere")
    append_lines(tmp_path / "audit", ["{}"], 1 << 20, 2)
    assert (tmp_path / "elsewhere").read_text() == "kept\n"
    assert (tmp_path / "audit/audit.log").read_text() == "{}\n"
