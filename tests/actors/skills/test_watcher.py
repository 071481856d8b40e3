"""Watching folders, and the whole way from an edit on disk to the snapshot."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from inotify_kit import inotify_counts, nothing_is_watched, until
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
        self.count = 0
        self.paths: set[Path] = set()
        self._changed = trio.Event()

    async def __call__(self, changes: frozenset[Path] | None) -> None:
        self.all.append(changes)
        self.count += 1
        self.paths |= changes or frozenset()
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def wait_until(self, what: Callable[[], bool]) -> None:
        while not what():
            await self._changed.wait()

    async def wait_for(self, path: Path | None) -> None:
        """Wait until `path` was reported (None: a look at everything), and forget the reports before that one."""
        await self.wait_until(lambda: any(_covers(changes, path) for changes in self.all))
        while not _covers(self.all[0], path):
            del self.all[0]
        if path is None or self.all[0] == frozenset({path}):
            del self.all[0]


def _covers(changes: frozenset[Path] | None, path: Path | None) -> bool:
    return path is None if changes is None else path in changes


def watching(
    folders: list[Path],
    body: Callable[[Reports], Any],
    links: Callable[[], dict[Path, Path]] = dict,
    *,
    quiet_s: float = 0.1,
    hold_s: float = 20.0,
) -> Reports:
    """Run `body` while `folders` are watched, from the first look on; what was reported.

    Where there is no storm, none is to be seen on a slow machine either: a look at everything after one would pass
    for that of a new round. So `hold_s` is long by default.
    """
    reports = Reports()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_folders, folders, reports, links)
            await reports.wait_for(None)
            await body(reports)
            nursery.cancel_scope.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skill_actors.skills.watcher._QUIET_S", quiet_s)
        patch.setattr("skill_actors.skills.watcher._HOLD_S", hold_s)
        run(main)
    return reports


def test_what_is_saved_in_several_steps_is_reported_once_when_it_is_quiet(tmp_path: Path, add_file: Make) -> None:
    async def body(reports: Reports) -> None:
        files = [add_file(tmp_path, name) for name in ("a.md", "b.md", "c.md")]
        for file in files:
            await reports.wait_for(file)

    reports = watching([tmp_path], body, quiet_s=1)  # longer than whoever tells of them may be kept from it
    assert reports.count == 2  # the first look at everything, and this


def test_what_never_becomes_quiet_is_reported_all_the_same(tmp_path: Path, add_file: Make) -> None:
    async def body(reports: Reports) -> None:
        async def storm() -> None:
            while True:
                add_file(tmp_path, "storm.md")
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(storm)
            await reports.wait_for(tmp_path / "storm.md")
            await reports.wait_for(tmp_path / "storm.md")
            nursery.cancel_scope.cancel()

    watching([tmp_path], body, hold_s=0.4)


def test_what_editors_leave_is_not_reported(tmp_path: Path, add_file: Make) -> None:
    async def body(reports: Reports) -> None:
        for name in ("a.md~", ".a.md.swp", "4913", ".git/index", "__pycache__/a.pyc"):
            add_file(tmp_path, name)
        await reports.wait_for(add_file(tmp_path, "real.md"))

    reports = watching([tmp_path], body)
    assert reports.paths == {tmp_path / "real.md"}


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
    monkeypatch.setattr("skill_actors.skills.watcher._POLLED_EVERY_S", 0.05)
    monkeypatch.setattr("skill_actors.skills.folder_watch.MAX_FOLDERS", 1)
    add_file(tmp_path, "below/a.md")

    async def body(reports: Reports) -> None:
        for _ in range(3):
            await reports.wait_for(None)

    watching([tmp_path], body)
    assert caplog.text.count("looked at again and again instead") == 1


@pytest.mark.parametrize("limit", ["instances", "watches"])
def test_the_limits_of_the_kernel_lead_to_polling(tmp_path: Path, add_file: Make, limit: str) -> None:
    for number in range(5):
        add_file(tmp_path, f"{number}/a.md")
    program = (
        "import logging, sys, trio\n"
        "from pathlib import Path\n"
        "from skill_actors.skills.watcher import watch_folders\n"
        "logging.basicConfig()\n"
        "reports = []\n"
        "async def report(changes):\n"
        "    reports.append(changes)\n"
        "async def main():\n"
        "    with trio.move_on_after(20):\n"
        "        async with trio.open_nursery() as nursery:\n"
        "            nursery.start_soon(watch_folders, [Path(sys.argv[1])], report)\n"
        "            while len(reports) < 2:\n"
        "                await trio.sleep(0.01)\n"
        "            nursery.cancel_scope.cancel()\n"
        "trio.run(main)\n"
        "print(reports[:2])\n"
    )
    script = f'echo 2 > /proc/sys/user/max_inotify_{limit} && echo limited && exec "$0" "$@"'
    if limit == "instances":
        script = script.replace("echo 2", "echo 0")
    command = ["unshare", "-Ur", "sh", "-c", script, sys.executable, "-c", program, str(tmp_path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if not done.stdout.startswith("limited"):
        pytest.skip(f"no limits of its own for a user namespace here: {done.stderr.strip()[:200]}")
    assert done.stdout == "limited\n[None, None]\n", done.stderr
    assert done.stderr.count("looked at again and again instead") == 1


def test_links_are_not_followed_but_what_they_lead_to_is_watched_if_asked_for(tmp_path: Path, add_file: Make) -> None:
    source, target, other = tmp_path / "source", tmp_path / "target", tmp_path / "other"
    add_file(target, "a.md")
    add_file(other, "a.md")
    add_file(source, "a.md")
    (source / "link").symlink_to(target)
    (source / "unasked").symlink_to(other)

    async def body(reports: Reports) -> None:
        add_file(other, "b.md")
        await reports.wait_for(add_file(target, "b.md"))

    reports = watching([source], body, lambda: {source / "link": target})
    assert reports.paths == {target / "b.md"}


def test_link_that_leads_elsewhere_by_a_link_on_the_way_is_noticed(tmp_path: Path, add_file: Make) -> None:
    add_file(tmp_path, "releases/1/a.md")
    add_file(tmp_path, "releases/2/a.md")
    source = tmp_path / "source"
    source.mkdir()
    current = tmp_path / "current"
    current.symlink_to("releases/1")
    (source / "link").symlink_to(current)

    async def body(reports: Reports) -> None:
        (tmp_path / "new").symlink_to("releases/2")
        (tmp_path / "new").rename(current)
        await reports.wait_for(None)
        await reports.wait_for(add_file(tmp_path, "releases/2/b.md"))

    watching([source], body, lambda: {source / "link": (source / "link").resolve()})


def test_new_folders_are_watched_however_deep_and_moved_ones_under_their_new_name(
    tmp_path: Path, add_file: Make
) -> None:
    async def body(reports: Reports) -> None:
        add_file(tmp_path, "a/b/c/d.md")
        await reports.wait_for(tmp_path / "a")
        await reports.wait_for(add_file(tmp_path, "a/b/c/e.md"))
        (tmp_path / "a").rename(tmp_path / "z")
        await reports.wait_for(tmp_path / "z")
        await reports.wait_for(add_file(tmp_path, "z/b/c/f.md"))

    watching([tmp_path], body)


def test_source_that_is_a_file_is_polled(tmp_path: Path, add_file: Make) -> None:
    file = add_file(tmp_path, "one.skill")

    async def body(reports: Reports) -> None:
        add_file(tmp_path, "one.skill", "another")
        await reports.wait_for(None)

    watching([file], body)


_STORM = """
import os, sys
while True:
    for file in sys.argv[1:]:
        os.utime(file)
"""


def test_everything_is_looked_at_after_a_storm_in_which_the_kernel_may_have_lost_events(
    tmp_path: Path, add_file: Make
) -> None:
    files = {add_file(tmp_path, str(number)) for number in range(2)}

    async def body(reports: Reports) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.run_process, [sys.executable, "-c", _STORM, *map(str, files)])
            await reports.wait_until(lambda: reports.count > 3 and reports.paths >= files)
            nursery.cancel_scope.cancel()
        await reports.wait_for(None)
        await reports.wait_for(add_file(tmp_path, "after"))

    # Quiet is longer than the storm may be kept from running: it is told of because it does not end.
    watching([tmp_path], body, quiet_s=1, hold_s=0.4)


def test_names_that_are_not_utf8_hurt_nothing_else(tmp_path: Path, add_file: Make) -> None:
    async def body(reports: Reports) -> None:
        for number in range(3):
            odd = os.fsencode(tmp_path) + b"/odd-\xff-%d" % number
            os.mkdir(odd)
            os.mkdir(odd + b"/\xfe")
            await reports.wait_for(None)
            await reports.wait_for(add_file(tmp_path, f"{number}/a.md").parent)
            await reports.wait_for(add_file(tmp_path, f"{number}/b.md"))

    watching([tmp_path], body)


def test_nothing_is_left_open_by_rounds_that_ended(tmp_path: Path, add_file: Make) -> None:
    folder = tmp_path / "skills"
    folder.mkdir()

    async def body(reports: Reports) -> None:
        for number in range(5):
            folder.rename(tmp_path / str(number))
            folder.mkdir()
            await reports.wait_for(None)
            await reports.wait_for(add_file(folder, "a.md"))
        await until(lambda: inotify_counts() == (1, 1))

    run(until, nothing_is_watched)
    watching([folder], body)
    run(until, nothing_is_watched)


@pytest.mark.alone
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
