"""skillctl board: work that is to be done, who does it, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from skilld.cli.app import LazyGroup

__all__ = ["board_command"]

_ITEMS: Final = "workshop.board_items"
_CLAIMS: Final = "workshop.board_claims"
_MODULES: Final[Mapping[str, str]] = {
    "add": _ITEMS,
    "cancel": _ITEMS,
    "claim": _CLAIMS,
    "complete": _CLAIMS,
    "edit": _ITEMS,
    "fail": _CLAIMS,
    "heartbeat": _CLAIMS,
    "list": _ITEMS,
    "release": _CLAIMS,
    "retry": _ITEMS,
    "rm": _ITEMS,
    "show": _ITEMS,
    "start": _CLAIMS,
    "summary": _ITEMS,
    "watch": _ITEMS,
}


@click.group("board", cls=LazyGroup, modules=_MODULES)
def board_command() -> None:
    """See what is to be done, add to it, and do it.

    Items wait for those that they depend on; workers do them ('skillctl workshop worker start'), or whoever claims one.

    \b
    Examples:
      skillctl board add "Fix the build" --type code --verify make --verify check
      skillctl board add "Write it up" --type docs --depends-on fix-build
      skillctl board list
      skillctl board watch
    """
