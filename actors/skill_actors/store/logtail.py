"""What lies in a write-ahead log behind the part that SQLite can read.

A frame is a header of 24 bytes and a page. Its header holds, big endian, the page's number, the size of the database
after a commit (0 in frames that are no commit), two salts and two checksums. The salts are those of the log's own
header unless the frame is left from before the log was begun anew. https://sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

__all__ = ["PAGE_BYTES", "unread_commits"]

PAGE_BYTES: Final = 4_096

_LOG_HEADER: Final = struct.Struct(">8I")
_FRAME_HEADER: Final = struct.Struct(">6I")
_BYTE_ORDERS: Final = {0x377F0682: "<", 0x377F0683: ">"}  # how the words were read that the checksums are of


def unread_commits(log: Path, frames: int) -> int:
    """How many commits of the log's present life lie behind its first `frames` frames; 0 without a log. Blocks."""
    try:
        fd = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return _count(fd, frames)
    finally:
        os.close(fd)


def _count(fd: int, frames: int) -> int:
    head = os.pread(fd, _LOG_HEADER.size, 0)
    if len(head) < _LOG_HEADER.size:
        return 0
    if _is_sound(head):
        salts = head[16:24]
    else:
        # Then SQLite reads none of it, and only the frames themselves tell of which life they are.
        frames, salts = 0, os.pread(fd, 8, _LOG_HEADER.size + 8)
    step = _FRAME_HEADER.size + PAGE_BYTES
    place = _LOG_HEADER.size + frames * step
    found = 0
    while len(header := os.pread(fd, _FRAME_HEADER.size, place)) == _FRAME_HEADER.size:
        found += header[8:16] == salts and any(header[4:8])
        place += step
    return found


def _is_sound(head: bytes) -> bool:
    """Whether the log's header has the checksum it carries."""
    magic, *_, first, second = _LOG_HEADER.unpack(head)
    if magic not in _BYTE_ORDERS:
        return False
    words = struct.unpack(f"{_BYTE_ORDERS[magic]}6I", head[:24])
    sums = [0, 0]
    for left, right in zip(words[::2], words[1::2], strict=True):
        sums[0] = (sums[0] + left + sums[1]) & 0xFFFFFFFF
        sums[1] = (sums[1] + right + sums[0]) & 0xFFFFFFFF
    return sums == [first, second]
