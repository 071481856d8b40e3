"""Watching the sources, so that an edit on disk is in the snapshot within a second.

Rounds. A round watches the real paths of the sources that exist, and of what links in them lead to. It begins with a
look at everything, since changes before the watch stood were not seen, and ends when one of these places appears,
disappears or becomes another: such things give no event of their own, so their identities are polled. Within a round
changes are reported when it has been quiet for a moment, so that what is saved in several steps is taken as a whole;
if it does not become quiet, what changed is reported all the same, and everything is looked at once it is quiet: the
kernel's queue may have overflowed, of which watchfiles says nothing.

Where the kernel grants no watch, everything is looked at again and again, with a warning, and a watch is tried anew
every minute.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from skill_actors.runtime import TrioActor
from skill_actors.skills.folder_watch import FolderWatch, WatchRefused
from skill_actors.skills.registry import FoldersChanged, PublishedSkills

__all__ = ["Watcher", "watch_folders"]

_QUIET_S: Final = 0.1
_HOLD_S: Final = 0.4  # the longest that a change waits for quiet
_POLL_S: Final = 0.4
_BULK: Final = 1_000  # so many at once: looking at everything costs no more
_POLLED_EVERY_S: Final = 1.0
_POLLED_SHARE: Final = 5.0  # and never more than this part of the time
_TRY_AGAIN_S: Final = 60.0
_RELOAD_TIMEOUT_S: Final = 120.0
_REGISTRY_WAIT_S: Final = 30.0  # it may be starting again, with a first load to do

_log = logging.getLogger(__name__)

Changes = frozenset[Path] | None
Report = Callable[[Changes], Awaitable[None]]
Links = Mapping[Path, Path]  # what a link is, and what it led to when skills were looked for
Place = tuple[str, tuple[int, ...]]  # real path, and what tells it from another at the same path
Places = dict[Path, Place]  # by path as configured, or of the link


async def watch_folders(folders: Sequence[Path], report: Report, links: Callable[[], Links] = dict) -> None:
    """Await `report` with the changed paths, or with None for "look at everything", until cancelled.

    Folders may be missing, may come and go, and may be files, which are polled. Changes that happen while `report`
    runs are reported after it. `links` tells what is to be watched besides.
    """
    await _Watch(folders, report, links).run()


class _Watch:
    def __init__(self, folders: Sequence[Path], report: Report, links: Callable[[], Links]) -> None:
        self._folders = tuple(folders)
        self._report = report
        self._links = links
        self._limiter = trio.CapacityLimiter(2)
        self._warned = False

    async def run(self) -> None:
        told_missing = False
        while True:
            places = await self._look()
            if places:
                await self._round(places)
                told_missing = False
            elif told_missing:
                await trio.sleep(_POLL_S)
            else:
                await self._report(None)
                told_missing = True

    async def _look(self) -> Places:
        links = dict(self._links())
        return await trio.to_thread.run_sync(
            _places, self._folders, links, limiter=self._limiter, abandon_on_cancel=True
        )

    async def _round(self, places: Places) -> None:
        stop = threading.Event()
        watch = FolderWatch(stop)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_set_when_cancelled, stop)
                refused = await self._follow(watch, places)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(watch.close, limiter=self._limiter)
        if refused is not None:
            await self._poll(places, refused)

    async def _follow(self, watch: FolderWatch, places: Places) -> WatchRefused | None:
        tops = [real for real, identity in places.values() if not _is_file(identity)]
        try:
            await trio.to_thread.run_sync(watch.add_tops, tops, limiter=self._limiter)
            self._warned = False
            await _Round(watch, places, self._report, self._look, self._limiter).run()
        except WatchRefused as refused:
            return refused
        return None

    async def _poll(self, places: Places, error: WatchRefused) -> None:
        """Look at everything, for a minute or until a place is another."""
        if not self._warned:
            _log.warning("skill folders cannot be watched (%s); they are looked at again and again instead", error)
            self._warned = True
        ends_at = trio.current_time() + _TRY_AGAIN_S
        while trio.current_time() < ends_at:
            began = trio.current_time()
            await self._report(None)
            await trio.sleep(max(_POLLED_EVERY_S, (trio.current_time() - began) * _POLLED_SHARE))
            if await self._look() != places:
                return


class _Round:
    """From a watch that stands to the moment that another is needed."""

    def __init__(
        self,
        watch: FolderWatch,
        places: Places,
        report: Report,
        look: Callable[[], Awaitable[Places]],
        limiter: trio.CapacityLimiter,
    ) -> None:
        self._watch = watch
        self._places = places
        self._report = report
        self._look = look
        self._limiter = limiter
        self._changed: set[Path] = set()
        self._everything = False  # may have changed
        self._stormed = False  # it did not become quiet
        self._since = 0.0  # when the oldest of the changes came
        self._ended = False

    async def run(self) -> None:
        await self._report(None)
        looked_at = trio.current_time()
        while not self._ended:
            await self._step()
            if trio.current_time() - looked_at >= _POLL_S:
                self._ended = await self._look() != self._places or self._ended
                looked_at = trio.current_time()

    async def _step(self) -> None:
        """Until something happens; what happened before is reported if nothing does for a moment."""
        waiting = bool(self._changed) or self._everything or self._stormed
        wait_s = _QUIET_S if waiting else _POLL_S
        changes = await trio.to_thread.run_sync(self._watch.step, wait_s, limiter=self._limiter)
        self._ended = changes.top_went
        if changes:
            self._since = self._since if waiting else trio.current_time()
            self._changed |= changes.paths
            self._everything = self._everything or changes.lost or len(self._changed) >= _BULK
            if trio.current_time() - self._since >= _HOLD_S:
                await self._report_changes(quiet=False)
        elif waiting:
            await self._report_changes(quiet=True)

    async def _report_changes(self, *, quiet: bool) -> None:
        everything = self._everything or (quiet and self._stormed)
        changed, self._changed = frozenset(self._changed), set()
        self._everything, self._stormed = False, not quiet
        self._since = trio.current_time()
        await self._report(None if everything else changed)


def _places(folders: Sequence[Path], links: Links) -> Places:
    found: Places = {}
    for folder in folders:
        place = _place(folder)
        if place is not None:  # else it is looked for again
            found[folder] = place
    for link, target in links.items():
        place = _place(link)
        if place is not None and place[0] == str(target):  # else whoever looks for skills has to judge it first
            found[link] = place
    return found


def _place(path: Path) -> Place | None:
    real = os.path.realpath(path)
    try:
        info = os.stat(real)
    except OSError:
        return None
    if os.path.isdir(real):
        return real, (info.st_dev, info.st_ino)
    return real, (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _is_file(identity: tuple[int, ...]) -> bool:
    return len(identity) > 2


async def _set_when_cancelled(event: threading.Event) -> None:
    try:
        await trio.sleep_forever()
    finally:
        event.set()


class Watcher(TrioActor):
    """Tells the Registry, found by its name in the Directory, what changed below `folders`. Stops within 250 ms.

    Args:
        folders: the sources.
        registry: the name.
        published: where that Registry tells what links lead to; without it, links out of the folders are not watched.

    """

    def __init__(self, folders: Sequence[Path], registry: str, published: PublishedSkills | None = None) -> None:
        super().__init__()
        self._folders = tuple(folders)
        self._registry = registry
        self._published = published

    async def setup(self) -> None:
        """Begin to watch, beside the messages."""
        self.spawn(watch_folders, self._folders, self._reload, self._links)

    def _links(self) -> Links:
        return {} if self._published is None else self._published.linked

    async def _reload(self, changes: Changes) -> None:
        registry = self.directory.named(self._registry)
        await registry.call(FoldersChanged(changes), timeout=_RELOAD_TIMEOUT_S, wait_s=_REGISTRY_WAIT_S)
