"""Many clients at once on the socket: skilld as a whole process, beside a bare ASGI app on the same server.

    python benchmarks/socket_load.py [--clients 1,16,256] [--seconds S] [--rounds N]

Each client has one connection and one request under way, GET /v1/version. The clients are one process, which waits for
all of its sockets by epoll and costs little beside the servers; each server is a process of its own. They are measured
in turns. p99 grows with the clients by itself: behind one server each waits for the others, so compare the columns.
"""

from __future__ import annotations

import argparse
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from _daemon import daemon

_REQUEST: Final = b"GET /v1/version HTTP/1.1\r\nhost: skilld\r\n\r\n"
_BARE: Final = """
import sys, trio
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from socket_round_trip import bare_app
from skilld.http import HttpServer, ServerLimits, open_listener
server = HttpServer(bare_app, ServerLimits(connections_per_peer=4096), "0")
trio.run(server.serve, open_listener(Path(sys.argv[1]), {}))
"""
_GIVE_UP_S: Final = 30.0
_WARM: Final = 0.2  # of the time: connections are accepted meanwhile, and nothing is counted


@dataclass(slots=True)
class Load:
    """What one server answered.

    Args:
        waits_s: of each request, from its first byte out to its last byte in.
        seconds: for how long it was asked.

    """

    waits_s: list[float] = field(default_factory=list)
    seconds: float = 0.0


def connect(path: Path) -> socket.socket:
    """A connection, as soon as somebody listens.

    Raises:
        RuntimeError: nobody does, after 30 s.

    """
    deadline = time.monotonic() + _GIVE_UP_S
    while True:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(str(path))
            return made
        except OSError as error:
            made.close()
            if time.monotonic() > deadline:
                raise RuntimeError(f"nobody listens at {path}") from error
            time.sleep(0.02)


def ask(path: Path, clients: int, seconds: float, load: Load) -> None:
    """Keep one request of each client under way for some time, and add what they waited.

    Raises:
        RuntimeError: the server does not listen, or closes a connection.

    """
    with ExitStack() as stack:
        sockets = {}
        poller = stack.enter_context(select.epoll())
        for _ in range(clients):
            one = stack.enter_context(connect(path))
            sockets[one.fileno()] = one
            poller.register(one, select.EPOLLIN)
        size = _size_of_answer(next(iter(sockets.values())))
        missing = dict.fromkeys(sockets, size)
        sent_s = {fd: _send(one) for fd, one in sockets.items()}
        began_s = time.perf_counter()
        warm_s, until_s = began_s + _WARM * seconds, began_s + seconds
        while (now_s := time.perf_counter()) < until_s:
            for fd, _event in poller.poll(1.0):
                received = len(sockets[fd].recv(65_536))
                if not received:
                    raise RuntimeError("the server has closed a connection")
                missing[fd] -= received
                if missing[fd] <= 0:
                    if sent_s[fd] > warm_s:
                        load.waits_s.append(time.perf_counter() - sent_s[fd])
                    missing[fd] = size
                    sent_s[fd] = _send(sockets[fd])
        load.seconds += now_s - warm_s


def _send(one: socket.socket) -> float:
    one.sendall(_REQUEST)
    return time.perf_counter()


def _size_of_answer(one: socket.socket) -> int:
    """Every answer is as long: only their dates differ."""
    one.sendall(_REQUEST)
    whole = b""
    while True:
        whole += one.recv(65_536)
        head, end, body = whole.partition(b"\r\n\r\n")
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), None)
        if end and length is not None and len(body) >= int(length.partition(b":")[2]):
            return len(whole)


@contextmanager
def bare_server(folder: Path) -> Iterator[Path]:
    """The socket of a bare ASGI app on our server, in a process of its own."""
    path = folder / "bare.sock"
    with subprocess.Popen([sys.executable, "-c", _BARE, str(path), str(Path(__file__).parent)]) as process:
        try:
            connect(path).close()
            yield path
        finally:
            process.terminate()


@contextmanager
def whole_daemon(folder: Path) -> Iterator[Path]:
    """The socket of skilld."""
    config = folder / "skilld.toml"
    config.write_text("[limits]\nconnections_per_peer = 4096\n")
    with daemon(folder, arguments=[f"--config={config}"]):
        yield folder / "skilld.sock"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="1,16,256")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'GET /v1/version':28} {'clients':>8} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'req/s, x bare':>14}")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        servers = {
            "bare ASGI app, our server": stack.enter_context(bare_server(Path(name))),
            "skilld": stack.enter_context(whole_daemon(Path(name))),
        }
        for clients in map(int, options.clients.split(",")):
            loads = {kind: Load() for kind in servers}
            for _ in range(options.rounds):
                for kind, path in servers.items():
                    ask(path, clients, options.seconds, loads[kind])
            report(clients, loads)


def report(clients: int, loads: Mapping[str, Load]) -> None:
    """Print the rows of one number of clients; the first server is the floor."""
    floor = 0.0
    for kind, load in loads.items():
        rate = len(load.waits_s) / load.seconds
        floor = floor or rate
        p99_ms = statistics.quantiles(load.waits_s, n=100)[98] * 1e3
        p50_ms = statistics.median(load.waits_s) * 1e3
        print(f"{kind:28} {clients:8} {rate:8.0f} {p50_ms:8.2f} {p99_ms:8.2f} {rate / floor:14.2f}")


if __name__ == "__main__":
    main()
