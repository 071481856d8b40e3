"""skillctl, the command line: a thin program over `skilld.client`."""

from __future__ import annotations

import gc

__all__ = ["main"]


def main() -> None:
    """Run skillctl with the arguments of the process, and exit."""
    gc.set_threshold(50_000)  # before the imports, in which the default would look for garbage a hundred times
    from skilld.cli.app import skillctl
    from skilld.cli.output import prepare_streams

    prepare_streams()
    skillctl(prog_name="skillctl")
