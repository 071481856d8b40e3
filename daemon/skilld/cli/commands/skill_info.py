"""skillctl skills info: a skill as it lies on disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import click

from skilld.cli.commands.options import json_option
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import clean, flatten, one_line, print_json

__all__ = ["skill_info"]


@click.command("info")
@click.argument("skill", metavar="PATH|NAME")
@click.option(
    "--config", "config_file", metavar="FILE", type=click.Path(path_type=Path), help="Where NAME is looked up."
)
@json_option()
def skill_info(skill: str, config_file: Path | None, as_json: bool) -> int:
    """Print what a skill is, needs and holds. Exits 1 if it cannot be loaded. Needs no running daemon.

    A NAME is looked up in the configured skill folders; what has a slash, or exists here, is a path.

    \b
    Example:
      skillctl skills info log-analyzer
    """
    from skill_actors.authoring.facts import facts_of
    from skill_actors.authoring.folder import NoSkill, look_into

    try:
        path = Path(skill) if "/" in skill or os.path.exists(skill) else _find(skill, config_file)
        with look_into(path) as folder:
            facts = {**facts_of(folder, path=os.environ.get("PATH", os.defpath)), "path": str(path)}
    except NoSkill as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json(facts)
    else:
        _print(facts)
    return EXIT.DONE if facts["loads"] else EXIT.FAILED


def _find(name: str, config_file: Path | None) -> Path:
    from skill_actors.skills.base import SkillSnapshot
    from skill_actors.skills.library import Library
    from skill_actors.skills.packages import PackageCache
    from skilld.config import ConfigError, find_and_load
    from skilld.skill_sources import skill_sources

    try:
        config = find_and_load(config_file, os.environ).config
    except ConfigError as error:
        raise Failure(str(error)) from error
    sources = skill_sources(config.skills, os.environ)
    with tempfile.TemporaryDirectory(prefix="skills-") as unpacked:
        snapshot = Library(sources, packages=PackageCache(Path(unpacked))).load(SkillSnapshot())
    found = snapshot.skills.get(name)
    if found is not None:
        return found.package or found.root
    for failure in snapshot.failures:
        if failure.path.name == name:
            return failure.path
    searched = ", ".join(str(source.path) for source in sources) or "no folder"
    raise Failure(f"no skill is named {name!a} in {searched}; name a path, or a --config")


def _print(facts: dict[str, Any]) -> None:
    for key, value in flatten(
        {key: value for key, value in facts.items() if key not in ("files", "unmet", "problems")}
    ):
        print(one_line(f"{key}: {value}"))
    for item in facts["problems"]:
        print(one_line(f"{item['severity']}: {item['message']} [{item['code']}]"))
    for item in facts["unmet"]:
        print(one_line(f"unmet: {item['message']}. {item['remedy']}"))
    for item in facts["files"]:
        print(clean(f"{item['bytes']:>10}  {'x' if item['executable'] else '-'}  {one_line(item['path'])}"))
