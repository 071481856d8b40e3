"""Every folder below some tops, watched by watchfiles: no link followed, new folders taken in as they come.

watchfiles is given each folder by itself, since what it is given to watch with all below it it follows by links
too, wherever they lead. It cannot be given more folders later, and holds the interpreter while it takes them, 15 us
each; so the folders are in several parts, of a few hundred, and those that came are in small ones, which are merged.

Paths that are told are real ones. A folder that came is told as itself, for all that is in it: what happened in it
before it was watched has no event of its own.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Collection, Generator, Iterable, Sequence
from pathlib import Path
from typing import Final

from watchfiles import Change, watch

from skill_actors.skills.ignored import is_ignored

__all__ = ["Changes", "FolderWatch", "WatchRefused"]

MAX_FOLDERS: Final = 200_000
_PART_FOLDERS: Final = 512  # the interpreter is held for 8 ms
_PARTS: Final = 16  # rather than more of them, larger ones: a user has 128 inotify descriptors
_STEP_S: Final = 0.05
_SHORT_MS: Final = 1  # as long as watchfiles waits at each part
_OPENINGS: Final = 3

Batch = set[tuple[Change, str]]


class WatchRefused(Exception):
    """The kernel has no inotify, or grants no more of it to this user."""


class Changes:
    """Paths that changed. `lost`: anything may have changed besides; `top_went`: what is watched is not there now."""

    __slots__ = ("lost", "paths", "top_went", "unfollowed")

    def __init__(self) -> None:
        self.paths: set[Path] = set()
        self.unfollowed: set[str] = set()  # came or went, and the watch is still to follow
        self.lost = False
        self.top_went = False

    def __bool__(self) -> bool:
        return bool(self.paths) or self.lost or self.top_went


class FolderWatch:
    """The watch; nothing is watched before `add_tops`. Used by one thread at a time; close it.

    Args:
        stop: when it is set, what blocks returns within 250 ms, with its work half done.

    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._parts: list[_Part] = []
        self._tops: set[str] = set()
        self._earlier = Changes()

    @property
    def size(self) -> int:
        """How many folders are watched."""
        return sum(len(part.folders) for part in self._parts)

    def add_tops(self, tops: Iterable[str]) -> None:
        """Watch these folders, given by their real paths, and all below them. Blocks.

        Raises:
            WatchRefused: also if there are more than 200,000 folders.

        """
        added = set(tops)
        for top in added:
            if not _is_utf8(top):
                raise WatchRefused(f"{top!r} is not UTF-8")
        self._tops |= added
        self._earlier.unfollowed |= added
        self._follow(self._earlier)

    def step(self, wait_s: float) -> Changes:
        """What happened since the last step. Blocks until something does, for `wait_s` seconds at most.

        Raises:
            WatchRefused: as `add_tops`, for folders that came.

        """
        ends_at = time.monotonic() + wait_s
        changes, self._earlier = self._earlier, Changes()
        while True:
            for part in list(self._parts):
                self._take(part, changes)
            self._follow(changes)
            if changes or self._stop.is_set() or time.monotonic() >= ends_at:
                return changes
            self._stop.wait(_STEP_S)

    def close(self) -> None:
        """Nothing is watched any more. Blocks."""
        parts, self._parts = self._parts, []
        for part in parts:
            part.close()

    def _take(self, part: _Part, changes: Changes) -> None:
        """What happened in a part. If that cannot be told, as for a name that is not UTF-8, it is to be made anew."""
        try:
            batch = part.take()
        except RuntimeError:
            changes.lost = True
            changes.unfollowed |= part.folders
            return
        for change, path in batch:
            if change is Change.deleted and path in self._tops:
                changes.top_went = True
            elif not is_ignored(os.path.basename(path)):
                changes.paths.add(Path(path))
                if change is not Change.modified or not self._is_watched(path):
                    changes.unfollowed.add(path)

    def _is_watched(self, path: str) -> bool:
        return any(path in part.folders for part in self._parts)

    def _follow(self, changes: Changes) -> None:
        """Watch the folders that came, and those that come meanwhile; forget those that went."""
        while changes.unfollowed and not self._stop.is_set():
            moved, changes.unfollowed = changes.unfollowed, set()
            self._forget(moved, changes)
            came = self._below(path for path in moved if path in self._tops or _is_folder(path))
            self._watch(came, changes)
            # Folders that were made before their parent was watched have no event.
            below = {os.path.join(folder, name) for folder in came for name in _subfolders(folder) or ()}
            changes.unfollowed |= {path for path in below if not self._is_watched(path)}

    def _forget(self, gone: Collection[str], changes: Changes) -> None:
        """These, and all below them, which a part may still watch where they lie now: so such parts are made anew."""
        gone = {path for path in gone if self._is_watched(path)}
        for part in list(self._parts) if gone else ():
            went = {folder for folder in part.folders if _lies_in(folder, gone)}
            if went:
                self._replace([part], part.folders - went, changes)

    def _below(self, tops: Iterable[str]) -> list[str]:
        """Folders that can be read: these, and all below them."""
        found: set[str] = set()
        waiting = list(tops)
        while waiting and not self._stop.is_set():
            folder = waiting.pop()
            names = None if folder in found or self._is_watched(folder) else _subfolders(folder)
            if names is None:
                continue
            found.add(folder)
            if self.size + len(found) > MAX_FOLDERS:
                raise WatchRefused(f"more than {MAX_FOLDERS} folders")
            waiting += [os.path.join(folder, name) for name in names]
        return sorted(found)

    def _watch(self, folders: Sequence[str], changes: Changes) -> None:
        largest = max(_PART_FOLDERS, (self.size + len(folders)) // _PARTS)
        rest = list(folders)
        while rest and not self._stop.is_set():
            new, rest = rest[:largest], rest[largest:]
            merged = [] if rest else self._small(len(new), largest)
            for part in merged:
                new += part.folders
            self._replace(merged, new, changes)

    def _replace(self, old: Sequence[_Part], folders: Collection[str], changes: Changes) -> None:
        """Watch these folders in new parts. The old ones stay until these stand, so that nothing is missed."""
        self._parts += _opened(sorted(folders))
        for part in old:
            self._take(part, changes)
            self._parts.remove(part)
            part.close()

    def _small(self, size: int, largest: int) -> list[_Part]:
        """Parts that are no larger than what is added to them, so that a folder is seldom moved to another part."""
        found = []
        for part in sorted(self._parts, key=lambda part: len(part.folders)):
            if len(part.folders) > size or size + len(part.folders) > largest:
                break
            size += len(part.folders)
            found.append(part)
        return found


class _Part:
    """Some folders that are watched together. Raises what watchfiles does, if they cannot be."""

    def __init__(self, folders: Iterable[str]) -> None:
        self.folders = set(folders)
        self._steps: Generator[Batch, None, None] = watch(
            *self.folders,
            watch_filter=None,
            debounce=_SHORT_MS,
            step=_SHORT_MS,
            rust_timeout=_SHORT_MS,
            yield_on_timeout=True,
            debug=False,
            force_polling=False,
            recursive=False,
            ignore_permission_denied=False,  # else it says nothing of limits that are reached either
        )
        self._first = next(self._steps)

    def take(self) -> Batch:
        """What happened since the last time; nothing any more after it raised RuntimeError."""
        first, self._first = self._first, set()
        return first | next(self._steps, set())

    def close(self) -> None:
        self._steps.close()


def _opened(folders: Sequence[str]) -> list[_Part]:
    """Parts that watch these folders but for those that went. Raises WatchRefused."""
    for opening in range(_OPENINGS):
        try:
            return [_Part(folders)] if folders else []
        except (FileNotFoundError, PermissionError):
            break
        except OSError as error:
            raise WatchRefused(f"{error}; see fs.inotify.max_user_watches") from error
        except RuntimeError as error:  # it cannot be had, or a name that is no UTF-8 came in this moment
            if opening == _OPENINGS - 1:
                raise WatchRefused(str(error)) from error
    there = [folder for folder in folders if _subfolders(folder) is not None]
    half = len(folders) // 2  # so that it ends, however fast they come and go
    return [*_opened(there[:half]), *_opened(there[half:])] if half else []


def _lies_in(folder: str, gone: Collection[str]) -> bool:
    while folder not in gone:
        parent = os.path.dirname(folder)
        if parent == folder:
            return False
        folder = parent
    return True


def _is_folder(path: str) -> bool:
    try:
        return _is_looked_into(os.path.basename(path)) and stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_looked_into(name: str) -> bool:
    return name != "node_modules" and not is_ignored(name) and _is_utf8(name)


def _is_utf8(name: str) -> bool:
    """What is not is no part of a skill, and cannot be given to watchfiles."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _subfolders(folder: str) -> list[str] | None:
    """Names of folders to watch in it; None if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [
                entry.name for entry in entries if _is_looked_into(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return None
