"""`skilld-broker`: holds the container engine's socket for a daemon that does not.

Exit status: 0 stopped by a signal; 75 another instance has the socket; 78 the arguments cannot be used.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from skill_actors import __version__
from skilld.broker.rules import Limits
from skilld.broker.server import Broker
from skilld.exits import EXIT_CONFIG, EXIT_TAKEN
from skilld.http.listener import Listener, ListenerError, SocketInUse, open_listener
from skilld.logs import set_up_logging
from skilld.notify import Notifier, watchdog_interval_s

__all__ = ["main"]

_log = logging.getLogger("skilld.broker")
_IMAGES: Final = ("localhost/skilld-sandbox:full", "localhost/skilld-sandbox:slim")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal; the exit status."""
    options = _parser().parse_args(arguments)
    set_up_logging(options.log_format, "info", to_journal="JOURNAL_STREAM" in os.environ)
    try:
        listener = open_listener(options.socket, os.environ)
    except SocketInUse as error:
        _log.error("%s", error)
        return EXIT_TAKEN
    except ListenerError as error:
        _log.error("%s", error)
        return EXIT_CONFIG
    limits = Limits(
        images=tuple(options.image or _IMAGES),
        memory_bytes=options.memory_bytes,
        cpus=options.cpus,
        processes=options.processes,
        containers=options.containers,
        runtimes=tuple(options.runtime),
    )
    # The same after a restart, so that what an earlier life made can still be removed.
    label = hashlib.sha256(os.fsencode(listener.path)).hexdigest()[:16]
    try:
        trio.run(_serve, Broker(options.engine, limits, label), listener, os.environ)
    finally:
        listener.close()
    return 0


async def _serve(broker: Broker, listener: Listener, environ: Mapping[str, str]) -> None:
    notifier = Notifier(environ)
    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener.sock))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, broker.serve, [accepting])
            nursery.start_soon(_feed, notifier, watchdog_interval_s(environ))
            notifier.ready(f"serving on {listener.path}")
            _log.info("serving on %s", listener.path)
            await anext(received)
            notifier.stopping()
            nursery.cancel_scope.cancel()


async def _feed(notifier: Notifier, interval_s: float | None) -> None:
    while interval_s is not None:
        notifier.watchdog()
        await trio.sleep(interval_s / 3)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skilld-broker",
        description="Make containers without rights, and no others, for a daemon that cannot reach the engine itself.",
    )
    parser.add_argument("--engine", default="/run/docker.sock", metavar="PATH", help="the engine's socket")
    parser.add_argument("--socket", type=Path, default=Path("/run/skilld-broker/docker.sock"), metavar="PATH")
    parser.add_argument("--image", action="append", metavar="NAME", help="an image that may be used; may repeat")
    parser.add_argument("--runtime", action="append", default=[], metavar="NAME", help="one that may be; may repeat")
    parser.add_argument("--memory-bytes", type=_positive, default=1 << 30, help="of one container, at most")
    parser.add_argument("--cpus", type=float, default=1.0, help="of one container, at most")
    parser.add_argument("--processes", type=_positive, default=512, help="in one container, at most")
    parser.add_argument("--containers", type=_positive, default=64, help="at a time, at most")
    parser.add_argument("--log-format", choices=("text", "json", "journal"), default="text")
    parser.add_argument("--version", action="version", version=f"skilld-broker {__version__}")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
