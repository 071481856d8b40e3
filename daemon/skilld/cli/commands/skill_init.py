"""skillctl skills init: a new skill, valid from the first moment."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from skilld.cli.commands.options import json_option
from skilld.cli.failure import Failure
from skilld.cli.output import one_line, print_json

__all__ = ["init_skill"]


@click.command("init")
@click.argument("name", metavar="NAME")
@click.option("--dir", "parent", type=click.Path(path_type=Path), default=Path(), help="Where to make the folder.")
@click.option("--description", metavar="TEXT", help="What the skill does, and when to use it.")
@click.option("--license", "license_name", metavar="NAME", help="Such as Apache-2.0.")
@click.option(
    "--script",
    type=click.Choice(["python", "bash", "none"]),
    default="python",
    show_default=True,
    help="The entry command to begin with.",
)
@click.option("--tests/--no-tests", default=True, help="Add tests of the script (default), or none.")
@json_option()
def init_skill(
    name: str,
    parent: Path,
    description: str | None,
    license_name: str | None,
    script: str,
    tests: bool,
    as_json: bool,
) -> None:
    """Make a folder NAME with a skill that passes validate and its own tests. Needs no running daemon.

    \b
    Example:
      skillctl skills init tide-table --dir ~/skills --description "Looks up tides. Use it when ..."
    """
    from skill_actors.authoring.template import BadTemplate, Script, make_skill

    (chosen,) = [kind for kind in get_args(Script) if kind == script]
    try:
        root = make_skill(parent, name, description=description, license_name=license_name, script=chosen, tests=tests)
    except BadTemplate as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{parent / name} cannot be made: {error.strerror}") from error
    if as_json:
        print_json({"skill": name, "path": str(root)})
    else:
        print(one_line(str(root)))
