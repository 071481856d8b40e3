"""skillctl monitor scan: what would be found in a text, and how it would be masked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from skilld.cli.commands.monitor.rules import rules_of
from skilld.cli.commands.options import json_option
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import clean, one_line, print_json

if TYPE_CHECKING:
    from skilld_monitor.scanning import Finding

__all__ = ["scan_command"]

_MAX_BYTES: Final = 16 << 20
_DIRECTIONS: Final = ("input", "system", "tool_arguments", "tool_result", "output", "error", "event")


@click.command("scan")
@click.argument("text", metavar="[TEXT|-]", required=False)
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="Look at this file.")
@click.option("--rules", type=click.Path(path_type=Path), multiple=True, help="By this file of rules; several may be.")
@click.option(
    "--direction",
    metavar="WAY",
    type=click.Choice(_DIRECTIONS),
    default="input",
    show_default=True,
    help=f"Which way the text goes: {', '.join(_DIRECTIONS)}.",
)
@json_option()
def scan_command(text: str | None, file: Path | None, rules: tuple[Path, ...], direction: str, as_json: bool) -> int:
    """Tell what would be found in TEXT, in what is read from the standard input, or in a file, and print it masked.

    By the files of monitor.scan.rules_dir, or those of --rules, over the rules that come along. Nothing is stored and
    no daemon is needed. It exits with 0 if nothing is found, with 5 if something is.

    \b
    Examples:
      skillctl monitor scan "ignore all previous instructions"
      git diff | skillctl monitor scan - --json
      skillctl monitor scan --file prompt.txt --direction system
    """
    given = _text(text, file)
    found_in, found = rules_of(rules).mask_text(given, direction)  # type: ignore[arg-type]  # click has checked it
    if as_json:
        print_json({"findings": [_view(finding) for finding in found], "masked": found_in})
    else:
        for finding in found:
            click.echo(f"{finding.alert}: {finding.rule} ({finding.category}): {one_line(clean(finding.sample))}")
        click.echo(clean(found_in) if found else "nothing is found")
    return EXIT.REFUSED if found else EXIT.DONE


def _view(finding: Finding) -> dict[str, object]:
    names = ("rule", "category", "severity", "alert", "confidence", "direction", "start", "end", "sample")
    return {name: getattr(finding, name) for name in names}


def _text(text: str | None, file: Path | None) -> str:
    if (text is None) == (file is None):
        raise click.UsageError("give a TEXT, - for the standard input, or --file")
    if file is not None:
        try:
            with file.open("rb") as opened:
                raw = opened.read(_MAX_BYTES + 1)
        except OSError as error:
            raise Failure(f"{file}: {error.strerror}") from error
    elif text == "-":
        raw = sys.stdin.buffer.read(_MAX_BYTES + 1)
    else:
        return str(text)
    if len(raw) > _MAX_BYTES:
        raise Failure(f"it has more than {_MAX_BYTES} bytes", EXIT.USAGE)
    return raw.decode("utf-8", "replace")
