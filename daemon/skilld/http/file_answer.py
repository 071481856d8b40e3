"""A file as an answer: with its range, its tag, and a name that is safe wherever it is saved."""

from __future__ import annotations

import re
from functools import partial
from typing import Final
from urllib.parse import quote

import trio
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skill_actors.files.content import OpenFile
from skill_actors.files.ref import FileRef
from skill_actors.files.snapshot import Mark

__all__ = ["FileAnswer", "disposition", "entity_tag", "range_of"]

_PIECE_BYTES: Final = 256 << 10
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def entity_tag(mark: Mark) -> str:
    """Another one whenever the file is another, or was written."""
    return f'"{mark.inode:x}-{mark.size:x}-{mark.mtime_ns:x}-{mark.ctime_ns:x}"'


def disposition(path: str) -> str:
    """Save, do not show: the last part of the path, for old readers in plain ASCII."""
    name = path.rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def range_of(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one behind the last, of a single range; None where the whole is to be sent.

    Raises:
        ValueError: nothing of it is in the file.

    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[0] == "bytes=-":
        return None  # absent, several, or of another unit: whoever sends the whole is always right
    first, last = found[1], found[2]
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise ValueError(f"bytes {header} of {size}")
    return start, end


class FileAnswer(Response):
    """Sends an open file, and closes it whatever happens.

    Args:
        headers: of the request.

    """

    def __init__(self, ref: FileRef, file: OpenFile, headers: Headers) -> None:
        tag = entity_tag(file.mark)
        size = file.mark.size
        given = {
            "accept-ranges": "bytes",
            "cache-control": "private, no-cache",
            "content-disposition": disposition(ref.path),
            "content-security-policy": "sandbox",
            "etag": tag,
            "x-content-type-options": "nosniff",
            "x-skilld-source": quote(ref.source),
        }
        status, self._start, self._end = 200, 0, size
        if _matches(headers.get("if-none-match"), tag):
            status, self._end = 304, 0
        elif headers.get("if-range") in (None, tag):
            try:
                wanted = range_of(headers.get("range"), size)
            except ValueError:
                status, self._end = 416, 0
                given["content-range"] = f"bytes */{size}"
            else:
                if wanted is not None:
                    status, (self._start, self._end) = 206, wanted
                    given["content-range"] = f"bytes {self._start}-{self._end - 1}/{size}"
        super().__init__(status_code=status, headers=given, media_type=ref.content_type)
        self.headers["content-length"] = str(self._end - self._start)
        if status == 304:
            del self.headers["content-length"]
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it piece by piece.

        Raises:
            OSError: the file became shorter meanwhile, or cannot be read: the answer is cut.

        """
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._send_pieces(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._file.close()

    async def _send_pieces(self, send: Send) -> None:
        place = self._start
        while place < self._end:
            count = min(_PIECE_BYTES, self._end - place)
            piece = await trio.to_thread.run_sync(partial(self._file.read_at, place, count))
            if not piece:
                raise OSError("the file became shorter while it was being sent")
            place += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})


def _matches(header: str | None, tag: str) -> bool:
    if header is None:
        return False
    return header.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in header.split(","))
