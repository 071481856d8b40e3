"""Watching the sources, so that an edit on disk is in the snapshot within a second.

Rounds. A round watches the real paths of the sources that exist. It begins with a look at everything, since changes
before the watch stood were not seen, and ends when a source appears, disappears or is made anew: such things give no
event of their own, so the sources' identities are polled. Within a round every burst of changes is reported at once,
and once more when it is quiet: what was half written at the first look is whole at the second.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio
import watchfiles

from skill_actors.runtime import TrioActor
from skill_actors.skills.ignored import is_ignored
from skill_actors.skills.registry import FoldersChanged

__all__ = ["Watcher", "watch_folders"]

_STEP_MS: Final = 50  # also how soon the watching thread sees that it shall stop
_DEBOUNCE_MS: Final = 400
_QUIET_MS: Final = 200
_POLL_S: Final = 0.4
_BULK: Final = 1_000  # so many at once: the kernel's queue may have overflowed and lost the rest
_RELOAD_TIMEOUT_S: Final = 120.0
_REGISTRY_WAIT_S: Final = 30.0  # it may be starting again, with a first load to do

_log = logging.getLogger(__name__)

Changes = frozenset[Path] | None
Report = Callable[[Changes], Awaitable[None]]
Identities = dict[str, tuple[int, int]]  # device and inode, by real path
Batch = set[tuple[watchfiles.Change, str]]


async def watch_folders(folders: Sequence[Path], report: Report) -> None:
    """Await `report` with the changed paths, or with None for "look at everything", until cancelled.

    Folders may be missing, and may come and go. Changes that happen while `report` runs are reported after it.
    """
    await _Watch(folders, report).run()


class _Watch:
    def __init__(self, folders: Sequence[Path], report: Report) -> None:
        self._folders = tuple(folders)
        self._report = report
        self._limiter = trio.CapacityLimiter(2)  # the watching thread, and a short look
        self._force_polling = False

    async def run(self) -> None:
        told_missing = False
        while True:
            identities = await self._look()
            if identities:
                await self._round(identities)
                told_missing = False
            elif told_missing:
                await trio.sleep(_POLL_S)
            else:
                await self._report(None)
                told_missing = True

    async def _look(self) -> Identities:
        return await trio.to_thread.run_sync(_identities, self._folders, limiter=self._limiter, abandon_on_cancel=True)

    async def _round(self, identities: Identities) -> None:
        stop = threading.Event()
        steps = self._steps(list(identities), stop)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set_when_cancelled, stop)
            try:
                await self._follow(steps, identities)
            finally:
                stop.set()
                steps.close()
            nursery.cancel_scope.cancel()

    def _steps(self, targets: list[str], stop: threading.Event) -> Generator[Batch, None, None]:
        # Not awatch: it sets up its watches on the event loop's thread, 77 ms for 3,000 folders.
        return watchfiles.watch(
            *targets,
            watch_filter=_Filter(targets),
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=stop,
            rust_timeout=_QUIET_MS,
            yield_on_timeout=True,
            force_polling=self._force_polling,
            poll_delay_ms=int(_POLL_S * 1000),
            ignore_permission_denied=True,
        )

    async def _follow(self, steps: Generator[Batch, None, None], identities: Identities) -> None:
        unsettled: Changes = None  # everything: nothing was watched before
        quiet_before = trio.current_time()
        while (batch := await self._next(steps)) is not None:
            if batch:
                paths = _paths(batch)
                await self._report(paths)
                unsettled = None if paths is None or unsettled is None else unsettled | paths
            elif unsettled is None or unsettled:
                await self._report(unsettled)
                unsettled = frozenset()
            if any(change is watchfiles.Change.deleted and path in identities for change, path in batch):
                return
            if trio.current_time() - quiet_before >= _POLL_S:
                quiet_before = trio.current_time()
                if await self._look() != identities:
                    return

    async def _next(self, steps: Generator[Batch, None, None]) -> Batch | None:
        try:
            return await trio.to_thread.run_sync(next, steps, None, limiter=self._limiter)
        except OSError as error:
            if self._force_polling:
                raise
            _log.warning("watching by inotify failed (%s); the folders are polled instead", error)
            self._force_polling = True
            return None


async def _set_when_cancelled(event: threading.Event) -> None:
    try:
        await trio.sleep_forever()
    finally:
        event.set()


def _identities(folders: Iterable[Path]) -> Identities:
    found: Identities = {}
    for folder in folders:
        real = os.path.realpath(folder)
        try:
            info = os.stat(real)
        except OSError:
            continue  # missing: it is looked for again
        if os.path.isdir(real):
            found[real] = (info.st_dev, info.st_ino)
    return found


def _paths(batch: Batch) -> Changes:
    return None if len(batch) >= _BULK else frozenset(Path(path) for _, path in batch)


@dataclass(frozen=True, slots=True)
class _Filter:
    """Lets pass what may belong to a skill. Only names below the watched folders count."""

    targets: Sequence[str]

    def __call__(self, change: watchfiles.Change, path: str) -> bool:
        for target in self.targets:
            if path.startswith(target):
                path = path[len(target) :]
                break
        return not any(is_ignored(name) for name in path.split(os.sep))


class Watcher(TrioActor):
    """Tells the Registry, found by its name in the Directory, what changed below `folders`. Stops within 250 ms."""

    def __init__(self, folders: Sequence[Path], registry: str) -> None:
        super().__init__()
        self._folders = tuple(folders)
        self._registry = registry

    async def setup(self) -> None:
        """Begin to watch, beside the messages."""
        self.spawn(watch_folders, self._folders, self._reload)

    async def _reload(self, changes: Changes) -> None:
        registry = self.directory.named(self._registry)
        await registry.call(FoldersChanged(changes), timeout=_RELOAD_TIMEOUT_S, wait_s=_REGISTRY_WAIT_S)
