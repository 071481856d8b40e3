"""A request read to its end. Who answers and closes before that resets the connection, and the answer may be lost."""

from __future__ import annotations

import re
import socket

import trio

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_PART_BYTES = 65_536


def is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head + end)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


async def whole_request(stream: trio.abc.ReceiveStream) -> bytes:
    """What came until a request was whole, or its sender ended."""
    data = b""
    while not is_whole(data) and (part := await stream.receive_some(_PART_BYTES)):
        data += part
    return data


def read_whole_request(connection: socket.socket) -> bytes:
    """The same of a socket that blocks."""
    data = b""
    while not is_whole(data) and (part := connection.recv(_PART_BYTES)):
        data += part
    return data
