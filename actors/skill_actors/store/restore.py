"""A backup back into a state directory: read and verified whole beside what is there, and only then put in its place.

It is unpacked into `restoring` in the state directory, so that moving is renaming. While that folder exists and
`journal.db` does not, no journal opens: a restore that was interrupted is never taken for an empty state.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import apsw

from skill_actors.durable import sync_directory
from skill_actors.store.archive import ArchiveError, Entry, Manifest, read_archive
from skill_actors.store.base import StateTooNew, StoreError
from skill_actors.store.lock import StateLock
from skill_actors.store.schema import APPLICATION_ID, SCHEMA_VERSION

__all__ = ["RESTORING", "Restored", "StateNotEmpty", "restore"]

RESTORING: Final = "restoring"
_KEPT: Final = frozenset({"lock", RESTORING})
_JOURNAL: Final = ("journal.db", "journal.db-wal", "journal.db-shm")  # moved away in this order, and back last


class StateNotEmpty(StoreError):
    """The state directory holds something already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was restored. `aside`: where what was there before is now; `left_out`: links that lead out of their place.

    Left out is not an error: they would have led somewhere else on this machine.
    """

    manifest: Manifest
    aside: Path | None
    left_out: tuple[str, ...]


def restore(
    archive: Path, state: Path, *, force: bool, now: str, progress: Callable[[int], object] = lambda _: None
) -> Restored:
    """Put the backup `archive` into the state directory `state`, made if it is missing. Blocks.

    Args:
        force: move what is there into `state/before-restore-<now>`, rather than to refuse.
        now: a time, for that name.
        progress: called with the number of bytes unpacked so far.

    Raises:
        StateLocked: a daemon works there.
        StateNotEmpty: without `force`, if the directory holds anything.
        StateTooNew: a newer program wrote the backup.
        ArchiveError: the backup is damaged, not whole, or none; the state is as it was.
        OSError: reading or writing failed; the state is as it was, or says that it was being restored.

    """
    with StateLock.take(state):
        present = sorted(entry.name for entry in state.iterdir() if entry.name not in _KEPT)
        if present and not force:
            raise StateNotEmpty(
                f"{state} is not empty ({', '.join(present[:5])}): restore into another directory, or use --force, "
                "which moves what is there aside"
            )
        staging = state / RESTORING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        try:
            manifest = read_archive(archive, _Unpacker(staging).put, progress)
            _check_journal(staging / "journal.db")
            left_out = _finish(staging, manifest)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        os.sync()  # everything at once: one flush for each of thousands of files would take minutes
        aside = _move_aside(state, present, now) if present else None
        _move_in(staging, state)
        _adopt(state)
    return Restored(manifest=manifest, aside=aside, left_out=left_out)


class _Unpacker:
    """Writes files below a folder that nobody else writes to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, path: str, parts: Iterator[bytes]) -> None:
        place = self._folder / path
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            for part in parts:
                file.write(part)


def _check_journal(path: Path) -> None:
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            version, application = int(db.pragma("user_version")), int(db.pragma("application_id"))
    except apsw.Error as error:
        raise ArchiveError(f"its journal cannot be read: {error}") from error
    if application != APPLICATION_ID:
        raise ArchiveError("its journal is a database of another program")
    if version > SCHEMA_VERSION:
        raise StateTooNew(
            f"the backup has schema version {version}, this program knows up to {SCHEMA_VERSION}: "
            "restore it with the newer program that made it"
        )


def _finish(staging: Path, manifest: Manifest) -> tuple[str, ...]:
    """Folders, modes and links, in this order: nothing is written through a link, or into a folder without rights."""
    by_type: dict[str, list[Entry]] = {"file": [], "folder": [], "link": []}
    for entry in sorted(manifest.entries, key=lambda entry: entry.path):
        by_type[entry.type].append(entry)
    for entry in by_type["folder"]:
        (staging / entry.path).mkdir(mode=0o700, parents=True, exist_ok=True)
    left_out = []
    for entry in by_type["link"]:
        place = staging / entry.path
        if _stays_inside(entry):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.symlink_to(entry.target)
        else:
            left_out.append(entry.path)
    for entry in (*by_type["file"], *reversed(by_type["folder"])):
        os.chmod(staging / entry.path, entry.mode & 0o777, follow_symlinks=True)
    return tuple(left_out)


def _stays_inside(entry: Entry) -> bool:
    """Whether a link leads to somewhere in the same workspace, which is the second folder of its path."""
    place = PurePosixPath(entry.path)
    if len(place.parts) < 3 or not entry.target or "\0" in entry.target or entry.target.startswith("/"):
        return False
    depth = len(place.parent.parts) - 2
    for part in PurePosixPath(entry.target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    return True


def _move_aside(state: Path, present: list[str], now: str) -> Path:
    aside = state / f"before-restore-{now.replace(':', '')}"
    aside.mkdir(mode=0o700)
    # The journal first: from here on nothing opens what is left.
    for name in [*(name for name in _JOURNAL if name in present), *(name for name in present if name not in _JOURNAL)]:
        if not name.startswith("before-restore-"):
            os.rename(state / name, aside / name)
    sync_directory(aside)
    sync_directory(state)
    return aside


def _move_in(staging: Path, state: Path) -> None:
    for name in sorted(os.listdir(staging), key=lambda name: (name in _JOURNAL, name)):
        os.rename(staging / name, state / name)
    sync_directory(state)
    staging.rmdir()
    sync_directory(state)


def _adopt(state: Path) -> None:
    """Root restores for the daemon's user, whose the directory is."""
    owner = state.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for folder, folders, files, fd in os.fwalk(state, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=fd, follow_symlinks=False)
        if folder == str(state):
            folders[:] = [name for name in folders if not name.startswith("before-restore-")]
