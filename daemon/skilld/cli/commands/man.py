"""skillctl man: the manual pages, written from the help of the commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from skill_actors import __version__
from skilld.cli.failure import Failure
from skilld.cli.help_pages import help_pages
from skilld.cli.man_pages import man_page
from skilld.cli.manual_files import manual_pages
from skilld.cli.output import is_terminal

__all__ = ["man_command"]


@click.command("man")
@click.argument("command", nargs=-1)
@click.option(
    "--all",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the pages of all commands into this folder, such as ~/.local/share/man/man1.",
)
@click.pass_context
def man_command(ctx: click.Context, command: tuple[str, ...], folder: Path | None) -> None:
    """Show the manual page of a command; into a pipe, its source.

    \b
    Examples:
      skillctl man send
      skillctl man skills push > skillctl-skills-push.1
      skillctl man --all ~/.local/share/man/man1
    """
    root = ctx.find_root().command
    if folder is not None:
        if command:
            raise click.UsageError("--all writes the pages of all commands; leave out the names")
        _write_all(folder, manual_pages(root))
        return
    page = next((page for page in help_pages(root, ("skillctl",)) if page.words[1:] == command), None)
    if page is None:
        raise click.UsageError(f"there is no command {' '.join(command)!r}")
    source = man_page(page, __version__, root.epilog or "")
    if is_terminal(sys.stdout) and shutil.which("man"):
        subprocess.run(["man", "-l", "-"], input=source, text=True, check=False)
    else:
        print(source, end="")


def _write_all(folder: Path, pages: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in pages.items():
            (folder / name).write_text(source, encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write to {folder}: {error.strerror}") from error
