"""A conversation's files in two places: the folder on disk that lasts, and the workspace in a container that does not.

Before a call what has changed on disk goes into the container, after it what has changed there comes out; so the
files outlive the container, and nothing of the host is mounted. Each side is compared with what it was when both were
last the same: what changed on both sides is taken from the disk before a call, and from the container after it.

What comes from the container is hostile: `bundles.unpack` keeps it inside the folder, the quota bounds its size.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from . import bundles
from .bundles import Entry

__all__ = ["Mirror", "changes"]

_NEVER: Final = "-"  # the digest of no listing

T = TypeVar("T")
Operate = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


def changes(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> tuple[list[str], list[str]]:
    """Paths that are new or different now, folders first; and those that are gone, or of another kind."""
    changed = [path for path, entry in now.items() if before.get(path) != entry]
    gone = [path for path, entry in before.items() if path not in now or now[path].kind != entry.kind]
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

    def forget(self) -> None:
        """The container is another one now, and empty."""
        self._here, self._there, self._digest = {}, {}, _NEVER

    async def push(self, operate: Operate) -> str:
        """Bring into the container what has changed on disk; a note for the model if something cannot be."""
        async with self._lock:
            now = await self._thread(bundles.listing, self._folder)
            changed, gone = changes(self._here, now)
            if not changed and not gone:
                return ""
            self._digest = _NEVER
            if gone:
                await operate("unpack", {"remove": gone, "tar": ""})
            for path in gone:
                self._there.pop(path, None)
            for portion in bundles.pieces(now, changed):
                data = await self._thread(bundles.pack, self._folder, portion)
                self._there |= _entries(await operate("unpack", {"remove": [], "tar": _text(data)}))
            self._here = now
            missing = [path for path in changed if path not in self._there]
            return f"[{len(missing)} files of the workspace do not fit into the container]" if missing else ""

    async def pull(self, operate: Operate, digest: str | None = None) -> str:
        """Bring out what has changed in the container, unless its digest says that nothing has; a note likewise."""
        if digest is not None and digest == self._digest:
            return ""
        async with self._lock:
            now = _entries(await operate("listing", {}))
            total = sum(entry.size for entry in now.values() if entry.kind == "file")
            if total > self._quota_bytes:
                return (
                    f"[the files of the workspace have {total} bytes, {self._quota_bytes} are allowed: "
                    "what has changed is not kept; remove some]"
                )
            changed, gone = changes(self._there, now)
            if changed:
                await self._thread(partial(os.makedirs, mode=0o700, exist_ok=True), self._folder)
            if gone:
                await self._thread(bundles.remove, self._folder, gone)
            for path in gone:
                self._here.pop(path, None)
                self._there.pop(path, None)
            for portion in bundles.pieces(now, changed):
                wanted = [[piece.path, piece.offset, piece.length, piece.last] for piece in portion]
                data = base64.b64decode(await operate("pack", {"pieces": wanted}))
                try:
                    made = await self._thread(bundles.unpack, self._folder, data)
                except OSError as error:
                    return f"[not all that has changed in the workspace is kept: {error.strerror} on the host]"
                self._here |= made
                self._there |= {path: now[path] for path in made if path in now}
            complete = all(self._there.get(path) == now[path] for path in changed)
            self._digest = bundles.digest(now) if complete else _NEVER
            return ""

    async def _thread(self, act: Callable[..., T], *arguments: Any) -> T:
        return await trio.to_thread.run_sync(partial(act, *arguments), limiter=self._limiter)


def _entries(rows: list[list[Any]]) -> dict[str, Entry]:
    return {path: Entry(kind, mode, size, tuple(stamp)) for path, kind, mode, size, stamp in rows}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
