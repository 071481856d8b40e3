"""The Files API of the fake server: what was uploaded, what tools made, and until when it is there."""

from __future__ import annotations

import mimetypes
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from skill_actors.testing.wire import Call, Refusal, Sent, page_of, parse_form

__all__ = ["FakeFiles", "StoredFile", "timestamp"]

_MAX_BYTES: Final = 500_000_000
_EXPIRY_S: Final = range(3600, 7_776_001)
_MAX_IDS: Final = 100


def timestamp(at_s: float) -> str:
    """Seconds since 1970 as the API writes times."""
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


@dataclass(slots=True, kw_only=True)
class StoredFile:
    """One file. `downloadable` is what the API lets a client have back: what tools made."""

    id: str
    filename: str
    content: bytes = field(repr=False)
    mime_type: str
    created_s: float
    downloadable: bool
    expires_s: float | None = None
    claimed_bytes: int | None = None  # in place of the size, to try what a client believes

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "file",
            "filename": self.filename,
            "mime_type": self.mime_type,
            "size_bytes": len(self.content) if self.claimed_bytes is None else self.claimed_bytes,
            "created_at": timestamp(self.created_s),
            "downloadable": self.downloadable,
            "expires_at": None if self.expires_s is None else timestamp(self.expires_s),
        }


class FakeFiles:
    """All files of the one workspace.

    Args:
        now: seconds since 1970; what expires goes by it.

    Attributes:
        files: by id, oldest first.

    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.files: dict[str, StoredFile] = {}
        self._now = now

    def add(
        self, filename: str, content: bytes, *, downloadable: bool, mime_type: str = "", expires_s: float | None = None
    ) -> StoredFile:
        """Keep a file; `expires_s` is a point in time."""
        kind = mime_type or mimetypes.guess_type(filename)[0] or "application/octet-stream"
        file = StoredFile(
            id=f"file_{secrets.token_hex(12)}",
            filename=filename,
            content=content,
            mime_type=kind,
            created_s=self._now(),
            downloadable=downloadable,
            expires_s=expires_s,
        )
        self.files[file.id] = file
        return file

    def answer(self, call: Call) -> Sent:
        """Serve a call of /v1/files. Raises Refusal."""
        match (call.method, *call.path[2:]):
            case ("POST",):
                return self._upload(call)
            case ("GET",):
                return Sent(body=self._list(call))
            case ("GET", id):
                return Sent(body=self._found(id).to_json())
            case ("GET", id, "content"):
                return self._content(id)
            case ("DELETE", id):
                del self.files[self._found(id, expired=True).id]
                return Sent(body={"id": id, "type": "file_deleted"})
        raise Refusal(404, "Not found")

    def is_there(self, id: str) -> bool:
        """Whether a request may use this file."""
        file = self.files.get(id)
        return file is not None and not self._is_over(file)

    def _upload(self, call: Call) -> Sent:
        form = parse_form(call.headers, call.content)
        sent = [part for part in form.files if part.name == "file"]
        if len(sent) != 1:
            raise Refusal(400, "file: Field required")
        name = sent[0].filename.replace("\\", "/").rpartition("/")[2] or "unnamed"
        if len(name) > 255 or any(ord(letter) < 32 or letter in '<>:"|?*' for letter in name):
            raise Refusal(400, "Invalid filename: 1-255 characters without control or reserved characters")
        if len(sent[0].content) > _MAX_BYTES:
            raise Refusal(413, "File exceeds the maximum size of 500 MB")
        expires_s = None
        if text := form.fields.get("expires_in_seconds"):
            if not text.isdigit() or int(text) not in _EXPIRY_S:
                raise Refusal(400, "expires_in_seconds: Input should be between 3600 and 7776000")
            expires_s = self._now() + int(text)
        kind = sent[0].content_type
        file = self.add(name, sent[0].content, downloadable=False, mime_type=kind, expires_s=expires_s)
        return Sent(body=file.to_json())

    def _list(self, call: Call) -> dict[str, Any]:
        shown = [file for file in reversed(self.files.values()) if not self._is_over(file)]
        if ids := call.query.get("ids"):
            if "page" in call.query or "limit" in call.query:
                raise Refusal(400, "ids: cannot be combined with page or limit")
            if len(set(ids)) > _MAX_IDS:
                raise Refusal(400, f"ids: at most {_MAX_IDS} entries")
            return {"data": [file.to_json() for file in shown if file.id in ids], "next_page": None}
        return page_of(call, [file.to_json() for file in shown])

    def _content(self, id: str) -> Sent:
        file = self._found(id)
        if not file.downloadable:
            message = "This file is not downloadable. Only files created by skills or the code execution tool are."
            raise Refusal(400, message, error_code="file_not_downloadable")
        return Sent(content=file.content, content_type=file.mime_type)

    def _found(self, id: str, *, expired: bool = False) -> StoredFile:
        file = self.files.get(id)
        if file is None:
            raise Refusal(404, f"File not found: {id}")
        if self._is_over(file) and not expired:
            raise Refusal(404, f"File has expired: {id}", error_code="file_expired")
        return file

    def _is_over(self, file: StoredFile) -> bool:
        return file.expires_s is not None and file.expires_s <= self._now()
