"""Watching folders, and the whole way from an edit on disk to the snapshot."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import watchfiles

from skill_actors.runtime import ChildSpec, Strategy, open_system
from skill_actors.skills import PublishedSkills, Registry, Source, Watcher
from skill_actors.skills.watcher import watch_folders
from skill_actors.telemetry import Bus
from support import run

Make = Callable[..., Path]


class Reports:
    """What `watch_folders` reported, and a way to wait for it."""

    def __init__(self) -> None:
        self.all: list[frozenset[Path] | None] = []
        self._changed = trio.Event()

    async def __call__(self, changes: frozenset[Path] | None) -> None:
        self.all.append(changes)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def wait_for(self, path: Path | None) -> None:
        """Wait until `path` was reported (None: a look at everything), and forget what came before."""
        while not any(_covers(changes, path) for changes in self.all):
            await self._changed.wait()
        self.all.clear()


def _covers(changes: frozenset[Path] | None, path: Path | None) -> bool:
    return path is None if changes is None else path in changes


def watching(folders: list[Path], body: Callable[[Reports], Any]) -> None:
    """Run `body` while `folders` are watched, from the first look on."""

    async def main() -> None:
        reports = Reports()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_folders, folders, reports)
            await reports.wait_for(None)
            await body(reports)
            nursery.cancel_scope.cancel()

    run(main)


def test_change_is_reported_at_once_and_again_when_it_is_quiet(tmp_path: Path, add_file: Make) -> None:
    async def body(reports: Reports) -> None:
        file = add_file(tmp_path, "SKILL.md")
        await reports.wait_for(file)
        await reports.wait_for(file)

    watching([tmp_path], body)


def test_what_editors_leave_is_not_reported(tmp_path: Path, add_file: Make) -> None:
    async def body(reports: Reports) -> None:
        for name in ("a.md~", ".a.md.swp", "4913", ".git/index", "__pycache__/a.pyc"):
            add_file(tmp_path, name)
        file = add_file(tmp_path, "real.md")
        await reports.wait_for(file)
        await reports.wait_for(file)  # the second look, at all that was collected
        assert reports.all == []

    watching([tmp_path], body)


def test_names_above_the_watched_folder_do_not_matter(tmp_path: Path, add_file: Make) -> None:
    folder = tmp_path / "backup~" / ".git"
    folder.mkdir(parents=True)

    async def body(reports: Reports) -> None:
        await reports.wait_for(add_file(folder, "real.md"))

    watching([folder], body)


def test_folder_that_is_missing_is_watched_once_it_is_there(tmp_path: Path, add_file: Make) -> None:
    folder = tmp_path / "later/skills"

    async def body(reports: Reports) -> None:
        add_file(folder, "a.md")
        await reports.wait_for(None)
        await reports.wait_for(add_file(folder, "b.md"))

    watching([folder], body)


def test_folder_that_is_missing_beside_one_that_is_there_is_found_too(tmp_path: Path, add_file: Make) -> None:
    (tmp_path / "here").mkdir()

    async def body(reports: Reports) -> None:
        add_file(tmp_path, "later/a.md")
        await reports.wait_for(None)
        await reports.wait_for(add_file(tmp_path, "later/b.md"))

    watching([tmp_path / "here", tmp_path / "later"], body)


def test_folder_that_is_deleted_and_made_again_is_watched_again(tmp_path: Path, add_file: Make) -> None:
    folder = tmp_path / "skills"
    folder.mkdir()

    async def body(reports: Reports) -> None:
        for _ in range(2):
            shutil.rmtree(folder)
            folder.mkdir()
            await reports.wait_for(None)
            await reports.wait_for(add_file(folder, "a.md"))

    watching([folder], body)


def test_folder_that_is_replaced_by_another_is_watched_again(tmp_path: Path, add_file: Make) -> None:
    add_file(tmp_path, "one/a.md")
    add_file(tmp_path, "two/a.md")
    link = tmp_path / "current"
    link.symlink_to("one")

    async def body(reports: Reports) -> None:
        new = tmp_path / "new"
        new.symlink_to("two")
        new.rename(link)
        await reports.wait_for(None)
        await reports.wait_for(add_file(tmp_path, "two/a.md"))

    watching([link], body)


def test_very_many_changes_at_once_mean_a_look_at_everything(
    tmp_path: Path, add_file: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skill_actors.skills.watcher._BULK", 10)

    async def body(reports: Reports) -> None:
        for number in range(100):
            add_file(tmp_path, str(number))
        await reports.wait_for(None)

    watching([tmp_path], body)


def test_folders_are_polled_where_the_kernel_refuses_to_watch(
    tmp_path: Path, add_file: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch = watchfiles.watch

    def refuse(*paths: str, force_polling: bool, **options: Any) -> Iterator[Any]:
        if not force_polling:
            raise OSError(28, "OS file watch limit reached")
        yield from watch(*paths, force_polling=True, **options)

    monkeypatch.setattr(watchfiles, "watch", refuse)

    async def body(reports: Reports) -> None:
        await reports.wait_for(add_file(tmp_path, "a.md"))

    watching([tmp_path], body)
    assert "polled instead" in caplog.text


def test_stop_takes_less_than_a_quarter_of_a_second(tmp_path: Path) -> None:
    async def stop_once() -> float:
        reports = Reports()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_folders, [tmp_path], reports)
            await reports.wait_for(None)
            started = time.perf_counter()
            nursery.cancel_scope.cancel()
        return time.perf_counter() - started

    assert min(run(stop_once) for _ in range(3)) < 0.25


def test_edits_on_disk_reach_the_snapshot(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "source/tides")
    published = PublishedSkills()
    bus = Bus()
    loaded = [trio.Event()]

    def note(*_measured: object) -> None:
        loaded[0].set()
        loaded[0] = trio.Event()

    bus.attach("test", ["skill.reloaded"], note)
    specs = [
        ChildSpec(
            id="registry",
            name="registry",
            factory=lambda: Registry(published, [Source(path=tmp_path / "source")], bus),
        ),
        ChildSpec(id="watcher", factory=lambda: Watcher([tmp_path / "source"], "registry"), isolated=True),
    ]

    async def seen(what: Callable[[], bool]) -> None:
        while not what():
            await loaded[0].wait()

    def description() -> str:
        return published.snapshot.skills["tides"].description

    async def main() -> None:
        async with open_system(specs, strategy=Strategy.REST_FOR_ONE):
            make_skill(folder, description="Edited in place")
            await seen(lambda: description() == "Edited in place")
            make_skill(tmp_path / "draft", name="tides", description="Renamed over")
            (tmp_path / "draft/SKILL.md").rename(folder / "SKILL.md")
            await seen(lambda: description() == "Renamed over")
            (folder / "SKILL.md").write_text("half writ")
            await seen(lambda: bool(published.snapshot.failures))
            assert description() == "Renamed over"
            make_skill(folder, description="Whole again")
            await seen(lambda: description() == "Whole again" and not published.snapshot.failures)
            shutil.copytree(folder, tmp_path / "source/other/deep/copy")
            make_skill(tmp_path / "source/other/deep/copy")
            await seen(lambda: "copy" in published.snapshot.skills)
            shutil.rmtree(tmp_path / "source")
            make_skill(tmp_path / "source/moon")
            await seen(lambda: list(published.snapshot.skills) == ["moon"])
            started = time.perf_counter()
        assert time.perf_counter() - started < 2

    run(main)
