"""Names of a workspace's files, and what kind of content a name promises.

A name is the path below the workspace with `/` between its parts. What the daemon keeps there for itself is not a
file of the user: it is neither shown nor reported, and cannot be asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

from skill_actors.errors import Refused

__all__ = ["CONTENT_TYPES", "OTHER_TYPE", "UPLOAD_PREFIX", "check_name", "content_type_of", "is_own"]

UPLOAD_PREFIX: Final = ".upload-"
OTHER_TYPE: Final = "application/octet-stream"

_MAX_BYTES: Final = 1024
_MAX_PART_BYTES: Final = 255
_MAX_PARTS: Final = 64
_OWN_AT_ROOT: Final = (".skilld", UPLOAD_PREFIX)
_OWN_ANYWHERE: Final = re.compile(r"\.[0-9a-f]{16}\.part")  # a file that `create_file` is just writing

# Not the machine's mime.types: the same name means the same on every host.
CONTENT_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".bmp": "image/bmp",
        ".css": "text/css",
        ".csv": "text/csv",
        ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ".gif": "image/gif",
        ".gz": "application/gzip",
        ".htm": "text/html",
        ".html": "text/html",
        ".jpeg": "image/jpeg",
        ".jpg": "image/jpeg",
        ".js": "text/javascript",
        ".json": "application/json",
        ".jsonl": "application/x-ndjson",
        ".log": "text/plain",
        ".md": "text/markdown",
        ".mp3": "audio/mpeg",
        ".mp4": "video/mp4",
        ".parquet": "application/vnd.apache.parquet",
        ".pdf": "application/pdf",
        ".png": "image/png",
        ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        ".py": "text/x-python",
        ".sh": "application/x-sh",
        ".svg": "image/svg+xml",
        ".tar": "application/x-tar",
        ".toml": "application/toml",
        ".tsv": "text/tab-separated-values",
        ".txt": "text/plain",
        ".wav": "audio/wav",
        ".webp": "image/webp",
        ".xls": "application/vnd.ms-excel",
        ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ".xml": "application/xml",
        ".yaml": "application/yaml",
        ".yml": "application/yaml",
        ".zip": "application/zip",
    }
)


def content_type_of(name: str) -> str:
    """What the ending of the name promises, whatever its case; application/octet-stream where it promises nothing."""
    return CONTENT_TYPES.get(PurePosixPath(name).suffix.lower(), OTHER_TYPE)


def is_own(name: str) -> bool:
    """Whether the daemon keeps this file (or what is below it) for itself."""
    first, _, rest = name.partition("/")
    return first.startswith(_OWN_AT_ROOT) or _OWN_ANYWHERE.fullmatch(rest.rpartition("/")[2] or first) is not None


def check_name(name: str) -> tuple[str, ...]:
    """The parts of a name that a client gave.

    Raises:
        Refused: bad_request, if it leads or could lead out of the workspace, names what is the daemon's own, or is
            something that no file can be called.

    """
    why = _fault(name)
    if why:
        raise Refused("bad_request", f"file name {name[:80]!a}: {why}", details={"name": name[:200]})
    return tuple(name.split("/"))


def _fault(name: str) -> str:
    """What is wrong with it; empty if nothing is."""
    if not name:
        return "it is empty"
    if "\0" in name:
        return "it contains a NUL character"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if name.startswith("/"):
        return "it is absolute; names are relative to the workspace"
    parts = name.split("/")
    if size > _MAX_BYTES or len(parts) > _MAX_PARTS or any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        return f"at most {_MAX_BYTES} bytes, {_MAX_PARTS} parts and {_MAX_PART_BYTES} bytes a part are allowed"
    if any(part in ("", ".", "..") for part in parts):
        return "a part of it is empty, '.' or '..'"
    return "names beginning so are the daemon's own" if is_own(name) else ""
