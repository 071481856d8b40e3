"""The files of one conversation: one list over all its places, read, written and handed over by name.

A file belongs to the place that made it. Those of executors are in folders here; those of a hosted place stay at the
provider until somebody reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import trio

from skill_actors.backends.routing import HandOver
from skill_actors.errors import Refused
from skill_actors.files import FileChange
from skill_actors.files.content import NewFile, open_file
from skill_actors.files.names import check_name, content_type_of
from skill_actors.library.callbacks import Callbacks
from skill_actors.library.errors import SkillError
from skill_actors.library.places import Places

__all__ = ["MAX_FILE_BYTES", "FilesElsewhere", "SessionFile", "SessionFiles"]

MAX_FILE_BYTES: Final = 256 << 20
_CALLBACK: Final = {"created": "on_file_created", "changed": "on_file_modified", "deleted": "on_file_deleted"}
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFile:
    """One file of a conversation.

    Args:
        name: below the workspace of its place; of a hosted file, the name it was given there.
        source: the name of the place.
        size: in bytes; None where it is not known yet.
        checksum: "sha256:...", likewise.
        file_id: of a hosted file.

    """

    name: str
    source: str
    size: int | None = None
    checksum: str | None = None
    file_id: str | None = None

    @property
    def content_type(self) -> str:
        """What the name promises."""
        return content_type_of(self.name)


class FilesElsewhere(Protocol):
    """The files of a hosted place."""

    async def files(self) -> Sequence[SessionFile]:
        """Those that were made there, with their names."""

    async def read(self, file: SessionFile, *, max_bytes: int) -> bytes:
        """Raises SkillError: "file_download_failed", "too_large"."""

    async def put(self, name: str, data: bytes) -> None:
        """Have it there with the next message. Raises SkillError: "file_upload_failed"."""


class SessionFiles:
    """Knows the files of all places.

    Args:
        callbacks: told about changes.

    """

    def __init__(self, callbacks: Callbacks) -> None:
        self.callbacks = callbacks
        self.elsewhere: dict[str, FilesElsewhere] = {}  # by hosted place
        self.wake: Callable[[], None] = _nobody  # whoever keeps the files
        self._places: Places | None = None
        self._created: dict[tuple[str, str], SessionFile] = {}

    def opened(self, places: Places) -> None:
        """The places are there."""
        self._places = places
        places.hand_over = self.hand_over

    @property
    def created(self) -> Sequence[SessionFile]:
        """What the conversation has made and not deleted, in the order it came."""
        return list(self._created.values())

    async def changed(self, changes: Sequence[FileChange]) -> None:
        """Some files are others now: remember all of them, then tell."""
        self.wake()
        files = [self._remembered(change) for change in changes]
        for change, file in zip(changes, files, strict=True):
            await self.callbacks.tell(_CALLBACK[change.kind], file)

    def _remembered(self, change: FileChange) -> SessionFile:
        key = (change.source, change.name)
        file = SessionFile(name=change.name, source=change.source, size=change.size, checksum=change.checksum)
        if change.kind == "created" or key in self._created:
            self._created[key] = file
        if change.kind == "deleted":
            self._created.pop(key, None)
        return file

    async def made_elsewhere(self, file: SessionFile) -> None:
        """A hosted place has made a file: remember, and tell."""
        self._created[file.source, str(file.file_id)] = file
        await self.callbacks.tell("on_file_created", file)

    async def list(self) -> Sequence[SessionFile]:
        """All files of all places as they are now, by place and name."""
        found: list[SessionFile] = []
        for place in self._open().places.values():
            await self._open().look(place)
            if place.watch is not None:
                found += [
                    SessionFile(name=name, source=place.name, size=known.mark.size, checksum=known.checksum)
                    for name, known in sorted(place.watch.known.items())
                ]
        for elsewhere in self.elsewhere.values():
            found += await elsewhere.files()
        return found

    async def read(self, name: str, place: str | None = None, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """The content of a file, of this place or else of the first that has it; of hosted ones of a name the newest.

        Raises:
            SkillError: "file_not_found", "path_not_allowed", "permission_denied", "too_large"; of a hosted file,
                "file_download_failed".

        """
        for each in self._of(place):
            if (found := self._open().places.get(each)) is not None:
                content = await trio.to_thread.run_sync(_read, found.root, name, max_bytes)
                if content is not None:
                    return content
            else:
                for file in reversed(await self.elsewhere[each].files()):
                    if name in (file.name, file.file_id):
                        return await self.elsewhere[each].read(file, max_bytes=max_bytes)
        where = "this conversation" if place is None else f"the place {place}"
        raise SkillError("file_not_found", f"there is no file {name[:200]!r} in {where}", details={"path": name})

    async def put(self, name: str, data: bytes, place: str | None = None) -> SessionFile:
        """Write a file, whole, in this place or else in the first one.

        Raises:
            SkillError: "path_not_allowed", "permission_denied", "too_large", "storage_full"; of a hosted place,
                "file_upload_failed".

        """
        where = self._of(place)[0]
        if len(data) > MAX_FILE_BYTES:
            raise _too_large(name, len(data), MAX_FILE_BYTES)
        if (found := self._open().places.get(where)) is None:
            _check(name, where)
            await self.elsewhere[where].put(name, data)
            return SessionFile(name=name, source=where, size=len(data))
        checksum = await trio.to_thread.run_sync(_write, found.root, name, data)
        if found.watch is not None:
            await found.watch.report(_unheard, only=[name])  # who puts a file there knows
        self.wake()
        return SessionFile(name=name, source=where, size=len(data), checksum=checksum)

    async def hand_over(self, wanted: HandOver) -> str:
        """Copy a file from one place to another. What came of it, in words. Raises SkillError as `read` and `put`."""
        content = await self.read(wanted.name, wanted.source)
        name = wanted.name
        put = await self.put(name, content, wanted.target)
        found = self._open().places.get(wanted.target)
        told = replace(put, source=wanted.target)
        if found is not None:
            self._created[wanted.target, name] = told
            await self.callbacks.tell("on_file_created", told)
        return f"{name} ({len(content)} bytes) is now in {wanted.target}."

    def _open(self) -> Places:
        assert self._places is not None
        return self._places

    def _of(self, place: str | None) -> Sequence[str]:
        """Names of places to look in. Raises SkillError."""
        names = self._open().with_files
        if not names:
            raise SkillError("bad_request", "no place of this conversation keeps files")
        if place is None:
            return names
        if place not in names:
            raise SkillError(
                "bad_request", f"there is no place {place!r:.100} with files; there are {', '.join(names)}"
            )
        return [place]


async def _unheard(_changes: Sequence[FileChange]) -> None:
    await trio.lowlevel.checkpoint()


def _nobody() -> None:
    pass


def _read(root: Path, name: str, max_bytes: int) -> bytes | None:
    """Blocks. None if there is none."""
    try:
        with open_file(root, name) as file:
            if file.mark.size > max_bytes:
                raise _too_large(name, file.mark.size, max_bytes)
            pieces: list[bytes] = []
            size = 0
            while piece := file.read_at(size, _PIECE_BYTES):
                pieces.append(piece)
                size += len(piece)
                if size > max_bytes:  # it grows while it is read
                    raise _too_large(name, size, max_bytes)
            return b"".join(pieces)
    except Refused as refused:
        if refused.code == "not_found":
            return None
        raise _refused(refused, str(root), name) from refused


def _write(root: Path, name: str, data: bytes) -> str:
    """Blocks."""
    _check(name, str(root))
    try:
        with NewFile(root, name) as file:
            file.write(data)
            file.commit()
            return file.checksum
    except Refused as refused:
        raise _refused(refused, str(root), name) from refused


def _check(name: str, where: str) -> None:
    try:
        check_name(name)
    except Refused as refused:
        raise _refused(refused, where, name) from refused


def _refused(refused: Refused, where: str, name: str) -> SkillError:
    details = {"path": name[:200]}
    if isinstance(refused.__context__, PermissionError):
        return SkillError("permission_denied", refused.message, details=details)
    if refused.code in ("bad_request", "conflict"):
        allowed = {**details, "allowed_paths": [where]}
        return SkillError("path_not_allowed", refused.message, details=allowed)
    return SkillError(refused.code, refused.message, details=details)


def _too_large(name: str, size: int, most: int) -> SkillError:
    message = f"{name[:200]} has {size} bytes and {most} are allowed"
    return SkillError("too_large", message, details={"path": name[:200], "size": size, "max": most})
