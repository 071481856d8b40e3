"""skillctl completion: the line a shell needs to complete our commands."""

from __future__ import annotations

import click

from skilld.cli.manual_files import SHELLS, completion_script

__all__ = ["completion_command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    \b
    Examples:
      skillctl completion bash > ~/.local/share/bash-completion/completions/skillctl
      skillctl completion zsh > "${fpath[1]}/_skillctl"
      skillctl completion fish > ~/.config/fish/completions/skillctl.fish
    """
    print(completion_script(ctx.find_root().command, shell), end="")
