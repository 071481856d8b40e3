"""Pictures made by hand, whole and small."""

from __future__ import annotations

import struct
import zlib


def png(width: int = 2, height: int = 1, padding: int = 0) -> bytes:
    """A real picture; with padding, that much larger."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xff\0\0" * width) * height if width * height < 10_000 else b""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    filler = chunk(b"teXt", bytes(padding)) if padding else b""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + filler + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def gif(width: int = 2, height: int = 1) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0;"


def jpeg(width: int = 2, height: int = 1) -> bytes:
    application = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + bytes(9)
    return (
        b"\xff\xd8"
        + application
        + b"\xff\xff\xc2"
        + struct.pack(">HBHH", 11, 8, height, width)
        + bytes(6)
        + b"\xff\xd9"
    )


def webp(kind: bytes, width: int = 2, height: int = 1) -> bytes:
    match kind:
        case b"VP8 ":
            body = bytes(6) + struct.pack("<HH", width, height)
        case b"VP8L":
            body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(5)
        case _:
            body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    inner = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(inner)) + inner
