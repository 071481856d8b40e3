"""skillctl skills validate: skills judged as strictly as the specification, with no daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skilld.cli.commands.options import json_option, skill_paths
from skilld.cli.failure import EXIT
from skilld.cli.output import one_line, print_json

if TYPE_CHECKING:
    from skill_actors.skills.base import Diagnostic
    from skill_actors.skills.validate import Verdict

__all__ = ["validate_skills"]


@click.command("validate")
@skill_paths
@click.option("--for-api", is_flag=True, help="Judge also by what the hosted Skills API refuses.")
@json_option()
def validate_skills(paths: tuple[Path, ...], for_api: bool, as_json: bool) -> int:
    """Judge skill folders by the specification, strictly. Needs no running daemon. Exits 1 if one is not valid.

    \b
    Example:
      skillctl skills validate skills/*
    """
    from skill_actors.skills.validate import validate_skill

    verdicts = [validate_skill(path, for_api=for_api) for path in paths]
    if as_json:
        print_json([_as_json(verdict) for verdict in verdicts])
    else:
        _print(verdicts)
    return EXIT.DONE if all(verdict.valid for verdict in verdicts) else EXIT.FAILED


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "path": str(verdict.path),
        "valid": verdict.valid,
        "errors": [_finding(found) for found in verdict.errors],
        "warnings": [_finding(found) for found in verdict.warnings],
    }


def _finding(found: Diagnostic) -> dict[str, Any]:
    return {"code": found.code, "message": found.message, "line": found.line}


def _print(verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        print(one_line(f"{'valid' if verdict.valid else 'invalid'}: {verdict.path}"))
        for found in (*verdict.errors, *verdict.warnings):
            line = f" (line {found.line})" if found.line else ""
            remedy = f". {found.remedy}" if found.remedy else ""
            print("  " + one_line(f"{found.severity}: {found.message}{line}{remedy} [{found.code}]"))
    if len(verdicts) > 1:
        print(f"{sum(verdict.valid for verdict in verdicts)} of {len(verdicts)} are valid")
