"""The manual pages, and what shells need to complete our commands, as files of a host."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from skill_actors import __version__
from skilld.cli.help_pages import help_pages
from skilld.cli.man_pages import file_name, man_page

__all__ = ["SHELLS", "completion_script", "manual_files", "manual_pages"]

# Where each looks by itself, below /usr/share and /usr/local/share.
_PLACES: Final = {
    "bash": "bash-completion/completions/skillctl",
    "zsh": "zsh/site-functions/_skillctl",
    "fish": "fish/vendor_completions.d/skillctl.fish",
}
SHELLS: Final = tuple(_PLACES)


def completion_script(root: click.Command, shell: str) -> str:
    """What a shell has to read once. Raises ValueError for one that has no completion."""
    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"no completion for {shell!r}; {', '.join(SHELLS)} have one")
    script = kind(root, {}, "skillctl", "_SKILLCTL_COMPLETE")
    return script.source_template % script.source_vars() + "\n"


def manual_pages(root: click.Command) -> dict[str, str]:
    """The source of each command's page, by the name of its file."""
    exit_codes = root.epilog or ""
    pages = help_pages(root, ("skillctl",))
    return {file_name(page): man_page(page, __version__, exit_codes) for page in pages}


def manual_files(root: click.Command, share: Path) -> dict[Path, bytes]:
    """All of them, by their places below a folder such as /usr/local/share."""
    pages = {share / "man/man1" / name: text for name, text in manual_pages(root).items()}
    scripts = {share / place: completion_script(root, shell) for shell, place in _PLACES.items()}
    return {path: text.encode() for path, text in (pages | scripts).items()}
