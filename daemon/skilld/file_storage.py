"""The storage of files as this daemon's configuration describes it, and the actor that keeps it up to date."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from skill_actors.errors import Refused
from skill_actors.files.storage import (
    BackgroundSync,
    Credentials,
    LocalStorage,
    S3Options,
    S3Storage,
    Storage,
    StorageError,
    StorageReport,
    tigris,
)
from skill_actors.files.storage.background import storage_id
from skill_actors.runtime import ExitReason, TrioActor
from skilld.config import FilesConfig
from skilld.slot import Slot

if TYPE_CHECKING:
    from skilld.parts import Parts

__all__ = ["StorageKeeper", "StoredFiles", "open_storage"]

_log = logging.getLogger(__name__)
_SUBSCRIBER = "file-storage"
_FLUSH_S = 10.0  # for a conversation that is being deleted


def open_storage(config: FilesConfig, state_dir: Path, environ: Mapping[str, str]) -> Storage:
    """The storage that is configured. Blocks; asks nobody yet.

    Raises:
        StorageError: storage_init_failed, naming what is missing and never a credential.

    """
    if config.storage == "local":
        return LocalStorage(config.folder or state_dir / "files")
    cache = state_dir / "file-cache"
    try:
        keys = _credentials(config, environ)
        if config.storage == "tigris":
            found = environ if keys is None else {**environ, **_as_environment(keys)}
            if config.endpoint:
                found = {**found, "AWS_ENDPOINT_URL_S3": config.endpoint}
            if config.region:
                found = {**found, "FLY_REGION": config.region}
            return S3Storage(tigris(found, cache=cache, bucket=config.bucket or None, prefix=config.prefix))
        options = S3Options(
            bucket=config.bucket,
            cache=cache,
            prefix=config.prefix,
            endpoint=config.endpoint or None,
            region=config.region or environ.get("AWS_REGION") or "us-east-1",
            style=config.style,
            credentials=keys,
        )
    except ValueError as error:
        raise StorageError("storage_init_failed", f"[files]: {error}") from error
    return S3Storage(options)


def _credentials(config: FilesConfig, environ: Mapping[str, str]) -> Credentials | None:
    """From the configured file, else the systemd credential if it was passed, else the environment."""
    path, folder = config.credentials_file, environ.get("CREDENTIALS_DIRECTORY")
    if path is None and folder and (Path(folder) / config.credentials_credential).is_file():
        path = Path(folder) / config.credentials_credential
    if path is None:
        return Credentials.from_environment(environ)
    try:
        return Credentials.from_text(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path}: it is no text") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _as_environment(keys: Credentials) -> dict[str, str]:
    token = {} if keys.session_token is None else {"AWS_SESSION_TOKEN": keys.session_token}
    return {"AWS_ACCESS_KEY_ID": keys.access_key_id, "AWS_SECRET_ACCESS_KEY": keys.secret_access_key, **token}


class StorageKeeper(TrioActor):
    """Syncs workspaces that change to the storage, and is told of changes by the bus."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts
        self._sync: BackgroundSync | None = None

    async def setup(self) -> None:
        """Open the storage. Raises StorageError: it is then tried again, and nothing else waits for it."""
        parts, state = self._parts, self._parts.config.daemon.state_dir
        try:
            storage = await trio.to_thread.run_sync(open_storage, parts.config.files, state, parts.environ)
        except StorageError as error:
            parts.file_sync.why = str(error)
            raise
        self._sync = BackgroundSync(storage, state / "workspaces", state / "stored-names", parts.bus)
        parts.bus.attach(_SUBSCRIBER, ["files.changed", "session.deleted"], self._hear)
        parts.file_sync.put(self._sync)
        self.spawn(self._sync.run)

    async def teardown(self, reason: ExitReason) -> None:
        self._parts.bus.detach(_SUBSCRIBER)
        self._parts.file_sync.clear()
        if self._sync is not None:
            await self._sync.storage.aclose()

    def _hear(self, name: str, _: Mapping[str, float], meta: Mapping[str, object]) -> None:
        assert self._sync is not None
        if name == "files.changed":
            self._sync.note(str(meta["folder"]))
        else:
            self._sync.forget(str(meta["session"]))


class StoredFiles:
    """What a storage has of sessions, as the socket offers it. Refused where there is none, or it fails."""

    def __init__(self, slot: Slot[BackgroundSync], workspaces: Path, *, configured: bool) -> None:
        self._slot = slot
        self._workspaces = workspaces
        self._configured = configured

    def url_of(self, folder: str, name: str) -> str | None:
        """Where a file of this workspace is kept; None while it is not, or not as it is now."""
        sync = self._slot.peek()
        if sync is None or sync.is_due(folder):
            return None
        try:
            return sync.storage.storage_url(storage_id(folder), name)
        except (Refused, ValueError):
            return None

    async def flush(self, folder: str) -> None:
        """Have everything stored before the workspace goes; what cannot be now is logged, and stays unstored."""
        sync = self._slot.peek()
        if sync is None:
            return
        if not await sync.flush(folder, _FLUSH_S):
            _log.warning("files of %s were not all stored before it was deleted", folder)
        sync.leave(folder)

    async def emptied(self, folder: str) -> None:
        """The workspace's files were removed on purpose, not lost."""
        sync = self._slot.peek()
        if sync is not None:
            await sync.emptied(folder)

    async def fetch(self, stored: str, folder: Path, max_bytes: int) -> dict[str, Any]:
        """Bring what is stored of a session into a workspace."""
        return await self._done(self._sync().storage.sync_from_remote, stored, folder, max_bytes=max_bytes)

    async def purge(self, stored: str) -> dict[str, Any]:
        """Remove for good what is stored of a session."""
        return await self._done(self._sync().storage.delete_remote, stored)

    async def presigned_url(self, folder: str, name: str, expires_s: int) -> str | None:
        """A URL with which anybody can fetch the file; None if the storage has none such."""
        try:
            storage = self._sync().storage
            if not await storage.exists(storage_id(folder), name):
                raise Refused("not_found", f"{name[:200]!r} is not stored, or not yet")
            return await storage.presigned_url(storage_id(folder), name, expires_s=expires_s)
        except StorageError as error:
            raise _refusal(error) from error

    def status(self) -> dict[str, Any] | None:
        """For GET /v1/status; None where nothing is kept elsewhere."""
        sync = self._slot.peek()
        if sync is not None:
            return sync.status()
        return {"storage": None, "problem": self._slot.why or "it is starting"} if self._configured else None

    def _sync(self) -> BackgroundSync:
        sync = self._slot.peek()
        if sync is None:
            why = self._slot.why or ("it is starting" if self._configured else "an operator names one in [files]")
            raise Refused("backend_unavailable", f"no storage of files can be used: {why}")
        return sync

    async def _done(self, work: Any, *args: Any, **options: Any) -> dict[str, Any]:
        try:
            report: StorageReport = await work(*args, **options)
        except StorageError as error:
            raise _refusal(error) from error
        except ValueError as error:
            raise Refused("bad_request", str(error)) from error
        return {
            "files": list(report.done),
            "unchanged": report.unchanged,
            "bytes": report.bytes,
            "failed": dict(report.failed),
        }


def _refusal(error: StorageError) -> Refused:
    code = "not_found" if error.code == "file_not_found" else "backend_unavailable"
    return Refused(code, str(error), details={"storage_error": error.code, **error.details})
