"""skillctl skills package: a skill as one file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from skilld.cli.commands.options import json_option
from skilld.cli.failure import Failure
from skilld.cli.output import one_line, print_json

__all__ = ["package_skill"]


@click.command("package")
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Default: NAME.skill here.")
@json_option()
def package_skill(path: Path, output: Path | None, as_json: bool) -> None:
    """Pack a skill's folder into a .skill file, which replaces one that is there. Needs no running daemon.

    The skill must be valid. The same files give the same bytes. Left out: evals/, node_modules/ and leftovers of tools.

    \b
    Example:
      skillctl skills package skills/echo -o echo.skill
    """
    from skill_actors.authoring.folder import NoSkill, open_skill
    from skill_actors.authoring.packing import CannotPack, pack, write_package

    try:
        folder = open_skill(path)
        data = pack(folder)
        target = output or Path(f"{folder.name}.skill")
        write_package(data, target, folder)
    except NoSkill as error:
        raise Failure(str(error)) from error
    except CannotPack as error:
        raise Failure(f"{path} cannot be packed: {error}") from error
    except OSError as error:
        raise Failure(f"{output or 'the package'} cannot be written: {error.strerror}") from error
    digest = hashlib.sha256(data).hexdigest()
    if as_json:
        print_json({"path": str(target), "skill": folder.name, "bytes": len(data), "sha256": digest})
    else:
        print(one_line(f"{target}: {len(data)} bytes, sha256 {digest}"))
