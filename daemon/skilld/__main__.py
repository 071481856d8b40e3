"""`skilld`: the daemon, in the foreground.

Exit status: 0 drained and stopped; 70 the root supervisor gave up, or the event loop hung; 74 the journal could not be
flushed; 75 another instance has the socket or the state; 78 the configuration cannot be used (systemd does not restart
for that).
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from skill_actors import __version__
from skilld.exits import EXIT_CONFIG

__all__ = ["main"]

_log = logging.getLogger("skilld")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon until a signal ends it; the exit status."""
    options = _parser().parse_args(arguments)
    if not os.isatty(0):
        # Until there is somebody who reloads: else a hangup during the start would end it. No SIG_IGN, which commands
        # would inherit.
        signal.signal(signal.SIGHUP, lambda number, frame: None)
    gc.disable()  # until ready: what the imports make is kept, and to look through it takes longer than to make it
    # Late: --help and --version need none of it.
    from skill_actors.backends.processes import adopt_orphans
    from skilld.config import Config, ConfigError, find_and_load
    from skilld.hardening import forbid_dumps
    from skilld.logs import set_up_logging

    forbid_dumps()
    adopt_orphans()  # what kills the launcher above it stays below the daemon, and is nobody's but the daemon's

    def read() -> Config:
        return find_and_load(options.config, os.environ, _overrides(options)).config

    try:
        config = read()
    except ConfigError as error:
        print(f"skilld: {error}", file=sys.stderr)
        return EXIT_CONFIG
    faulthandler.enable()  # for the service manager's SIGABRT, the last way to see who holds Python's lock
    set_up_logging(config.daemon.log_format, config.daemon.log_level, to_journal="JOURNAL_STREAM" in os.environ)

    from skilld.app import run_daemon

    return run_daemon(config, os.environ, read)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skilld",
        description="Hold agent conversations, give them the skills found on disk, and serve them on a Unix socket.",
        epilog="""\
exit status: 0 stopped as asked; 70 gave up after repeated failures, or hung; 74 the journal cannot be written; 75
another instance has the socket or the state directory; 78 the configuration cannot be used

try:
  skilld --skills ./skills
and in another terminal:
  skillctl send 'hello'
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML configuration, with the conf.d beside it (default: that of /etc/skilld, then ~/.config/skilld)",
    )
    parser.add_argument("--socket", type=Path, metavar="PATH", help="where to listen (or SKILLD_SOCKET)")
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="what is kept (or SKILLD_STATE_DIR)")
    parser.add_argument(
        "--skills",
        type=Path,
        metavar="DIR",
        action="append",
        help="folder of skills, may repeat; then no others are read (default: [skills] of the configuration)",
    )
    parser.add_argument("--log-format", choices=("text", "json", "journal"), help="how the log looks (default: text)")
    parser.add_argument("--version", action="version", version=f"skilld {__version__}")
    return parser


def _overrides(options: argparse.Namespace) -> Mapping[str, object]:
    return {
        "daemon.socket": options.socket,
        "daemon.state_dir": options.state_dir,
        "skills.paths": options.skills,
        "daemon.log_format": options.log_format,
    }


if __name__ == "__main__":
    raise SystemExit(main())
