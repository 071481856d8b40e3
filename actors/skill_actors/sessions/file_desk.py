"""Files of conversations as clients ask for them: listed, read, written, deleted.

The files are those of the session's places; what a hosted place has made is listed too, and fetched when it is first
read. Reads and writes work on the folder beside whatever runs there: a file appears and goes as a whole.
"""

from __future__ import annotations

import base64
import binascii
import heapq
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from skill_actors.errors import Refused
from skill_actors.files.changes import FileChange, time_text
from skill_actors.files.content import OpenFile, delete_file, is_there, open_file
from skill_actors.files.names import check_name
from skill_actors.files.ref import FileRef
from skill_actors.files.snapshot import Mark, Snapshot
from skill_actors.sessions.intake import refusal
from skill_actors.sessions.session import LiveSession
from skill_actors.sessions.session_files import SessionFiles
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.table import SessionTable, Viewer, not_found
from skill_actors.store.base import JournalClosed, SessionFull, SessionMissing, StorageFull

__all__ = ["FileDesk", "HostedFiles", "Stored"]

_PIECE_BYTES: Final = 256 << 10  # written at once: a thread for each part off the wire would cost more than writing


class HostedFiles(Protocol):
    """Fetches what a hosted place has made."""

    async def fetch(self, session: str, file: FileChange, folder: Path) -> None:
        """Put the file into the folder under its name. Raises Refused."""


class Stored(Protocol):
    """What is kept of workspaces elsewhere. Folders are named as below the folder of all workspaces."""

    def url_of(self, folder: str, name: str) -> str | None: ...
    async def flush(self, folder: str) -> None: ...
    async def emptied(self, folder: str) -> None: ...
    async def fetch(self, stored: str, folder: Path, max_bytes: int) -> dict[str, Any]: ...
    async def purge(self, stored: str) -> dict[str, Any]: ...
    async def presigned_url(self, folder: str, name: str, expires_s: int) -> str | None: ...


class FileDesk:
    """Files of all sessions. `hosted` and `stored` are set by whoever has a hosted backend, and a storage."""

    def __init__(self, table: SessionTable, env: Surroundings) -> None:
        self._table = table
        self._env = env
        self.hosted: HostedFiles | None = None
        self.stored: Stored | None = None

    def of(self, live: LiveSession) -> SessionFiles:
        """The session's files while it is in memory."""
        if live.files is None:
            live.files = SessionFiles(live.log, self._env)
        return live.files

    async def listing(
        self, session: str, viewer: Viewer, *, limit: int = 100, cursor: str | None = None
    ) -> dict[str, Any]:
        """A page of the session's files, place by place and by name: {"items", "next", "used_bytes", "quota_bytes"}.

        Raises:
            Refused: not_found, bad_request on a cursor that is not of this list.

        """
        async with self._table.use(session, viewer) as live:
            files = self.of(live)
            after = _parse_cursor(cursor)
            seen = await (self._settle(files) if live.turn is None else files.look())
            marks = {place: snapshot.marks for place, snapshot in seen.items()}
            hosted = await files.hosted()
            keys = await trio.to_thread.run_sync(_keys_after, marks, list(hosted), after, limit + 1)
            page = [
                self._make_ref(session, files, place, name, marks[place][name])
                if name in marks.get(place, ())
                else _hosted_ref(hosted[place, name])
                for place, name in keys[:limit]
            ]
            return {
                "items": [ref.to_dict() for ref in page],
                "next": _cursor(page[-1]) if len(keys) > limit else None,
                "used_bytes": files.usage.bytes,
                "quota_bytes": files.quota.limit_bytes,
                "complete": files.usage.complete,
            }

    async def open(
        self, session: str, viewer: Viewer, name: str, *, source: str | None = None
    ) -> tuple[FileRef, OpenFile]:
        """A file to read, and what is known of it. Raises Refused: not_found, bad_request, conflict."""
        check_name(name)
        async with self._table.use(session, viewer) as live:
            files = self.of(live)
            await files.watches()
            place, folder = await self._find(files, name, source)
            file = await trio.to_thread.run_sync(open_file, folder, name)
            try:
                return await self._ref(session, files, place, name, file.mark), file
            except BaseException:
                file.close()
                raise

    async def put(
        self,
        session: str,
        viewer: Viewer,
        name: str,
        content: AsyncIterable[bytes],
        *,
        size: int | None = None,
        replace: bool = True,
        source: str | None = None,
    ) -> tuple[FileRef, bool]:
        """Write a file whole or not at all; what it is now, and whether it is a new one.

        Args:
            content: read as it comes; never held whole.
            size: where it is known beforehand: what cannot fit is refused before it is sent.
            replace: whether a file of this name may be there.

        Raises:
            Refused: not_found, bad_request, conflict, too_large, storage_full.

        """
        check_name(name)
        async with self._table.use(session, viewer) as live:
            files = self.of(live)
            place = files.place_called(source)
            await files.look()
            before = (await files.watches())[place].known.get(name)
            replaced = before.mark.size if before else 0
            files.check_upload(size or 0, replaced)
            async with files.uploading(place, name) as new:
                async with aclosing(_pieces(content)) as pieces:
                    async for piece in pieces:
                        files.check_growth(new, len(piece), replaced)
                        await trio.to_thread.run_sync(new.write, piece)
                if live.deleting:
                    raise not_found("session", session)
                with trio.CancelScope(shield=True):
                    mark, created = await trio.to_thread.run_sync(lambda: new.commit(replace=replace))
                    files.landed(place, new)
                    await self._tell(files, place, name)
            ref = await self._ref(session, files, place, name, mark)
            return ref, created

    async def delete(self, session: str, viewer: Viewer, name: str, *, source: str | None = None) -> None:
        """Remove a file. Raises Refused: not_found, bad_request, conflict for a folder."""
        check_name(name)
        async with self._table.use(session, viewer) as live:
            files = self.of(live)
            place = files.place_called(source)
            await files.watches()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(delete_file, files.folders[place], name)
                await self._tell(files, place, name)

    async def fetch(self, session: str, viewer: Viewer, stored: str | None = None) -> dict[str, Any]:
        """Bring what a storage has of a session into this one's main place: {"files", "unchanged", "bytes", "failed"}.

        Args:
            stored: the id of another session, which only an admin may name; None is this one.

        Raises:
            Refused: not_found, forbidden, bad_request, backend_unavailable, storage_full.

        """
        if stored not in (None, session) and not viewer.admin:
            raise Refused("forbidden", "only an admin may bring in the files of another session")
        async with self._table.use(session, viewer) as live:
            files = self.of(live)
            await files.look()
            room = max(0, files.quota.limit_bytes - files.usage.bytes)
            done = await self._storage().fetch(stored or session, files.folders[files.main], room)
            await self._settle(files)
            return done

    async def purge(self, session: str, viewer: Viewer) -> dict[str, Any]:
        """Remove for good what a storage has of a session; its workspace stays. May be repeated, as `fetch`.

        An admin may do so for a session that was deleted. Raises Refused: not_found, backend_unavailable.
        """
        if not viewer.admin:
            await self._table.record(session, viewer)
        return await self._storage().purge(session)

    async def presigned_url(self, session: str, viewer: Viewer, name: str, expires_s: int) -> dict[str, Any]:
        """{"url", "expires_s"} of a stored file of the main place; the url is null where the storage has none.

        Raises Refused: not_found, bad_request, backend_unavailable.
        """
        check_name(name)
        async with self._table.use(session, viewer) as live:
            files = self.of(live)
            url = await self._storage().presigned_url(files.folders[files.main].name, name, expires_s)
            return {"url": url, "expires_s": expires_s}

    async def flush(self, live: LiveSession) -> None:
        """The session ends: have its files stored first, if they are stored at all."""
        if self.stored is not None:
            for folder in self.of(live).folders.values():
                await self.stored.flush(folder.name)

    async def emptied(self, live: LiveSession) -> None:
        """The session's files were removed on purpose, and an event says so."""
        files = self.of(live)
        files.forget()
        if self.stored is not None:
            for folder in files.folders.values():
                await self.stored.emptied(folder.name)

    def _storage(self) -> Stored:
        if self.stored is None:
            raise Refused("backend_unavailable", "no storage of files is configured: an operator names one in [files]")
        return self.stored

    async def note_uploads(self, live: LiveSession, turn: str, names: Sequence[str]) -> None:
        """Tell of files that came with a message; one that cannot be stored now is told with the next change."""
        with suppress(StorageFull, SessionFull, JournalClosed, SessionMissing):
            await self.of(live).append(lambda: (), turn, only=frozenset(names))

    async def usage(self, session: str, viewer: Viewer) -> dict[str, Any]:
        """What the session's files take, for `show`: {"used_bytes", "files", "quota_bytes"}."""
        async with self._table.use(session, viewer) as live:
            files = self.of(live)
            await files.look()
            usage = files.usage
            return {"used_bytes": usage.bytes, "files": usage.files, "quota_bytes": files.quota.limit_bytes}

    async def _tell(self, files: SessionFiles, place: str, name: str) -> None:
        try:
            await files.append(lambda: (), None, place=place, only={name})
        except (StorageFull, SessionFull, JournalClosed, SessionMissing) as error:
            raise refusal(error) from error

    async def _settle(self, files: SessionFiles) -> Mapping[str, Snapshot]:
        """What was left when a call was cut off is told before the files are shown."""
        try:
            return await files.settle(None)
        except (StorageFull, SessionFull, JournalClosed):
            return await files.look()  # a full disk must not keep anybody from seeing what fills it

    async def _ref(self, session: str, files: SessionFiles, place: str, name: str, mark: Mark) -> FileRef:
        await files.watches()
        return self._make_ref(session, files, place, name, mark)

    def _make_ref(self, session: str, files: SessionFiles, place: str, name: str, mark: Mark) -> FileRef:
        known = files.known(place).get(name)
        same = known is not None and known.mark[:2] == mark[:2]
        return FileRef(
            path=name,
            size=mark.size,
            checksum=known.checksum if known is not None and same else None,
            created_at=time_text(mark.mtime_ns) if known is None else known.created,
            storage_url=None if self.stored is None else self.stored.url_of(files.folders[place].name, name),
            source=place,
            modified_at=time_text(mark.mtime_ns),
        )

    async def _find(self, files: SessionFiles, name: str, source: str | None) -> tuple[str, Path]:
        """The place that has the file, and its folder; a hosted file is fetched into its folder first."""
        hosted = await files.hosted()
        if source is not None and source not in files.folders and not any(h.source == source for h in hosted.values()):
            files.place_called(source)  # says which there are
        for place, folder in files.folders.items():
            if source in (None, place) and await trio.to_thread.run_sync(is_there, folder, name):
                return place, folder
        for change in hosted.values():
            if change.name == name and source in (None, change.source):
                return change.source, await self._fetched(files, change)
        place = files.main if source is None else source
        return place, files.folders.get(place, files.folders[files.main])

    async def _fetched(self, files: SessionFiles, change: FileChange) -> Path:
        folder = files.folders.get(change.source)
        if self.hosted is None or folder is None:
            raise Refused(
                "backend_unavailable", f"{change.name[:200]} is hosted by {change.source}, which is not configured now"
            )
        await files.look()
        files.check_upload(change.size or 0, replaced=0)  # a model can have files made there as large as it likes
        await self.hosted.fetch(files.session, change, folder)
        return folder


def _hosted_ref(change: FileChange) -> FileRef:
    return FileRef(path=change.name, size=change.size, source=change.source, file_id=change.file_id)


async def _pieces(content: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    piece = bytearray()
    async for part in content:
        piece += part
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _keys_after(
    marks: Mapping[str, Mapping[str, Mark]],
    hosted: Sequence[tuple[str, str]],
    after: tuple[str, str] | None,
    limit: int,
) -> list[tuple[str, str]]:
    """Place and name of the files behind `after`: the places in their order, in each by name. Of many it takes a while.

    Args:
        marks: files of each place.
        hosted: others, by place and name.

    """
    order = {
        place: number for number, place in enumerate([*marks, *sorted({place for place, _ in hosted} - set(marks))])
    }
    keys = {(place, name) for place, there in marks.items() for name in there} | set(hosted)
    start = (-1, "") if after is None else (order.get(after[0], len(order)), after[1])
    rest = [key for place, name in keys if (key := (order[place], name)) > start]
    places = list(order)
    return [(places[number], name) for number, name in heapq.nsmallest(limit, rest)]


def _cursor(ref: FileRef) -> str:
    return base64.urlsafe_b64encode(f"{ref.source}\0{ref.path}".encode()).decode("ascii")


def _parse_cursor(cursor: str | None) -> tuple[str, str] | None:
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    source, separator, path = text.partition("\0")
    if not separator:
        raise Refused("bad_request", f"cursor {cursor[:40]!a} was not given out by this list; begin without one")
    return source, path
