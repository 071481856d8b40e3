"""skillctl skills push, remove and changes: skills sent to the daemon, and what changes there."""

from __future__ import annotations

from pathlib import Path

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import Failure
from skilld.cli.output import flatten, one_line, print_json
from skilld.client import Event

__all__ = ["push_skill", "remove_skill", "skill_changes"]


@click.command("push")
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@json_option()
@pass_app
def push_skill(app: App, path: Path, as_json: bool) -> None:
    """Send a skill, a folder or a .skill file, to the daemon, which keeps it and uses it from the next turn on.

    It comes before all others of its name, until it is removed.

    \b
    Example:
      skillctl skills push skills/echo
    """
    package = _package(path)
    with app.client() as client:
        made = client.push_skill(package)
    if as_json:
        print_json(made)
        return
    print(one_line(f"{made['name']}: {'replaced' if made['replaced'] else 'stored'}, digest {made['digest']}"))
    if not made["used"]:
        print("it is not used: see skillctl skills status")


@click.command("remove")
@click.argument("name", metavar="NAME")
@json_option()
@pass_app
def remove_skill(app: App, name: str, as_json: bool) -> None:
    """Remove a skill that was pushed. One of the same name in a folder is used again.

    \b
    Example:
      skillctl skills remove echo
    """
    with app.client() as client:
        summary = client.remove_skill(name)
    if as_json:
        print_json(summary)
        return
    for key, value in flatten(summary):
        print(one_line(f"{key}: {value}"))


@click.command("changes")
@click.option("--after", metavar="GENERATION", type=click.IntRange(min=0), default=0, help="Default: all remembered.")
@click.option("--follow/--no-follow", default=True, help="Wait for further changes, until Ctrl-C (default).")
@json_option("each change as a line of JSON")
@pass_app
def skill_changes(app: App, after: int, follow: bool, as_json: bool) -> None:
    """Print which skills come, change and go, as it happens.

    \b
    Example:
      skillctl skills changes --no-follow
    """
    with app.client() as client:
        try:
            for event in client.skill_changes(after=after, follow=follow):
                print(event.to_json() if as_json else _line(event), flush=True)
        except KeyboardInterrupt:
            return


def _line(event: Event) -> str:
    told = [f"{kind}: {', '.join(event.data[kind])}" for kind in ("added", "changed", "removed", "failed")]
    known = "; ".join(part for part in told if not part.endswith(": ")) or "diagnostics"
    gap = " (some before are not remembered)" if event.data["missed"] else ""
    return one_line(f"{event.time} generation {event.seq}: {known}{gap}", 400)


def _package(path: Path) -> bytes:
    from skill_actors.authoring.folder import NoSkill, open_skill
    from skill_actors.authoring.packing import CannotPack, pack

    try:
        return path.read_bytes() if path.is_file() else pack(open_skill(path))
    except NoSkill as error:
        raise Failure(str(error)) from error
    except CannotPack as error:
        raise Failure(f"{path} cannot be packed: {error}") from error
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from error
