"""skillctl completion: the line a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion_command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    \b
    Examples:
      skillctl completion bash > ~/.local/share/bash-completion/completions/skillctl
      skillctl completion zsh > "${fpath[1]}/_skillctl"
      skillctl completion fish > ~/.config/fish/completions/skillctl.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell!r}; bash, zsh and fish have one")
    script = kind(ctx.find_root().command, {}, "skillctl", "_SKILLCTL_COMPLETE")
    print(script.source_template % script.source_vars())
