"""A conversation's files in two places: the folder on disk that lasts, and the workspace in a container that does not.

Before a call what has changed on disk goes into the container, after it what has changed there comes out; so the
files outlive the container, and nothing of the host is mounted. Each side is compared with what it was when both were
last the same: what changed on both sides is taken from the disk before a call, and from the container after it.

On disk, what is new is there before what is gone is removed: a file that was moved is never in neither place.
What comes from the container is hostile: `operations` checks what is said to be there, `bundles.unpack` keeps what
comes inside the folder, the quota bounds its size. Whatever grows with the number of files is done in worker threads.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from . import bundles
from .bundles import Entry, Piece

__all__ = ["Mirror", "changes"]

_NEVER: Final = "-"  # the digest of no listing
_WRITTEN_S: Final = 60.0  # a part of a file that was written so long ago is of an earlier daemon
_PATHS: Final = 1_000  # that one request names

T = TypeVar("T")
Operate = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


def changes(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> tuple[list[str], list[str]]:
    """Paths that are new or different now, folders first; and those that are gone, or of another kind.

    Of what was in a folder that cannot be listed now, nothing is known: it is not gone.
    """
    changed = [path for path, entry in now.items() if before.get(path) != entry]
    closed = _closed(now)
    gone = [
        path
        for path, entry in before.items()
        if (now[path].kind != entry.kind if path in now else not _is_under(path, closed))
    ]
    return changed, gone


class Mirror:
    """Keeps one folder and one container's workspace the same.

    Args:
        folder: on disk.
        quota_bytes: of all files together, on disk.
        limiter: of the threads that read and write there.

    """

    def __init__(self, folder: Path, quota_bytes: int, limiter: trio.CapacityLimiter) -> None:
        self._folder = str(folder)
        self._quota_bytes = quota_bytes
        self._limiter = limiter
        self._lock = trio.Lock()
        self._here: dict[str, Entry] = {}
        self._there: dict[str, Entry] = {}
        self._digest = _NEVER
        self._said = ""

    def forget(self) -> None:
        """The container is another one now, and empty."""
        self._here, self._there, self._digest = {}, {}, _NEVER

    async def push(self, operate: Operate) -> str:
        """Bring into the container what has changed on disk; a note for the model if something cannot be."""
        async with self._lock:
            now, changed, gone = await self._thread(_look, self._folder, self._here)
            if "" in now:
                return "[the folder of the workspace cannot be read on the host: nothing is brought in from there]"
            if not changed and not gone:
                return ""
            self._digest = _NEVER
            await _remove(operate, gone)
            for path in gone:
                self._there.pop(path, None)
            brought: dict[str, Entry] = {}
            for portion in bundles.pieces(now, _fitting(now, changed, self._quota_bytes)):
                text = await self._thread(_pack, self._folder, portion)
                made = await operate("unpack", {"remove": [], "tar": text})
                self._there |= made
                brought |= made
            missing = [path for path in changed if path not in brought]
            stale = [path for path in missing if self._there.get(path, now[path]).kind != "dir"]
            # An earlier version must not pass for this one, nor come out in its place.
            await _remove(operate, [*stale, *map(bundles.part_of, missing)])
            for path in stale:
                self._there.pop(path, None)
            closed = _closed(now)
            self._here = {path: entry for path, entry in self._here.items() if _is_under(path, closed)} | now
            unfit = f"[{len(missing)} files of the workspace do not fit into the container]" if missing else ""
            return "\n".join(filter(None, [_unread(len(closed)), unfit]))

    async def pull(self, operate: Operate, digest: str | None = None) -> str:
        """Bring out what has changed in the container, unless its digest says that nothing has; a note likewise.

        With a digest the call that wrote is over: what cannot be brought out now is said, once.
        """
        if digest is not None and digest == self._digest:
            return ""
        async with self._lock:
            now = await operate("listing", {})
            total, changed, gone = await self._thread(_weigh, self._there, now)
            if total > self._quota_bytes:
                return (
                    f"[the files of the workspace have {total} bytes, {self._quota_bytes} are allowed: "
                    "what has changed is not kept; remove some]"
                )
            changed = [path for path in changed if path]
            if changed:
                await self._thread(partial(os.makedirs, mode=0o700, exist_ok=True), self._folder)
            turned = {path for path in gone if path in now and "dir" in (now[path].kind, self._there[path].kind)}
            blocked = [path for path in changed if path in turned or _is_under(path, turned)]
            free = [path for path in changed if path not in turned and not _is_under(path, turned)]
            try:
                await self._fetch(operate, now, free)
                if digest is not None or not self._left(now, free):  # what a call still writes may be what it moved
                    await self._drop([path for path in gone if path not in now or path in turned])
                    await self._fetch(operate, now, blocked)
            except OSError as error:
                return f"[not all that has changed in the workspace is kept: {error.strerror} on the host]"
            left = self._left(now, changed)
            self._digest = _NEVER if left else await self._thread(bundles.digest, now)
            return "" if digest is None else self._once(_unread(len(_closed(now))), _unkept(len(left)))

    async def _fetch(self, operate: Operate, now: Mapping[str, Entry], wanted: list[str]) -> None:
        """Entries of the container, as far as they can be had. Raises OSError if the disk is full."""
        large = [path for path in wanted if now[path].size > bundles.BUNDLE_BYTES]
        try:
            for portion in bundles.pieces(now, wanted):
                rows = [[piece.path, piece.offset, piece.length, piece.last] for piece in portion]
                text = await operate("pack", {"pieces": rows})
                made = await self._thread(_unpack, self._folder, text, portion)
                self._here |= made
                self._there |= {path: now[path] for path in made if path in now}
        finally:
            if large:
                with trio.CancelScope(shield=True):
                    await self._thread(bundles.remove, self._folder, [bundles.part_of(path) for path in large])

    async def _drop(self, gone: list[str]) -> None:
        if gone:
            await self._thread(bundles.remove, self._folder, gone)
        for path in gone:
            self._here.pop(path, None)
            self._there.pop(path, None)

    def _left(self, now: Mapping[str, Entry], changed: list[str]) -> set[str]:
        return {path for path in changed if self._there.get(path) != now[path]}

    def _once(self, *notes: str) -> str:
        note = "\n".join(filter(None, notes))
        again, self._said = note == self._said, note
        return "" if again else note

    async def _thread(self, act: Callable[..., T], *arguments: Any) -> T:
        return await trio.to_thread.run_sync(partial(act, *arguments), limiter=self._limiter)


def _closed(found: Mapping[str, Entry]) -> set[str]:
    return {path for path, entry in found.items() if entry.size == bundles.CLOSED}


def _is_under(path: str, folders: Set[str]) -> bool:
    """Whether one of these folders is above the path; "" is above all."""
    if not folders:
        return False
    while path:
        path = path.rpartition("/")[0]
        if path in folders:
            return True
    return False


def _unread(count: int) -> str:
    return f"[{count} folders of the workspace cannot be read: what is in them is not kept]" if count else ""


def _unkept(count: int) -> str:
    return f"[{count} changes in the workspace cannot be kept: they cannot be read or have no place]" if count else ""


def _fitting(now: Mapping[str, Entry], wanted: Sequence[str], quota_bytes: int) -> list[str]:
    """Of these those that have room beside all others: to try a sparse file of a terabyte would take days."""
    chosen = set(wanted)
    room = quota_bytes - sum(_bytes(entry) for path, entry in now.items() if path not in chosen)
    fitting = []
    for path in wanted:
        if _bytes(now[path]) <= room:
            fitting.append(path)
            room -= _bytes(now[path])
    return fitting


def _bytes(entry: Entry) -> int:
    return entry.size if entry.kind == "file" else 0


def _look(folder: str, before: Mapping[str, Entry]) -> tuple[dict[str, Entry], list[str], list[str]]:
    """What is there, new or different, and gone."""
    now = bundles.listing(folder, sweep_before=time.time() - _WRITTEN_S)
    return now, *changes(before, now)


def _weigh(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> tuple[int, list[str], list[str]]:
    """How many bytes it has, and what is new or different, and gone."""
    return sum(map(_bytes, now.values())), *changes(before, now)


def _pack(folder: str, portion: Sequence[Piece]) -> str:
    return base64.b64encode(bundles.pack(folder, portion)).decode("ascii")


def _unpack(folder: str, text: object, portion: Sequence[Piece]) -> dict[str, Entry]:
    """Raises OSError if the disk is full. What is no archive counts as not delivered."""
    try:
        data = base64.b64decode(text) if isinstance(text, str) else b""
    except ValueError:
        data = b""
    return bundles.unpack(folder, data, wanted=portion)


async def _remove(operate: Operate, paths: Sequence[str]) -> None:
    """In the container, as many at a time as a request can name; what is below a folder goes before it."""
    ordered = sorted(paths, reverse=True)
    for first in range(0, len(ordered), _PATHS):
        await operate("unpack", {"remove": ordered[first : first + _PATHS], "tar": ""})
