"""The socket: who may connect, what is served, and how HTTP is spoken."""

from skilld.http.app import build_app
from skilld.http.limits import ServerLimits
from skilld.http.listener import Listener, ListenerError, SocketInUse, open_listener
from skilld.http.peer import Peer
from skilld.http.server import HttpServer
from skilld.http.services import Services, Viewer

__all__ = [
    "HttpServer",
    "Listener",
    "ListenerError",
    "Peer",
    "ServerLimits",
    "Services",
    "SocketInUse",
    "Viewer",
    "build_app",
    "open_listener",
]
