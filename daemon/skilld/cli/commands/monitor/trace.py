"""skillctl monitor trace: one request of a program, as a tree."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.output import columns_of, counted, print_json, wants_style
from skilld.cli.span_tree import draw_trace, duration_text, trace_summary

__all__ = ["trace_command"]

_COLUMNS: Final = 120  # where it is no terminal
_LINES: Final = 1_000


@click.command("trace")
@click.argument("id")
@click.option("-n", "--lines", type=click.IntRange(1), default=_LINES, show_default=True, help="How many at most.")
@json_option()
@pass_app
def trace_command(app: App, /, id: str, lines: int, as_json: bool) -> None:
    """Draw a trace: its spans as a tree, when each was open, what models used, events under their spans.

    What was found in one (a secret, a dangerous command) stands below it, after a '!'.

    ID is that of the trace, the beginning of it, or the number of one of its events.

    \b
    Examples:
      skillctl monitor trace 4cf18047
      skillctl monitor trace 1205 --json
    """
    with app.client() as client:
        found = client.monitor_trace(id)
    summary = trace_summary(found["events"])
    if as_json:
        print_json({**found, "summary": summary})
        return
    click.echo(_heading(found["trace"], summary))
    columns, styled = columns_of(sys.stdout) or _COLUMNS, wants_style(sys.stdout)
    drawn = list(draw_trace(found["events"], columns, found["findings"]))
    for line in drawn[:lines]:
        click.echo(click.style(line.text, fg="red") if styled and line.failed else line.text)
    if more := len(drawn[lines:]) + found["more"]:
        click.echo(f"and {more} more: see --lines, and --json for what there is of them")


def _heading(trace: str | None, summary: dict[str, Any]) -> str:
    cost = "" if summary["cost_usd"] is None else f", ${summary['cost_usd']:.6f}"
    tokens = f", {counted(summary['input_tokens'], 'token')} in and {summary['output_tokens']} out"
    used = tokens + cost if summary["input_tokens"] or summary["output_tokens"] else cost
    counts = ", ".join(counted(summary[f"{noun}s"], noun) for noun in ("span", "event", "error"))
    agents = ", ".join(summary["agents"])
    took = duration_text(summary["duration_ms"])
    return f"{trace or 'no trace'} of {agents}, {summary['begin']}, {took}: {counts}{used}"
