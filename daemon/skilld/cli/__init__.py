"""skillctl, the command line: a thin program over `skilld.client`."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run skillctl with the arguments of the process, and exit."""
    from skilld.cli.app import skillctl
    from skilld.cli.output import prepare_streams

    prepare_streams()
    skillctl(prog_name="skillctl")
