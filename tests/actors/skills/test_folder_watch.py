"""Watching folders, as one thread sees it."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inotify_kit import inotify_counts, nothing_is_watched, until
from skill_actors.skills.folder_watch import FolderWatch, WatchRefused
from support import run

Make = Callable[..., Path]


@pytest.fixture
def watch() -> Iterator[FolderWatch]:
    run(until, nothing_is_watched)  # by the test before
    watch = FolderWatch(threading.Event())
    yield watch
    watch.close()
    run(until, nothing_is_watched)


def seen(watch: FolderWatch, path: Path) -> set[Path]:
    """All that was told until `path` was."""
    found: set[Path] = set()
    ends_at = time.monotonic() + 20
    while path not in found:
        assert time.monotonic() < ends_at
        found |= watch.step(0.2).paths
    return found


def watched(watch: FolderWatch, folders: int) -> None:
    """Wait until just so many folders are watched, by the kernel too."""
    ends_at = time.monotonic() + 20
    while (inotify_counts()[1], watch.size) != (folders, folders):
        assert time.monotonic() < ends_at, (inotify_counts(), watch.size)
        watch.step(0.05)


def test_folders_that_come_one_by_one_need_few_descriptors(watch: FolderWatch, tmp_path: Path, add_file: Make) -> None:
    watch.add_tops([str(tmp_path)])
    for number in range(100):
        (tmp_path / str(number)).mkdir()
        seen(watch, tmp_path / str(number))
    watched(watch, 101)
    assert inotify_counts()[0] <= 8
    for number in (0, 50, 99):
        seen(watch, add_file(tmp_path, f"{number}/a.md"))


@pytest.mark.parametrize("part", [1, 2, 512])
def test_folders_that_went_or_moved_cost_no_watches(
    watch: FolderWatch, tmp_path: Path, add_file: Make, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr("skill_actors.skills.folder_watch._PART_FOLDERS", part)
    add_file(tmp_path, "a/b/c/d/e.md")
    watch.add_tops([str(tmp_path)])
    watched(watch, 5)
    (tmp_path / "a").rename(tmp_path / "z")
    seen(watch, tmp_path / "z")
    watched(watch, 5)
    seen(watch, add_file(tmp_path, "z/b/c/d/f.md"))
    shutil.rmtree(tmp_path / "z/b")
    watched(watch, 2)
    add_file(tmp_path, "z/b/c/d/e.md")
    watched(watch, 5)
    seen(watch, add_file(tmp_path, "z/b/c/d/f.md"))


def test_many_folders_are_watched_in_parts(
    watch: FolderWatch, tmp_path: Path, add_file: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skill_actors.skills.folder_watch._PART_FOLDERS", 4)
    for number in range(30):
        (tmp_path / str(number)).mkdir()
    watch.add_tops([str(tmp_path)])
    watched(watch, 31)
    assert inotify_counts()[0] == 8
    for number in range(30):
        seen(watch, add_file(tmp_path, f"{number}/a.md"))


def test_folders_that_vanish_before_they_are_watched_are_passed_over(
    watch: FolderWatch, tmp_path: Path, add_file: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_file(tmp_path, "here/a.md")
    scandir = os.scandir

    def listed(path: str) -> object:  # what was listed, and is gone when it is to be watched
        found = scandir(path)
        (tmp_path / "gone").mkdir(exist_ok=True)
        return found

    monkeypatch.setattr(os, "scandir", listed)
    watch.add_tops([str(tmp_path)])
    watch.step(0)
    monkeypatch.undo()
    (tmp_path / "gone").rmdir()
    seen(watch, add_file(tmp_path, "here/b.md"))


def test_folders_that_come_with_names_that_are_not_utf8_are_watched(
    watch: FolderWatch, tmp_path: Path, add_file: Make
) -> None:
    watch.add_tops([str(tmp_path)])
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    add_file(tmp_path, "here/a.md")
    assert watch.step(20).lost
    watched(watch, 2)
    seen(watch, add_file(tmp_path, "here/b.md"))


def test_a_top_that_went_is_told(watch: FolderWatch, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    watch.add_tops([str(top)])
    top.rmdir()
    assert watch.step(20).top_went


def test_a_top_whose_name_is_not_utf8_is_refused(watch: FolderWatch, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(odd)
    with pytest.raises(WatchRefused):
        watch.add_tops([os.fsdecode(odd)])


def test_a_stop_ends_a_step(tmp_path: Path) -> None:
    stop = threading.Event()
    watch = FolderWatch(stop)
    watch.add_tops([str(tmp_path)])
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    assert not watch.step(60)
    assert time.monotonic() - began < 10
    watch.close()
