"""Answers every request on loopback at once with the same message, as little of a Messages API as a client needs.

Run by monitor.py as a process of its own, so that what it takes is not the client's; prints its port.
"""

from __future__ import annotations

import asyncio
import json

from _monitor_peers import ANSWER

_BODY = json.dumps(ANSWER).encode()
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class Answering(asyncio.Protocol):
    """One connection, kept open for as many requests as come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (whole_bytes := _request_bytes(self._unread)) <= len(self._unread):
            self._unread = self._unread[whole_bytes:]
            self._transport.write(_ANSWER)  # type: ignore[attr-defined]  # a transport of a stream has it


def _request_bytes(unread: bytes) -> int:
    """Of the first request, head and body; more than there is while its head is not whole."""
    head, ending, _rest = unread.partition(b"\r\n\r\n")
    if not ending:
        return len(unread) + 1
    lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(head) + len(ending) + int(lengths[0] if lengths else 0)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
