"""The client library: `Client` for ordinary programs, `AsyncClient` for trio programs.

    from skilld.client import Client

    with Client() as client:
        session = client.create_session(title="logs")
        for event in client.send_streaming(session["id"], "analyze the log /var/log/dpkg.log"):
            print(event.type)

Importing this module is cheap: httpx and trio are imported when a client that needs them is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skilld.client.errors import ConnectionLost, DaemonUnreachable, ProtocolError, RequestTimeout, SkilldError
from skilld.client.events import TURN_ENDINGS, Event
from skilld.client.sync import Client, socket_path
from skilld.client.wire import Accepted, Upload

if TYPE_CHECKING:
    from skilld.client.aio import AsyncClient

__all__ = [
    "TURN_ENDINGS",
    "Accepted",
    "AsyncClient",
    "Client",
    "ConnectionLost",
    "DaemonUnreachable",
    "Event",
    "ProtocolError",
    "RequestTimeout",
    "SkilldError",
    "Upload",
    "socket_path",
]


def __getattr__(name: str) -> Any:
    if name == "AsyncClient":
        from skilld.client.aio import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
