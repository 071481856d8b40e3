"""What is said of one file wherever it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skill_actors.files.names import content_type_of

__all__ = ["FileRef"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """A file of a session.

    Args:
        path: its name below the workspace.
        size: in bytes; None where whoever hosts it does not say.
        checksum: "sha256:..." of the content; None where nobody has read it yet.
        created_at: RFC 3339, when it was first seen; None where that is not known.
        storage_url: where else it is kept, without a signature; None where it is not.
        source: the place in which it is.
        modified_at: the file's own time, RFC 3339.
        file_id: its id on the side that hosts it.

    """

    path: str
    size: int | None
    checksum: str | None = None
    created_at: str | None = None
    storage_url: str | None = None
    source: str = ""
    modified_at: str | None = None
    file_id: str | None = None

    @property
    def content_type(self) -> str:
        return content_type_of(self.path)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "path": self.path,
            "source": self.source,
            "size": self.size,
            "content_type": self.content_type,
            "checksum": self.checksum,
            "storage_url": self.storage_url,
            "created_at": self.created_at,
            "modified_at": self.modified_at,
            "file_id": self.file_id,
        }
