"""skillctl workshop guide: how to work in the workshop, as texts for agents that come with the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skilld.cli.commands.options import json_option
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import print_json, print_table

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from skill_actors.skills import Skill

__all__ = ["guide_command"]


@click.group("guide")
def guide_command() -> None:
    """Read the guides: how to work in the workshop, alone, in pairs, over the board, with others.

    They come with the program and need no running daemon. 'agent define --guide NAME' puts one first into what an
    agent is told; a skill of yours of that name is used in its place. They are Agent Skills, for other programs too.

    \b
    Examples:
      skillctl workshop guide list
      skillctl workshop guide show board-worker > .claude/skills/board-worker/SKILL.md
    """


@guide_command.command("list")
@json_option()
def list_guides(as_json: bool) -> None:
    """List the guides, and when each is of use."""
    found = [{"name": guide.name, "description": guide.description} for guide in _all()]
    if as_json:
        print_json({"items": found})
    else:
        print_table(["guide", "is"], [[each["name"], each["description"]] for each in found])


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(guide.name) for guide in _all() if guide.name.startswith(incomplete)]


@guide_command.command("show")
@click.argument("name", metavar="GUIDE", shell_complete=_complete)
def show_guide(name: str) -> None:
    """Print a guide as it is, a SKILL.md.

    \b
    Example:
      skillctl workshop guide show pair
    """
    from skill_actors.workshop.guides import GUIDES, guide

    found = guide(name)
    if found is None:
        raise Failure(f"there is no guide {name!r}; there are {', '.join(GUIDES)}", EXIT.USAGE)
    click.echo((found.root / "SKILL.md").read_text(encoding="utf-8"), nl=False)


def _all() -> list[Skill]:
    from skill_actors.workshop.guides import GUIDES, guide

    return [found for name in GUIDES if (found := guide(name)) is not None]
