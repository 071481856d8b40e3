"""The files of the event log: whole after every kind of end, rotated, packed, and removed in time."""

from __future__ import annotations

import errno
import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sink_kit import event
from skilld.monitor.sinks.log_files import CURRENT, END_NAME, ended_files, retain, verify
from skilld.monitor.sinks.log_writer import LastWritten, LogRules, LogWriter


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@contextmanager
def writing(folder: Path, clock: Callable[[], datetime] | None = None, **rules: Any) -> Iterator[LogWriter]:
    writer = LogWriter(LogRules(folder=folder, **rules), clock or Clock())
    with closing(writer):
        yield writer


def events(*ids: int, **changes: Any) -> list[dict[str, Any]]:
    return [event(id=id, seq=id, **changes) for id in ids]


def lines(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(raw) if path.suffix == ".gz" else raw).splitlines()]


def ids(folder: Path) -> list[int]:
    """Of all events of all files, in the order of the files."""
    found = [line for path in [*ended_files(folder), folder / CURRENT] for line in lines(path)]
    return [line["id"] for line in found if line.get("name") != END_NAME]


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    with writing(tmp_path / "log") as writer:
        assert writer.open() is None
        writer.append(events(1, 2))
    with writing(tmp_path / "log") as writer:
        assert writer.open() == LastWritten(2, "ab", 2)
        writer.append(events(3))
    assert ids(tmp_path / "log") == [1, 2, 3]
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "log" / CURRENT).stat().st_mode & 0o777 == 0o600


SPAN = {"duration_ms": 5.0, "status": "ok", "span": "b" * 16, "trace": "a" * 32}


@pytest.mark.parametrize("format", ["skilld", "B"])
def test_cut_anywhere_no_event_is_twice_or_missing(tmp_path: Path, format: str) -> None:
    """The end between any two bytes: half a line goes, and so does the first of two without the other."""
    wanted = events(1, 2, 3, **SPAN)
    whole = tmp_path / "whole"
    with writing(whole, format=format) as writer:
        writer.open()
        writer.append(wanted)
    raw = (whole / CURRENT).read_bytes()
    cut = tmp_path / "cut"
    cut.mkdir()
    for length in range(0, len(raw) + 1, 13):
        (cut / CURRENT).write_bytes(raw[:length])
        with writing(cut, format=format) as writer:
            last = writer.open()
            through = last.id if last else 0
            writer.append([item for item in wanted if item["id"] > through])
        assert (cut / CURRENT).read_bytes() == raw, length


def test_a_full_file_ends_with_its_checksum_and_is_packed(tmp_path: Path) -> None:
    with writing(tmp_path, max_file_bytes=4096) as writer:
        writer.open()
        for id in range(1, 61):
            writer.append(events(id))
        assert writer.has_ended
        writer.tidy()
        assert not writer.has_ended
    ended = ended_files(tmp_path)
    assert len(ended) >= 2
    assert {path.suffix for path in ended} == {".gz"}
    assert all(len(gzip.decompress(path.read_bytes())) < 5000 for path in ended)
    assert [checked.problem for checked in verify(tmp_path)] == [""] * len(ended)
    assert ids(tmp_path) == list(range(1, 61))


def change_a_line(folder: Path) -> None:
    path = ended_files(folder)[1]
    path.write_bytes(path.read_bytes().replace(b'"n":', b'"m":').replace(b'"seq":', b'"sep":', 1))


def take_a_line(folder: Path) -> None:
    path = ended_files(folder)[1]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def take_a_file(folder: Path) -> None:
    ended_files(folder)[1].unlink()


def cut_the_end(folder: Path) -> None:
    path = ended_files(folder)[1]
    path.write_bytes(path.read_bytes()[:-1] + b"")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("meddle", [change_a_line, take_a_line, take_a_file, cut_the_end])
def test_what_was_meddled_with_is_found(tmp_path: Path, meddle: Callable[[Path], None]) -> None:
    with writing(tmp_path, max_file_bytes=4096, gzip=False) as writer:
        writer.open()
        for id in range(1, 81):
            writer.append(events(id))
    assert not any(checked.problem for checked in verify(tmp_path))
    meddle(tmp_path)
    assert [bool(checked.problem) for checked in verify(tmp_path)][1]


def test_the_chain_goes_on_over_a_restart(tmp_path: Path) -> None:
    for id in range(1, 61):
        with writing(tmp_path, max_file_bytes=4096) as writer:
            writer.open()
            writer.append(events(id))
            writer.tidy()
    checked = verify(tmp_path)
    assert len(checked) >= 2
    assert not any(one.problem for one in checked)


def test_a_day_that_turns_ends_the_file(tmp_path: Path) -> None:
    clock = Clock()
    with writing(tmp_path, clock, rotate="daily") as writer:
        writer.open()
        writer.append(events(1))
        clock.now += timedelta(days=1)
        writer.tidy()
        assert len(ended_files(tmp_path)) == 1, "also when nothing comes"
        writer.append(events(2))
        writer.append(events(3))
    assert (len(ended_files(tmp_path)), ids(tmp_path)) == (1, [1, 2, 3])
    with writing(tmp_path, clock, rotate="never") as writer:
        writer.open()
        clock.now += timedelta(days=400)
        writer.append(events(4))
    assert len(ended_files(tmp_path)) == 1


def test_what_is_too_old_or_too_much_goes_the_oldest_first(tmp_path: Path) -> None:
    for day in range(1, 6):
        path = tmp_path / f"events-2026010{day}T000000.000000Z.jsonl"
        path.write_bytes(b"x" * 1000)
        os.utime(path, (day * 86_400, day * 86_400))
    (tmp_path / "not-ours.jsonl").write_bytes(b"x" * 10_000)
    assert retain(tmp_path, 10 * 86_400, 1 << 30, now_s=12.5 * 86_400) == 2
    assert retain(tmp_path, 1e9, 2500, now_s=12.5 * 86_400) == 1
    assert [path.name[7:15] for path in ended_files(tmp_path)] == ["20260104", "20260105"]
    assert (tmp_path / "not-ours.jsonl").exists()


def test_a_file_that_was_moved_away_is_begun_again_and_ended_where_it_is(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        writer.open()
        writer.append(events(1))
        (tmp_path / CURRENT).rename(tmp_path / "taken.1")
        writer.append(events(2))
    assert [line.get("id") for line in lines(tmp_path / "taken.1")] == [1, None]
    assert lines(tmp_path / "taken.1")[-1]["name"] == END_NAME
    assert ids(tmp_path) == [2]


def test_a_file_that_was_made_shorter_goes_on_with_the_checksum_of_what_it_has(tmp_path: Path) -> None:
    with writing(tmp_path, max_file_bytes=4096) as writer:
        writer.open()
        writer.append(events(1, 2, 3))
        os.truncate(tmp_path / CURRENT, 0)
        for id in range(4, 30):
            writer.append(events(id))
    assert ids(tmp_path) == list(range(4, 30))
    assert not any(checked.problem for checked in verify(tmp_path))


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writing(tmp_path) as writer:
        writer.open()
        writer.append(events(1))
        write = os.write

        def half(fd: int, raw: Any) -> int:
            if len(raw) > 50:
                return write(fd, bytes(raw[:50]))
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            writer.append(events(2))
        monkeypatch.setattr(os, "write", write)
        writer.append(events(2))
    assert ids(tmp_path) == [1, 2]


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_what_is_no_file_of_ours_is_not_written(tmp_path: Path, what: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    log = tmp_path / "log"
    log.mkdir()
    {"link": lambda: (log / CURRENT).symlink_to(victim), "pipe": lambda: os.mkfifo(log / CURRENT)}.get(
        what, (log / CURRENT).mkdir
    )()
    with writing(log) as writer, pytest.raises(OSError, match=r"."):
        writer.open()
    assert victim.read_text() == "precious"


def test_left_overs_of_packing_are_taken_up_again(tmp_path: Path) -> None:
    with writing(tmp_path, max_file_bytes=4096, gzip=False) as writer:
        writer.open()
        for id in range(1, 41):
            writer.append(events(id))
    left = ended_files(tmp_path)
    (tmp_path / f"{left[0].name}.gz.tmp").write_bytes(b"half")
    with writing(tmp_path) as writer:
        writer.open()
        writer.tidy()
    assert [path.name for path in ended_files(tmp_path)] == [f"{path.name}.gz" for path in left]
    assert ids(tmp_path) == list(range(1, 41))
    assert not list(tmp_path.glob("*.tmp"))


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, *calls: str) -> Iterator[None]:
    """Meanwhile these calls of the system fail."""

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        for call in calls:
            broken.setattr(os, call, fail)
        yield


@pytest.mark.parametrize("format", ["skilld", "B"])
def test_what_the_disk_did_not_take_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    with writing(tmp_path, format=format, fsync="always") as writer:
        writer.open()
        writer.append(events(1, **SPAN))
        whole = (tmp_path / CURRENT).read_bytes()
        with failing(monkeypatch, "fsync"), pytest.raises(OSError, match="Input/output"):
            writer.append(events(2, **SPAN))
        assert (tmp_path / CURRENT).read_bytes() == whole
        with (
            failing(monkeypatch, "fsync", "ftruncate"),
            pytest.raises(OSError, match="Input/output"),
        ):
            writer.append(events(2, **SPAN))
        writer.append(events(2, 3, **SPAN))
        raw = (tmp_path / CURRENT).read_bytes()
    assert raw.count(b'"seq":' if format == "skilld" else b'"skilld.seq":') == (3 if format == "skilld" else 6)
    assert raw.startswith(whole)


FORGED = ({"skilld.start": True}, {"sha256": "0" * 64, "lines": 0})


@pytest.mark.parametrize("data", FORGED)
@pytest.mark.parametrize("span", [{}, SPAN])
def test_a_program_cannot_have_its_line_taken_for_one_of_the_logs_own(
    tmp_path: Path, data: dict[str, Any], span: dict[str, Any]
) -> None:
    with writing(tmp_path, format="B") as writer:
        writer.open()
        writer.append(events(1, name=END_NAME.removesuffix(".end") if span else END_NAME, data=data, **span))
        raw = (tmp_path / CURRENT).read_bytes()
    with writing(tmp_path, format="B") as writer:
        assert writer.open() == LastWritten(1, "ab", 1)
    assert (tmp_path / CURRENT).read_bytes() == raw


def test_a_long_torn_end_is_taken_away_to_the_last_whole_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilld.monitor.sinks.log_writer._TAIL_BYTES", 64)
    with writing(tmp_path) as writer:
        writer.open()
        writer.append(events(1, 2))
    whole = (tmp_path / CURRENT).read_bytes()
    (tmp_path / CURRENT).write_bytes(whole + b"x" * 1000)
    with writing(tmp_path) as writer:
        writer.open()
        writer.append(events(3))
    assert ids(tmp_path) == [1, 2, 3]


def test_an_event_that_no_line_can_hold_is_left_out_and_told(tmp_path: Path) -> None:
    deep: Any = {}
    for _ in range(3000):
        deep = {"a": deep}
    with writing(tmp_path) as writer:
        writer.open()
        assert writer.append([*events(1), *events(2, data=deep), *events(3)]) == [2]
        assert writer.append(events(4, data=deep)) == [4]
    assert ids(tmp_path) == [1, 3]


def test_on_a_full_disk_what_is_too_old_goes_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writing(tmp_path, max_file_bytes=4096, max_bytes=12_288) as writer:
        writer.open()
        for id in range(1, 161):
            writer.append(events(id))
        assert len(ended_files(tmp_path)) > 3
        with failing(monkeypatch, "fsync"), pytest.raises(OSError, match="Input/output"):
            writer.tidy()
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 12_288
        assert not list(tmp_path.glob("*.tmp")), "what could not be packed is in nobody's way"
        writer.tidy()
    assert {path.suffix for path in ended_files(tmp_path)} == {".gz"}


@contextmanager
def kept_names(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[list[set[str]]]:
    """Which names there were each time that the disk was told to keep those of this folder."""
    kept: list[set[str]] = []
    sync = os.fsync

    def note(fd: int) -> None:
        sync(fd)
        if os.path.samestat(os.fstat(fd), folder.stat()):
            kept.append(set(os.listdir(folder)))

    with monkeypatch.context() as watched:
        watched.setattr(os, "fsync", note)
        yield kept


def test_names_are_on_the_disk_as_lines_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kept_names(monkeypatch, tmp_path) as kept, writing(tmp_path, max_file_bytes=1024) as writer:
        writer.open()
        assert kept == [{CURRENT}], "before a line is in it"
        while not writer.has_ended:
            writer.append(events(1))
        (ended,) = ended_files(tmp_path)
        assert kept[1:] == [{CURRENT, ended.name}]
        writer.tidy()
        assert kept[2:] == [{CURRENT, ended.name, f"{ended.name}.gz"}], "what is packed goes behind it"


def test_where_nothing_is_to_be_on_the_disk_names_are_not_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kept_names(monkeypatch, tmp_path) as kept, writing(tmp_path, fsync="never") as writer:
        writer.open()
        writer.append(events(1))
        assert kept == []


def test_a_name_that_the_disk_did_not_take_is_tried_again_before_a_line_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writing(tmp_path, max_file_bytes=1024, fsync="rotation") as writer:
        with failing(monkeypatch, "fsync"), pytest.raises(OSError, match="Input/output"):
            writer.append(events(1))
        writer.append(events(1))
    assert ids(tmp_path) == [1]
    with writing(tmp_path, max_file_bytes=1024) as writer:
        writer.open()
        id = 1
        sync = os.fsync

        def fail_for_folders(fd: int) -> None:
            if os.path.samestat(os.fstat(fd), tmp_path.stat()):
                raise OSError(errno.EIO, "Input/output error")
            sync(fd)

        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", fail_for_folders)
            while not writer.has_ended:
                id += 1
                with suppress(OSError):
                    writer.append(events(id))
        writer.append(events(id))
        writer.tidy()
    assert ids(tmp_path) == list(range(1, id + 1))
    assert [checked.problem for checked in verify(tmp_path)] == [""]
