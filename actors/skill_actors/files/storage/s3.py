"""A storage in a bucket of Amazon S3, or of any service that speaks its language.

A session's files are the objects below PREFIX/SESSION/. Each carries the checksum of its content, by which a file
that is the same here and there is not sent again, and one that arrives is checked.
"""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from skill_actors.errors import Refused
from skill_actors.files.content import NewFile, OpenFile, checksum_of, open_file
from skill_actors.files.names import check_name
from skill_actors.files.ref import FileRef
from skill_actors.files.snapshot import Mark, scan
from skill_actors.files.storage.base import OnSynced, StorageReport, check_path, check_session, gone_from
from skill_actors.files.storage.errors import StorageError
from skill_actors.files.storage.options import S3Options
from skill_actors.files.storage.reports import ReportMaker
from skill_actors.files.storage.s3_bucket import Found, S3Bucket

__all__ = ["S3Storage"]

T = TypeVar("T")
_log = logging.getLogger(__name__)


class S3Storage:
    """Keeps files of sessions in one bucket.

    Args:
        options: of the bucket; `tigris` makes those of Tigris.

    """

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._bucket = S3Bucket(options)
        self._limiter = trio.CapacityLimiter(options.parallel)
        self._kept: dict[str, dict[str, Mark]] = {}  # files as they were when they were last known to be there

    @property
    def name(self) -> str:
        return self._options.name

    async def init(self, session: str) -> None:
        check_session(session)
        await self._run(self._bucket.check)

    async def write(self, session: str, path: str, content: bytes) -> FileRef:
        key, checksum = self._key(session, path), f"sha256:{hashlib.sha256(content).hexdigest()}"
        await self._run(partial(self._bucket.put, key, io.BytesIO(content), len(content), checksum))
        found = await self._run(partial(self._bucket.head, key))
        return self._ref(session, path, len(content), checksum, None if found is None else found.modified)

    async def read(self, session: str, path: str, *, max_bytes: int = 50 << 20) -> bytes:
        pieces: list[bytes] = []
        await self._run(partial(self._bucket.get, self._key(session, path), pieces.append, max_bytes=max_bytes))
        return b"".join(pieces)

    async def exists(self, session: str, path: str) -> bool:
        return await self._run(partial(self._bucket.head, self._key(session, path))) is not None

    async def delete(self, session: str, path: str) -> None:
        self._kept.get(session, {}).pop(path, None)
        await self._run(partial(self._bucket.delete, self._key(session, path)))

    async def list(self, session: str) -> Sequence[FileRef]:
        there = await self._listed(session)
        return [self._ref(session, item.key, item.size, None, item.modified) for item in there if _fault(item) is None]

    def local_path(self, session: str) -> Path:
        return self._options.cache / check_session(session)

    def storage_url(self, session: str, path: str) -> str:
        return f"s3://{self._options.bucket}/{self._key(session, path)}"

    async def presigned_url(self, session: str, path: str, *, expires_s: int = 3600) -> str | None:
        return await self._run(partial(self._bucket.presigned_url, self._key(session, path), expires_s))

    async def sync_to_remote(
        self,
        session: str,
        folder: Path,
        *,
        on_synced: OnSynced | None = None,
        remove: bool = True,
        known: Collection[str] | None = None,
    ) -> StorageReport:
        here = await trio.to_thread.run_sync(scan, folder)
        there = {item.key: item for item in await self._listed(session)}
        if session not in self._kept:
            await self._abandon_parts(session)
        kept = self._kept.setdefault(session, {})
        report = ReportMaker()

        async def send(path: str, mark: Mark) -> None:
            with report.of(path):
                checksum = await self._run(partial(self._send, session, folder, path, there.get(path)))
                kept[path] = mark
                report.add(path, None if checksum is None else mark.size)
                if on_synced is not None and checksum is not None:
                    await on_synced(session, self._ref(session, path, mark.size, checksum, None))

        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            for path, mark in sorted(here.marks.items()):
                same = path in there and there[path].size == mark.size and kept.get(path) == mark
                if same:
                    report.add(path, None)
                else:
                    nursery.start_soon(send, path, mark)
        ours = [path for path, item in there.items() if _fault(item) is None]
        for path in gone_from(here, ours, known) if remove else ():
            with report.of(path):
                await self.delete(session, path)
        return report.made(here.marks)

    async def sync_from_remote(self, session: str, folder: Path, *, max_bytes: int = 1 << 30) -> StorageReport:
        report, left = ReportMaker(), max_bytes
        wanted: list[Found] = []
        for item in await self._listed(session):
            why = _fault(item)
            if why is not None:
                report.fail(item.key, why)
            elif item.size > left:
                report.fail(item.key, f"the files together are larger than {max_bytes} bytes")
            else:
                left -= item.size
                wanted.append(item)

        async def fetch(item: Found) -> None:
            with report.of(item.key):
                fetched = await self._run(partial(self._fetch, session, folder, item))
                report.add(item.key, item.size if fetched else None)

        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            for item in wanted:
                nursery.start_soon(fetch, item)
        return report.made()

    async def cleanup(self, session: str) -> None:
        self._kept.pop(session, None)
        await self._run(partial(shutil.rmtree, self.local_path(session), ignore_errors=True))

    async def delete_remote(self, session: str) -> StorageReport:
        self._kept.pop(session, None)
        gone, failed = await self._run(partial(self._bucket.delete_all, self._prefix(session)))
        return StorageReport(done=gone, failed=failed, retryable=bool(failed))

    async def aclose(self) -> None:
        await trio.to_thread.run_sync(self._bucket.close)

    # In a worker thread.

    def _send(self, session: str, folder: Path, path: str, there: Found | None) -> str | None:
        """Upload a file unless it is there as it is; its checksum if it was sent."""
        key = self._key(session, path)
        with open_file(folder, path) as file:
            checksum = checksum_of(file)
            if there is not None and there.size == file.mark.size:
                head = self._bucket.head(key)
                if head is not None and head.checksum == checksum:
                    return None
            with _Reader(file) as content:
                try:
                    self._bucket.put(key, content, file.mark.size, checksum)
                except Exception as error:
                    if content.is_torn:
                        raise _being_written(path) from error
                    raise
            return checksum

    def _fetch(self, session: str, folder: Path, item: Found) -> bool:
        """Download a file unless it is here as it is; whether it was fetched."""
        key = self._key(session, item.key)
        here = _checksum_here(folder, item.key, item.size)
        if here is not None and (head := self._bucket.head(key)) is not None and head.checksum == here:
            return False
        with NewFile(folder, item.key) as new:
            found = self._bucket.get(key, new.write, max_bytes=item.size)
            if found.checksum not in (None, new.checksum):
                raise StorageError(
                    "storage_read_failed", f"{item.key} arrived damaged", retryable=True, details={"path": item.key}
                )
            new.commit()
        return True

    # Helpers.

    async def _abandon_parts(self, session: str) -> None:
        """End uploads in parts in which a process before this one was killed: unseen, they are still paid for."""
        try:
            await self._run(partial(self._bucket.abandon_uploads, self._prefix(session)))
        except StorageError as error:
            _log.info("unfinished uploads were not looked for: %s", error)  # not every key may list them

    async def _listed(self, session: str) -> Sequence[Found]:
        found = await self._run(partial(self._bucket.list, self._prefix(session)))
        return [item for item in found if item.key and not (item.key.endswith("/") and item.size == 0)]

    def _prefix(self, session: str) -> str:
        return f"{self._options.prefix}{check_session(session)}/"

    def _key(self, session: str, path: str) -> str:
        return self._prefix(session) + check_path(path)

    def _ref(self, session: str, path: str, size: int, checksum: str | None, time: str | None) -> FileRef:
        return FileRef(
            path=path,
            size=size,
            checksum=checksum,
            created_at=time,
            modified_at=time,
            storage_url=self.storage_url(session, path),
            source=self.name,
        )

    async def _run(self, work: Callable[[], T]) -> T:
        """Abandoned where it is cancelled: the thread has its own files, and what it still does is done whole."""
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)


class _Reader(io.RawIOBase):
    """An open file of a workspace as boto3 wants to read it.

    Before the last byte leaves it is made sure that nobody has written to the file since it was summed: what is stored
    would be neither the old content nor the new, under a checksum that is of neither.
    """

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._place = 0
        self.is_torn = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.mark.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._file.mark.size - self._place)
        count = left if size is None or size < 0 else min(size, left)
        data = self._file.read_at(self._place, count) if count else b""
        self._place += len(data)
        if len(data) < count or (self._place == self._file.mark.size and not self._file.is_as_opened()):
            self.is_torn = True
            raise OSError("the file was written while it was being sent")
        return data


def _being_written(path: str) -> StorageError:
    why = f"{path} was written while it was being sent"
    return StorageError("storage_write_failed", why, retryable=True, details={"path": path})


def _fault(item: Found) -> str | None:
    """Why an object cannot be a file of a workspace; None if it can."""
    try:
        check_name(item.key)
    except Refused as refused:
        return refused.message
    return None


def _checksum_here(folder: Path, path: str, size: int) -> str | None:
    """Of the file that is here, if there is one of this size."""
    try:
        with open_file(folder, path) as file:
            return checksum_of(file) if file.mark.size == size else None
    except Refused:
        return None
