"""skillctl skills lint and audit: what could be better in a skill, and what deserves a look before it is trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from skilld.cli.commands.options import json_option, skill_paths
from skilld.cli.failure import EXIT
from skilld.cli.output import one_line, print_json

if TYPE_CHECKING:
    from skill_actors.authoring.findings import Finding
    from skill_actors.authoring.folder import SkillFolder

__all__ = ["audit_skills", "lint_skills"]

F = TypeVar("F", bound=Callable[..., Any])

_LEVELS: Final = ("high", "medium", "low", "info", "never")


def _fail_on(default: str) -> Callable[[F], F]:
    return click.option(
        "--fail-on",
        type=click.Choice(_LEVELS),
        default=default,
        show_default=True,
        help="Exit 1 if a finding is as severe as this, or more.",
    )


@click.command("lint")
@skill_paths
@_fail_on("medium")
@json_option()
def lint_skills(paths: Sequence[Path], fail_on: str, as_json: bool) -> int:
    """Say what could be better in skills: folders or .skill packages. Needs no running daemon, runs nothing.

    \b
    Example:
      skillctl skills lint skills/*
    """
    from skill_actors.authoring.lint import lint

    return _report(paths, lint, fail_on, as_json)


@click.command("audit")
@skill_paths
@_fail_on("high")
@json_option()
def audit_skills(paths: Sequence[Path], fail_on: str, as_json: bool) -> int:
    """Say what deserves a look before skills are trusted. Takes folders and .skill packages.

    Needs no running daemon, runs nothing. No finding is no proof: read what you install.

    \b
    Example:
      skillctl skills audit --fail-on medium downloaded.skill
    """
    from skill_actors.authoring.audit import audit

    return _report(paths, audit, fail_on, as_json)


def _report(
    paths: Sequence[Path], look: Callable[[SkillFolder], tuple[Finding, ...]], fail_on: str, as_json: bool
) -> int:
    reports = [_look(path, look) for path in paths]
    if as_json:
        print_json([_as_json(report) for report in reports])
    else:
        for report in reports:
            _print(*report)
    return EXIT.FAILED if any(_is_bad(report, fail_on) for report in reports) else EXIT.DONE


_Report = tuple[Path, "Sequence[Finding]", str]
"""The path, what was found, and why nothing could be looked at, else ""."""


def _look(path: Path, look: Callable[[SkillFolder], tuple[Finding, ...]]) -> _Report:
    from skill_actors.authoring.folder import NoSkill, look_into

    try:
        with look_into(path) as folder:
            return path, look(folder), ""
    except NoSkill as error:
        return path, (), str(error)


def _is_bad(report: _Report, fail_on: str) -> bool:
    from skill_actors.authoring.findings import SEVERITIES, at_least

    _, findings, error = report
    threshold = next((level for level in SEVERITIES if level == fail_on), None)
    return bool(error) or any(threshold is not None and at_least(found.severity, threshold) for found in findings)


def _as_json(report: _Report) -> dict[str, Any]:
    path, findings, error = report
    return {"path": str(path), "error": error or None, "findings": [found.to_dict() for found in findings]}


def _print(path: Path, findings: Sequence[Finding], error: str) -> None:
    if error:
        print(one_line(f"error: {error}"))
        return
    count = {0: "nothing found", 1: "1 finding"}.get(len(findings), f"{len(findings)} findings")
    print(one_line(f"{path}: {count}"))
    for found in findings:
        place = found.path if found.line is None else f"{found.path}:{found.line}"
        remedy = f". {found.remedy}" if found.remedy else ""
        print("  " + one_line(f"{found.severity}: {place}: {found.message}{remedy} [{found.code}]"))
