"""skillctl monitor rules: by what is looked for, and whether files of rules can be used."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import counted, print_json, print_table

if TYPE_CHECKING:
    from skilld_monitor.scanning import RuleSet

__all__ = ["rules_command", "rules_of"]


@click.group("rules", invoke_without_command=True)
@click.pass_context
def rules_command(ctx: click.Context) -> None:
    """See the rules by which secrets, dangerous commands and misleading prompts are found, and check files of them.

    \b
    Examples:
      skillctl monitor rules
      skillctl monitor rules check /etc/skilld/rules.d/local.toml
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_rules)


@rules_command.command("list")
@click.option("--files", is_flag=True, help="Those that the files make now, without asking the daemon.")
@json_option()
@pass_app
def list_rules(app: App, /, files: bool = False, as_json: bool = False) -> None:
    """List the rules that are in force in the daemon.

    \b
    Examples:
      skillctl monitor rules list
      skillctl monitor rules list --files --json
    """
    if files:
        found = _of_files([])
    else:
        with app.client() as client:
            found = client.monitor_rules()
    if as_json:
        print_json(found)
        return
    rows = [
        tuple(str(rule.get(name, "")) for name in ("id", "category", "severity", "kind", "description"))
        for rule in found["rules"]
    ]
    print_table(("ID", "CATEGORY", "SEVERITY", "KIND", "DESCRIPTION"), rows)
    if found["fault"]:
        raise Failure(f"the files are not in force: {found['fault']}")


@rules_command.command("check")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@json_option()
def check_rules(files: tuple[Path, ...], as_json: bool) -> None:
    """Tell whether files of rules can be used, over the rules that come along: these, or those of the configuration.

    The folder of those is monitor.scan.rules_dir. No daemon is needed. It exits with 1 if they cannot be used, and
    says which rule and field it is.

    \b
    Example:
      skillctl monitor rules check local.toml
    """
    found = _of_files(files)
    if as_json:
        print_json({"rules": len(found["rules"]), "version": found["version"]})
    else:
        click.echo(f"good: {counted(len(found['rules']), 'rule')}")


def _configured_folder() -> Path:
    """The folder of the configuration that a daemon started here would use. Raises Failure."""
    from skilld.config import ConfigError, find_and_load

    try:
        return find_and_load(None, os.environ).config.monitor.scan.rules_dir
    except ConfigError as error:
        raise Failure(str(error), EXIT.USAGE) from error


def rules_of(files: Sequence[Path]) -> RuleSet:
    """What the files make of the rules that come along; those of the configuration, if none are given."""
    from skilld.monitor.inspection.rule_files import RuleFileError, layered, read_rule_file, rule_paths

    try:
        return layered([read_rule_file(path) for path in files or rule_paths(_configured_folder())])
    except RuleFileError as error:
        raise Failure(str(error)) from error


def _of_files(files: Sequence[Path]) -> Mapping[str, Any]:
    from skilld_monitor.scanning import rules_as_json

    rules = rules_of(files)
    return {"version": rules.version, "fault": None, "rules": rules_as_json(rules)}
