"""Pictures that a model may be shown: recognised by what they hold, never by their name, and only if they are whole.

A picture that the API cannot read, or that is too large for it, would be refused with every later request of its
conversation. So what is not known to be taken is not shown as a picture. Blocks: call it in a worker thread.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from . import tools
from .base import Image, ImageKind
from .paths import PathRefused, locate, opened, readable_file

__all__ = ["MAX_IMAGE_BYTES", "MAX_IMAGE_SIDE", "picture", "recognise", "why_not"]

MAX_IMAGE_BYTES: Final = 3 << 20  # the API's limit is 5 MB in base64
MAX_IMAGE_SIDE: Final = 8_000

_NO_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG markers that stand alone
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def picture(request: tools.View, *, workspace: str, readable: Sequence[Path]) -> tuple[str, Image | None] | None:
    """What to say of the picture the path leads to, and the picture if it can be shown; None if it is none.

    Raises PathRefused as `files.view` does.
    """
    where = locate(request.path, workspace=workspace, readable=readable)
    with opened(where) as fd:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        with open(readable_file(fd, where), "rb") as file:
            try:
                data = file.read(MAX_IMAGE_BYTES + 1)
                size = os.fstat(file.fileno()).st_size
            except OSError as error:
                raise PathRefused(f"{where.shown}: {error.strerror}") from None
    found = recognise(data)
    if found is None:
        return None
    kind, sides = found
    told = f"{request.path}: {kind}, {size} bytes" + (f", {sides[0]} x {sides[1]} pixels" if sides else "")
    if request.first is not None:
        raise PathRefused(f"{request.path} is a picture; view_range is for text")
    reason = why_not(data, kind, sides)
    return (told, Image(media_type=kind, data=data)) if reason is None else (f"{told}; {reason}", None)


def why_not(data: bytes, kind: ImageKind, sides: tuple[int, int] | None) -> str | None:
    """Why a picture is not shown; None if it can be."""
    if len(data) > MAX_IMAGE_BYTES:
        return f"pictures of more than {MAX_IMAGE_BYTES} bytes are not shown: make a smaller one"
    if sides is None or not _is_whole(kind, data):
        return "it is damaged or cut off, and not shown"
    if not 0 < min(sides) <= max(sides) <= MAX_IMAGE_SIDE:
        return f"pictures of more than {MAX_IMAGE_SIDE} pixels a side are not shown: make a smaller one"
    return None


def recognise(data: bytes) -> tuple[ImageKind, tuple[int, int] | None] | None:
    """Media type, and width and height where they can be read; None for what is no picture of a kind the API takes."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return "image/png", struct.unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else None
        if data.startswith((b"GIF87a", b"GIF89a")):
            return "image/gif", struct.unpack_from("<HH", data, 6)
        if data.startswith(b"\xff\xd8\xff"):
            return "image/jpeg", next(_jpeg_sides(data), None)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return "image/webp", _webp_sides(data)
    except struct.error:  # it ends before it has said how large it is
        kinds: dict[int, ImageKind] = {0x89: "image/png", 0x47: "image/gif", 0xFF: "image/jpeg"}
        return kinds.get(data[0], "image/webp"), None
    return None


def _jpeg_sides(data: bytes) -> Iterator[tuple[int, int]]:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            yield width, height
        if marker == 0xFF or marker in _NO_LENGTH:
            at += 1 if marker == 0xFF else 2
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _webp_sides(data: bytes) -> tuple[int, int] | None:
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None


def _is_whole(kind: ImageKind, data: bytes) -> bool:
    match kind:
        case "image/png":
            return data[-8:-4] == b"IEND" or b"IEND\xaeB`\x82" in data[-64:]
        case "image/gif":
            return data.rstrip(b"\0").endswith(b";")
        case "image/jpeg":
            return b"\xff\xd9" in data[-64:]
    return len(data) >= 8 + int.from_bytes(data[4:8], "little")
