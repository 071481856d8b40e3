"""A storage that is a folder: of this machine, or one that is mounted from another."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from skill_actors.errors import Refused
from skill_actors.files.changes import time_text
from skill_actors.files.content import NewFile, OpenFile, checksum_of, delete_file, open_file, remove_uploads
from skill_actors.files.ref import FileRef
from skill_actors.files.snapshot import Mark, Snapshot, scan
from skill_actors.files.storage.base import OnSynced, StorageReport, check_path, check_session, gone_from
from skill_actors.files.storage.errors import StorageError
from skill_actors.files.storage.reports import ReportMaker

__all__ = ["LocalStorage"]

T = TypeVar("T")
_PIECE_BYTES = 1 << 20


class LocalStorage:
    """Keeps files below `base`, a folder for each session.

    Args:
        base: made when it is first needed; nothing of it is read that lies behind a link.

    """

    name = "local"

    def __init__(self, base: Path) -> None:
        self._base = base
        self._limiter = trio.CapacityLimiter(4)

    async def init(self, session: str) -> None:
        await self._run(
            "storage_init_failed", "", partial(self.local_path(session).mkdir, parents=True, exist_ok=True, mode=0o700)
        )

    async def write(self, session: str, path: str, content: bytes) -> FileRef:
        check_path(path)
        return await self._run("storage_write_failed", path, lambda: self._write(session, path, content))

    async def read(self, session: str, path: str, *, max_bytes: int = 50 << 20) -> bytes:
        check_path(path)
        return await self._run("storage_read_failed", path, lambda: self._read(session, path, max_bytes))

    async def exists(self, session: str, path: str) -> bool:
        check_path(path)

        def look() -> bool:
            try:
                open_file(self.local_path(session), path).close()
            except Refused:
                return False
            return True

        return await self._run("storage_read_failed", path, look)

    async def delete(self, session: str, path: str) -> None:
        check_path(path)
        try:
            await self._run("storage_cleanup_failed", path, lambda: delete_file(self.local_path(session), path))
        except StorageError as error:
            if error.code != "file_not_found":
                raise

    async def list(self, session: str) -> Sequence[FileRef]:
        snapshot = await self._run("storage_read_failed", "", partial(scan, self.local_path(session)))
        return [self._ref(session, path, mark) for path, mark in sorted(snapshot.marks.items())]

    def local_path(self, session: str) -> Path:
        return self._base / check_session(session)

    def storage_url(self, session: str, path: str) -> str:
        return (self.local_path(session).absolute() / check_path(path)).as_uri()

    async def presigned_url(self, session: str, path: str, *, expires_s: int = 3600) -> str | None:
        return None

    async def sync_to_remote(
        self,
        session: str,
        folder: Path,
        *,
        on_synced: OnSynced | None = None,
        remove: bool = True,
        known: Collection[str] | None = None,
    ) -> StorageReport:
        await self.init(session)
        target, report = self.local_path(session), ReportMaker()
        await self._run("storage_write_failed", "", partial(remove_uploads, target, old=True))
        here = await self._run("storage_read_failed", "", partial(scan, folder))
        await self._copy_all(folder, here, target, report)
        if remove:
            there = await self._run("storage_read_failed", "", partial(scan, target))
            for path in gone_from(here, there.marks, known):
                with report.of(path):
                    await self.delete(session, path)
        made = report.made(here.marks)
        if on_synced is not None:
            for path in made.done:
                mark = await self._run("storage_read_failed", path, partial(_mark, target, path))
                await on_synced(session, self._ref(session, path, mark))
        return made

    async def sync_from_remote(self, session: str, folder: Path, *, max_bytes: int = 1 << 30) -> StorageReport:
        report, source = ReportMaker(), self.local_path(session)
        there = await self._run("storage_read_failed", "", partial(scan, source))
        await self._copy_all(source, there, folder, report, max_bytes)
        return report.made()

    async def cleanup(self, session: str) -> None:
        """Nothing: what is kept here is the only copy there is."""

    async def delete_remote(self, session: str) -> StorageReport:
        folder = self.local_path(session)
        listed = await self.list(session)

        def remove() -> None:
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)

        await self._run("storage_cleanup_failed", "", remove)
        return StorageReport(done=[ref.path for ref in listed])

    async def aclose(self) -> None:
        """Nothing is held."""

    async def _copy_all(
        self, source: Path, there: Snapshot, target: Path, report: ReportMaker, max_bytes: int = 1 << 62
    ) -> None:
        left = max_bytes
        for path, mark in sorted(there.marks.items()):
            if mark.size > left:
                report.fail(path, f"the files together are larger than {max_bytes} bytes")
                continue
            with report.of(path):
                size = await self._run("storage_write_failed", path, partial(_copy, source, target, path))
                report.add(path, size)
                left -= size or 0

    def _write(self, session: str, path: str, content: bytes) -> FileRef:
        with NewFile(self.local_path(session), path) as new:
            new.write(content)
            mark, _ = new.commit()
            return self._ref(session, path, mark, new.checksum)

    def _read(self, session: str, path: str, max_bytes: int) -> bytes:
        with open_file(self.local_path(session), path) as file:
            if file.mark.size > max_bytes:
                raise StorageError(
                    "storage_read_failed", f"{path} has {file.mark.size} bytes; at most {max_bytes} are read"
                )
            return b"".join(_pieces(file))

    def _ref(self, session: str, path: str, mark: Mark, checksum: str | None = None) -> FileRef:
        return FileRef(
            path=path,
            size=mark.size,
            checksum=checksum,
            created_at=time_text(mark.mtime_ns),
            modified_at=time_text(mark.mtime_ns),
            storage_url=self.storage_url(session, path),
            source=self.name,
        )

    async def _run(self, code: str, path: str, work: Callable[[], T]) -> T:
        """In a worker thread; what goes wrong is a StorageError of this code."""
        details: dict[str, Any] = {"path": path} if path else {}
        try:
            return await trio.to_thread.run_sync(work, limiter=self._limiter)
        except Refused as refused:
            found = "file_not_found" if refused.code == "not_found" else code
            retryable = refused.code == "storage_full"
            raise StorageError(found, refused.message, retryable=retryable, details=details) from refused
        except OSError as error:
            why = f"{path or self._base}: {error.strerror}"
            raise StorageError(code, why, retryable=True, details={**details, "reason": error.strerror}) from error


def _pieces(file: OpenFile) -> list[bytes]:
    pieces, offset = [], 0
    while piece := file.read_at(offset, _PIECE_BYTES):
        pieces.append(piece)
        offset += len(piece)
    return pieces


def _mark(root: Path, path: str) -> Mark:
    with open_file(root, path) as file:
        return file.mark


def _copy(source: Path, target: Path, path: str) -> int | None:
    """Copy one file; None if the same content is there already."""
    with open_file(source, path) as file:
        try:
            with open_file(target, path) as there:
                if there.mark.size == file.mark.size and checksum_of(there) == checksum_of(file):
                    return None
        except Refused:
            pass  # it is not there, or is something else
        with NewFile(target, path) as new:
            offset = 0
            while piece := file.read_at(offset, _PIECE_BYTES):
                new.write(piece)
                offset += len(piece)
            new.commit()
            return new.size
