"""A conversation's files, kept in a storage as they change, and there again when it is opened under the same id.

A task of the conversation copies what has changed, and tries again where that may help; turns never wait for it. At the
end of the block it is waited for, for a while. The storage is the program's, and stays open.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from skill_actors.files.ref import FileRef
from skill_actors.files.storage import Storage, StorageError, StorageReport
from skill_actors.library.callbacks import Callbacks
from skill_actors.library.errors import SkillError, wrap
from skill_actors.library.files import SessionFile

__all__ = ["Keeping"]

_FLUSH_S: Final = 30.0  # for what is not kept yet when the block ends
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Keeping:
    """Keeps the files of one conversation.

    Args:
        storage: where.
        session_id: under which name.
        callbacks: told of each file that was kept.

    """

    storage: Storage
    session_id: str
    callbacks: Callbacks
    failures: int = 0  # of a whole attempt
    _folders: dict[str, tuple[str, Path]] = field(default_factory=dict)  # by place: its name in the storage, and here
    _changed: trio.Event = field(default_factory=trio.Event)
    _copying: trio.Lock = field(default_factory=trio.Lock)

    async def restore(self, place: str, root: Path) -> None:
        """Bring what is kept of this place into its folder. Raises SkillError: "storage_init_failed" and so on."""
        name = f"{self.session_id}--{place}" if self._folders else self.session_id  # no id has two hyphens in it
        with _as_failure("storage_init_failed"):
            await self.storage.init(name)
        with _as_failure("storage_read_failed"):
            report = await self.storage.sync_from_remote(name, root)
        _check(report, "storage_read_failed")
        self._folders[place] = (name, root)

    def wake(self) -> None:
        """Files have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Keep what changes, until cancelled."""
        wait_s = _FIRST_WAIT_S
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            try:
                await self.sync()
                wait_s = _FIRST_WAIT_S
            except SkillError as error:
                self.failures += 1
                _log.warning("files of %s are not kept: %s", self.session_id, error)
                if error.retryable:
                    self._changed.set()
                    await trio.sleep(wait_s)
                    wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)

    async def sync(self) -> None:
        """Keep everything as it is now. Raises SkillError: "storage_write_failed" and so on."""
        async with self._copying:
            for place, (name, root) in self._folders.items():

                async def tell(_name: str, ref: FileRef, place: str = place) -> None:
                    file = SessionFile(name=ref.path, source=place, size=ref.size, checksum=ref.checksum)
                    await self.callbacks.tell("on_file_synced", file)

                with _as_failure("storage_write_failed"):
                    report = await self.storage.sync_to_remote(name, root, on_synced=tell)
                _check(report, "storage_write_failed")

    async def end(self) -> None:
        """Keep what is not kept yet, for a reasonable time, and free what the storage has on this machine."""
        with trio.move_on_after(_FLUSH_S, shield=True) as flushing:
            try:
                await self.sync()
                for name, _root in self._folders.values():
                    with _as_failure("storage_cleanup_failed"):
                        await self.storage.cleanup(name)
            except SkillError as error:
                self.failures += 1
                _log.error("the last changes of %s are not kept: %s", self.session_id, error)
        if flushing.cancelled_caught:
            self.failures += 1
            _log.error("the last changes of %s are not kept: that took longer than %g s", self.session_id, _FLUSH_S)

    async def delete(self) -> Sequence[str]:
        """Delete what is kept; the names of the files. Raises SkillError: "storage_cleanup_failed"."""
        deleted: list[str] = []
        async with self._copying:
            for name, _root in self._folders.values():
                with _as_failure("storage_cleanup_failed"):
                    report = await self.storage.delete_remote(name)
                deleted += report.done
                _check(report, "storage_cleanup_failed")
            self._folders.clear()  # what was deleted is not kept again
        return deleted


@contextmanager
def _as_failure(code: str) -> Iterator[None]:
    """What a storage raises as a SkillError: also what it should not, since it may be the program's own."""
    try:
        yield
    except StorageError as error:
        raise wrap(error) from error
    except Exception as error:
        reason = f"the storage raised {type(error).__name__}"
        raise SkillError(code, reason, details={"reason": reason}) from error


def _check(report: StorageReport, code: str) -> None:
    """Raise SkillError if one of the files failed."""
    if report.is_whole:
        return
    path, reason = next(iter(report.failed.items()))
    more = f", and {len(report.failed) - 1} more" if len(report.failed) > 1 else ""
    details = {"path": path, "reason": reason, "failed": dict(report.failed)}
    raise SkillError(code, f"{path}: {reason}{more}", details=details, retryable=report.retryable)
