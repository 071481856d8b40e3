"""skillctl skills: what the daemon has loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import complete_skills, json_option, pass_app
from skilld.cli.commands.skill_approve import approve_skills, is_about_approval
from skilld.cli.commands.skill_findings import audit_skills, lint_skills
from skilld.cli.commands.skill_info import skill_info
from skilld.cli.commands.skill_init import init_skill
from skilld.cli.commands.skill_package import package_skill
from skilld.cli.commands.skill_push import push_skill, remove_skill, skill_changes
from skilld.cli.commands.skill_test import test_skills
from skilld.cli.commands.skill_validate import validate_skills
from skilld.cli.failure import EXIT
from skilld.cli.output import clean, flatten, one_line, print_json, print_table

__all__ = ["skills_command"]


@click.group("skills")
def skills_command() -> None:
    """Make skills and judge them; see and change those that the daemon has.

    \b
    Example:
      skillctl skills status
    """


@skills_command.command("list")
@json_option()
@pass_app
def list_skills(app: App, as_json: bool) -> None:
    """List the skills that conversations can use now.

    \b
    Example:
      skillctl skills list
    """
    with app.client() as client:
        found = client.skills()
    if as_json:
        print_json(found)
        return
    print_table(
        ("skill", "description"), [(item["name"], one_line(item["description"], 100)) for item in found["items"]]
    )
    for item in found["items"]:
        _print_diagnostics([each for each in item.get("diagnostics", ()) if is_about_approval(each)])


@skills_command.command("show")
@click.argument("name", metavar="NAME", shell_complete=complete_skills)
@json_option()
@pass_app
def show_skill(app: App, name: str, as_json: bool) -> None:
    """Print one skill: where it is, what it may use, its instructions.

    \b
    Example:
      skillctl skills show log-analyzer
    """
    with app.client() as client:
        skill = client.skill(name)
    if as_json:
        print_json(skill)
        return
    apart = ("body", "diagnostics", "unmet")
    for key, value in flatten({key: value for key, value in skill.items() if key not in apart}):
        print(one_line(f"{key}: {value}"))
    _print_diagnostics(skill.get("diagnostics", ()))
    _print_unmet(skill.get("unmet", ()))
    print(f"\n{clean(str(skill.get('body', '')))}".rstrip())


@skills_command.command("status")
@json_option()
@pass_app
def skills_status(app: App, as_json: bool) -> int:
    """Say what is wrong with skills: folders that could not be loaded, findings, and needs that this host lacks.

    Exits 1 if a folder could not be loaded.

    \b
    Example:
      skillctl skills status
    """
    with app.client() as client:
        found = client.skills()
    failures = found.get("failures", ())
    if as_json:
        print_json(
            {
                "generation": found.get("generation"),
                "loaded_at": found.get("loaded_at"),
                "loaded": len(found["items"]),
                "failures": failures,
                "findings": {s["name"]: s["diagnostics"] for s in found["items"] if s.get("diagnostics")},
                "unmet": {s["name"]: s["unmet"] for s in found["items"] if s.get("unmet")},
            }
        )
    else:
        _print_status(found, failures)
    return EXIT.FAILED if failures else EXIT.DONE


def _print_status(found: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]) -> None:
    print(f"{len(found['items'])} skills loaded, {len(failures)} failed (generation {found.get('generation', '-')})")
    for failure in failures:
        kept = f"; the last good version of {failure['kept']} serves" if failure.get("kept") else ""
        print(one_line(f"failed: {failure['path']}{kept}"))
        _print_diagnostics(failure.get("diagnostics", ()))
    for skill in found["items"]:
        if skill.get("diagnostics") or skill.get("unmet"):
            print(one_line(f"{skill['name']}: {skill.get('path', '')}"))
            _print_diagnostics(skill.get("diagnostics", ()))
            _print_unmet(skill.get("unmet", ()))


def _print_diagnostics(items: Sequence[Mapping[str, Any]]) -> None:
    for item in items:
        line = f" (line {item['line']})" if item.get("line") else ""
        remedy = f". {item['remedy']}" if item.get("remedy") else ""
        severity = item.get("severity", "warning")
        code = f" [{item['code']}]" if item.get("code") else ""
        print("  " + one_line(f"{severity}: {item['message']}{line}{remedy}{code}"))


def _print_unmet(items: Sequence[Mapping[str, Any]]) -> None:
    for item in items:
        print("  " + one_line(f"unmet: {item['message']}. {item['remedy']}"))


@skills_command.command("reload")
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_skills)
@json_option()
@pass_app
def reload_skills(app: App, name: str | None, as_json: bool) -> None:
    """Read all skills, or one, from disk again. The next turn uses them; a running one keeps what it has.

    \b
    Example:
      skillctl skills reload log-analyzer
    """
    with app.client() as client:
        summary = client.reload_skills(name)
    if as_json:
        print_json(summary)
        return
    for key, value in flatten(summary):
        print(one_line(f"{key}: {value}"))


for _command in (
    *(init_skill, skill_info, package_skill, lint_skills, audit_skills, test_skills, validate_skills),
    *(approve_skills, push_skill, remove_skill, skill_changes),
):
    skills_command.add_command(_command)
