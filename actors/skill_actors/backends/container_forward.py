"""The way out of a container without a network: from a port of its own loopback to the socket of its proxy.

A process beside the runner that copies bytes and decides nothing; what is permitted is decided outside (`egress`).
Programs find it by HTTP_PROXY and its like. It is neither the runner's child nor a call's: its uid is its own, so no
call can end it, and it ends with the container.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import Final

__all__ = ["ADDRESS", "FOLDER", "PROXY", "SOCKET", "start"]

PROXY: Final = "SKILLD_PROXY"  # environment variable of the container: set if it has a proxy
FOLDER: Final = "/run/skilld"
SOCKET: Final = "proxy"
ADDRESS: Final = ("127.0.0.1", 3128)
_USER: Final = 19_997
_CONNECTIONS: Final = 32
_READ_BYTES: Final = 65_536


class _Way:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.held = b""
        self.ended = False  # the source
        self.over = False  # and the sink knows

    def read(self) -> None:
        self.held = self.source.recv(_READ_BYTES)
        self.ended = not self.held
        self.write()

    def write(self) -> None:
        if self.held:
            with contextlib.suppress(BlockingIOError):
                self.held = self.held[self.sink.send(self.held) :]
        if self.ended and not self.held and not self.over:
            self.over = True
            self.sink.shutdown(socket.SHUT_WR)


class _Forward:
    def __init__(self, listening: socket.socket, target: str) -> None:
        self._listening = listening
        self._target = target
        self._ways: dict[int, tuple[_Way, _Way]] = {}  # by descriptor: what is read from it, and what is written to it

    def step(self) -> None:
        """Wait for something to do, and do it."""
        poll = select.poll()
        if len(self._ways) < 2 * _CONNECTIONS:
            poll.register(self._listening, select.POLLIN)
        for number, (out, back) in self._ways.items():
            wanted = (0 if out.held or out.ended else select.POLLIN) | (select.POLLOUT if back.held else 0)
            if wanted:  # else a hang-up would be told again and again, before what is held has gone on
                poll.register(number, wanted)
        for number, events in poll.poll():
            if number == self._listening.fileno():
                self._accept()
            elif number in self._ways:
                self._move(number, events)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            near = self._listening.accept()[0]
            far = socket.socket(socket.AF_UNIX)
            near.setblocking(False)
            far.setblocking(False)
            try:
                far.connect(self._target)
            except OSError:  # the proxy is gone, or has more connections waiting than it takes
                near.close()
                far.close()
                return
            out, back = _Way(near, far), _Way(far, near)
            self._ways[near.fileno()] = (out, back)
            self._ways[far.fileno()] = (back, out)

    def _move(self, number: int, events: int) -> None:
        out, back = self._ways[number]
        try:
            if back.held and events & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                back.write()
            if not out.held and not out.ended and events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                out.read()
            if not (out.over and back.over):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        for end in (out.source, out.sink):
            self._ways.pop(end.fileno(), None)
            end.close()


def start(folder: str = FOLDER) -> None:
    """Listen, and leave a process that serves. To be called before anything else is started.

    Raises:
        OSError: the port is taken, or no process is to be had.

    """
    with socket.create_server(ADDRESS, backlog=_CONNECTIONS) as listening:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        try:
            if os.fork() == 0:  # the container's first process takes it: the runner would end what is no call
                _serve(listening, f"{folder}/{SOCKET}")
        finally:
            os._exit(0)


def _serve(listening: socket.socket, target: str) -> None:
    with open(os.devnull, "r+b") as nothing:  # the runner's own are the way to the daemon
        for number in range(3):
            os.dup2(nothing.fileno(), number)
    os.setgroups([])
    os.setresgid(_USER, _USER, _USER)
    os.setresuid(_USER, _USER, _USER)
    listening.setblocking(False)
    forward = _Forward(listening, target)
    while True:
        forward.step()
