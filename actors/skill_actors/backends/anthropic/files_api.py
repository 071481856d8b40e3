"""The Files API: what code in containers made comes to disk, and what it shall work on goes up."""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import os
import re
import stat
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from skill_actors.backends.anthropic.client import HostedClient, all_pages, checked_id, told_id
from skill_actors.backends.anthropic.errors import HostedError
from skill_actors.backends.anthropic.names import fresh_name, safe_name
from skill_actors.models.sdk import unwind

if TYPE_CHECKING:
    import anthropic

__all__ = ["MAX_DOWNLOAD_BYTES", "DownloadedFile", "FilesApi", "HostedFile"]

MAX_DOWNLOAD_BYTES: Final = 500_000_000  # the API keeps no larger file
_MAX_UPLOAD_BYTES: Final = 500_000_000
_PAGE: Final = 1000
_ANY_KIND: Final = "application/octet-stream"
_KIND: Final = re.compile(r"[\w.+-]{1,80}/[\w.+-]{1,80}(; ?[\w-]{1,40}=[\w-]{1,40})?", re.ASCII)
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedFile:
    """What the Files API says of a file. `name` is as it was given: use `safe_name` before it becomes a path.

    Args:
        size: in bytes.
        created_at: RFC 3339.
        downloadable: whether its content can be had: only that of files which tools made.
        expires_at: RFC 3339, None if it stays.

    """

    id: str
    name: str
    size: int
    content_type: str
    created_at: str
    downloadable: bool
    expires_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadedFile:
    """A file on disk. `checksum` is "sha256:" and hex; `hosted_name` what it was called."""

    file_id: str
    path: Path
    size: int
    checksum: str
    content_type: str
    hosted_name: str


@dataclass(slots=True)
class _Part:
    """A download that is being written, under a name that begins with a dot."""

    path: Path
    size: int = 0
    hasher: Any = field(default_factory=hashlib.sha256)


class FilesApi:
    """The calls. Every failed one is a HostedError.

    Args:
        client: whose connections are used.

    """

    def __init__(self, client: HostedClient) -> None:
        self._client = client

    async def upload(
        self, source: Path | bytes, *, name: str | None = None, expires_in_s: int | None = None
    ) -> HostedFile:
        """Upload a file; give its id to a model as `{"type": "container_upload", "file_id": ...}`.

        Args:
            source: a file, read whole in a worker thread, or its content.
            name: for the model; by default the file's.
            expires_in_s: from one hour to ninety days; None to keep it until it is deleted.

        Raises:
            HostedError: "file_upload_failed"; its cause is the API's error, if it was that.

        """
        shown = name if name is not None else source.name if isinstance(source, Path) else "file"
        try:
            content = source if isinstance(source, bytes) else await trio.to_thread.run_sync(_read, source)
        except OSError as error:
            raise _upload_failed(shown, f"it cannot be read: {error.strerror or error}") from error
        if len(content) > _MAX_UPLOAD_BYTES:
            raise _upload_failed(shown, f"it is larger than {_MAX_UPLOAD_BYTES} bytes")
        kind = mimetypes.guess_type(shown)[0] or _ANY_KIND

        async def send(client: anthropic.AsyncAnthropic) -> HostedFile:
            part = (safe_name(shown), content, kind)
            if expires_in_s is None:
                return _described(await client.files.upload(file=part))
            return _described(await client.files.upload(file=part, expires_in_seconds=expires_in_s))

        try:
            return await self._client.call(send, repeatable=False)
        except HostedError as error:
            raise _upload_failed(shown, error.message, error) from error

    async def metadata(self, file_id: str) -> HostedFile:
        """What is known of a file. Raises HostedError, "file_download_failed"."""

        async def get(client: anthropic.AsyncAnthropic) -> HostedFile:
            return _described(await client.files.retrieve_metadata(checked_id(file_id)))

        try:
            return await self._client.call(get, repeatable=True)
        except HostedError as error:
            raise _download_failed(file_id, error.message, error) from error

    async def list(self, *, max_files: int | None = None) -> list[HostedFile]:
        """All files of the workspace, newest first, page by page; at most `max_files`. Raises HostedError."""
        return await all_pages(self._page, _described, at_most=max_files)

    async def delete(self, file_id: str) -> bool:
        """Delete a file; False if there was none. Raises HostedError."""

        async def remove(client: anthropic.AsyncAnthropic) -> None:
            await client.files.delete(checked_id(file_id))

        try:
            await self._client.call(remove, repeatable=True)
        except HostedError as error:
            if error.details.get("status") == 404:
                return False
            raise
        return True

    async def download(
        self,
        file_id: str,
        folder: Path,
        *,
        name: str | None = None,
        max_bytes: int = MAX_DOWNLOAD_BYTES,
        overwrite: bool = False,
        taken: Collection[str] = (),
    ) -> DownloadedFile:
        """Stream a file into the folder, which is made if it is missing; it appears there whole or not at all.

        Args:
            name: in the folder; by default the hosted one, made safe.
            max_bytes: a larger file is refused, whatever its metadata claimed.
            overwrite: replace a file of that name; by default the next free one is taken: "report (2).xlsx".
            taken: names, each casefolded, that are not to be used, nor overwritten.

        Raises:
            HostedError: "file_download_failed"; nothing is left in the folder then.

        """
        about = await self.metadata(file_id)
        if about.size > max_bytes:
            raise _download_failed(file_id, f"it has {about.size} bytes; {max_bytes} are allowed")
        wanted = safe_name(name if name is not None else about.name)
        try:
            await trio.to_thread.run_sync(lambda: folder.mkdir(parents=True, exist_ok=True))
            async with _part_in(folder) as part:
                await self._fetch(file_id, part, max_bytes)
                path = await trio.to_thread.run_sync(_settle, part.path, folder, wanted, overwrite, frozenset(taken))
        except OSError as error:
            raise _download_failed(file_id, f"it cannot be written to {folder}: {error.strerror or error}") from error
        return DownloadedFile(
            file_id=file_id,
            path=path,
            size=part.size,
            checksum=f"sha256:{part.hasher.hexdigest()}",
            content_type=about.content_type,
            hosted_name=about.name,
        )

    async def _page(self, page: str | None) -> Any:
        async def get(client: anthropic.AsyncAnthropic) -> Any:
            if page is None:
                return await client.files.list(limit=_PAGE)
            return await client.files.list(limit=_PAGE, page=page)

        return await self._client.call(get, repeatable=True)

    async def _fetch(self, file_id: str, part: _Part, max_bytes: int) -> None:
        """Write the content; a connection that breaks is opened again, and the file begun anew."""

        async def get(client: anthropic.AsyncAnthropic) -> None:
            await trio.to_thread.run_sync(_restart, part)
            async with client.files.with_streaming_response.download(file_id) as response:
                source = response.iter_bytes()
                pending = bytearray()
                try:
                    async for chunk in source:
                        pending += chunk
                        if part.size + len(pending) > max_bytes:
                            raise _download_failed(file_id, f"it has more than {max_bytes} bytes")
                        if len(pending) >= _CHUNK_BYTES:
                            await trio.to_thread.run_sync(_append, part, bytes(pending))
                            pending.clear()
                finally:
                    await unwind(source, 0.0)
                await trio.to_thread.run_sync(_append, part, bytes(pending))

        try:
            await self._client.call(get, repeatable=True)
        except HostedError as error:
            if error.code == "file_download_failed":
                raise
            raise _download_failed(file_id, error.message, error) from error


@asynccontextmanager
async def _part_in(folder: Path) -> AsyncIterator[_Part]:
    descriptor, path = await trio.to_thread.run_sync(lambda: tempfile.mkstemp(prefix=".download-", dir=folder))
    os.close(descriptor)
    part = _Part(Path(path))
    try:
        yield part
    finally:
        with trio.CancelScope(shield=True), suppress(FileNotFoundError):
            await trio.to_thread.run_sync(part.path.unlink)


def _restart(part: _Part) -> None:
    part.size = 0
    part.hasher = hashlib.sha256()
    with part.path.open("wb"):
        pass


def _append(part: _Part, content: bytes) -> None:
    part.size += len(content)
    part.hasher.update(content)
    with part.path.open("ab") as file:
        file.write(content)


def _settle(part: Path, folder: Path, wanted: str, overwrite: bool, taken: frozenset[str]) -> Path:
    """Give the file its name, without ever replacing another unless that is asked for."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.chmod(part, 0o644)
    if overwrite:
        path = folder / fresh_name(wanted, taken)
        os.replace(part, path)
        return path
    used = {name.casefold() for name in os.listdir(folder)} | taken
    while True:
        name = fresh_name(wanted, used)
        try:
            os.link(part, folder / name, follow_symlinks=False)
        except FileExistsError:  # made by somebody else just now
            used.add(name.casefold())
            continue
        return folder / name


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return file.read(_MAX_UPLOAD_BYTES + 1)


def _described(file: Any) -> HostedFile:
    body: Mapping[str, Any] = file.model_dump(mode="json", warnings=False)
    return HostedFile(
        id=told_id(body),
        name=str(body.get("filename") or ""),
        size=max(0, int(body.get("size_bytes") or 0)),
        content_type=_kind(body.get("mime_type")),
        created_at=str(body.get("created_at") or ""),
        downloadable=bool(body.get("downloadable")),
        expires_at=body.get("expires_at"),
    )


def _kind(told: object) -> str:
    """A content type that may be put into a header; the general one for all else that a server can say."""
    return told if isinstance(told, str) and _KIND.fullmatch(told) else _ANY_KIND


def _download_failed(file_id: str, reason: str, below: HostedError | None = None) -> HostedError:
    return HostedError(
        "file_download_failed",
        f"the file {file_id} was not downloaded: {reason}",
        details={"file_id": file_id, "reason": reason, **_passed_on(below)},
        retryable=below.retryable if below else False,
        retry_after_s=below.retry_after_s if below else None,
    )


def _upload_failed(path: str, reason: str, below: HostedError | None = None) -> HostedError:
    return HostedError(
        "file_upload_failed",
        f"the file {path!r} was not uploaded: {reason}",
        details={"path": path, "reason": reason, **_passed_on(below)},
        retryable=below.retryable if below else False,
        retry_after_s=below.retry_after_s if below else None,
    )


def _passed_on(below: HostedError | None) -> dict[str, Any]:
    kept = ("status", "api_type", "error_code", "request_id")
    return {name: below.details[name] for name in kept if name in below.details} if below else {}
