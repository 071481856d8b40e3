"""What a runner and the daemon say to each other: frames, on the runner's stdin and stdout.

Each is HEADER and then the payload. Both ends use this, so it needs the standard library only, and loads fast.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not free to import, and the runner starts often
    from typing import Final

__all__ = [
    "CANCEL",
    "CREDIT",
    "DONE",
    "FATAL",
    "HEADER",
    "HELLO",
    "MAX_FRAME_BYTES",
    "PROTOCOL",
    "RUN",
    "STDERR",
    "STDOUT",
    "Frames",
    "frame",
]

PROTOCOL: Final = 1
HEADER: Final = struct.Struct(">IBI")  # payload bytes, kind, number of the call
MAX_FRAME_BYTES: Final = 16 << 20

RUN: Final = 1  # to the runner: start the call that the JSON payload describes
CREDIT: Final = 2  # to the runner: this many more bytes (4, big-endian) of output may be sent
CANCEL: Final = 3  # to the runner: end the call
HELLO: Final = 17  # from the runner, once: {"protocol", "pid"}
STDOUT: Final = 18  # from the runner: output, UTF-8
STDERR: Final = 19
DONE: Final = 20  # from the runner: the call and all its processes are over; JSON
FATAL: Final = 21  # from the runner: its own traceback, before it exits


def frame(kind: int, call: int, payload: bytes = b"") -> bytes:
    """A frame ready to be written."""
    return HEADER.pack(len(payload), kind, call) + payload


class Frames:
    """Bytes in, frames out. A frame beyond the limit comes out with payload None, and its bytes are skipped."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[tuple[int, int, bytes | None]]:
        """Take `data`; return each frame that is complete now as (kind, call, payload)."""
        self._buffer += data
        frames: list[tuple[int, int, bytes | None]] = []
        while True:
            if self._skip:
                dropped = min(self._skip, len(self._buffer))
                del self._buffer[:dropped]
                self._skip -= dropped
            if self._skip or len(self._buffer) < HEADER.size:
                return frames
            length, kind, call = HEADER.unpack_from(self._buffer)
            if length > self._max_bytes:
                frames.append((kind, call, None))
                self._skip = HEADER.size + length
                continue
            end = HEADER.size + length
            if len(self._buffer) < end:
                return frames
            frames.append((kind, call, bytes(self._buffer[HEADER.size : end])))
            del self._buffer[:end]
