"""skillctl workshop status: all of it on one screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.commands.workshop.owner_option import user_option
from skilld.cli.failure import EXIT
from skilld.cli.narrator import cost_text
from skilld.cli.output import is_terminal, one_line, print_json

__all__ = ["status_command"]

_CLEAR: Final = "\x1b[H\x1b[2J"
_WIDTH: Final = 50


@click.command("status")
@click.option("--watch", is_flag=True, help="Show it again every few seconds, until you leave with Ctrl-C.")
@click.option(
    "--every", "every_s", type=click.FloatRange(min=0.5), default=2.0, show_default=True, metavar="S", help="How often."
)
@user_option()
@json_option()
@pass_app
def status_command(app: App, watch: bool, every_s: float, owner: int | None, as_json: bool) -> int:
    """Show all of the workshop on one screen: agents, board, workers, schedules, runs, what was spent.

    \b
    Examples:
      skillctl workshop status
      skillctl workshop status --watch
    """
    with app.client() as client:
        while True:
            found = client.workshop_status(owner=owner)
            if as_json:
                print_json(found)
            else:
                before = _CLEAR if watch and is_terminal(sys.stdout) else ""
                print(before + "\n".join(_lines(found)), flush=True)
            if not watch:
                return EXIT.DONE
            time.sleep(every_s)


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _section("agents", [_agent(each) for each in found["agents"]])
    counts = {name: count for name, count in found["board"]["by_status"].items() if count}
    board = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    yield f"board: {board or 'nothing'}"
    yield from _section("workers", [_worker(each) for each in found["workers"]])
    yield from _section("schedules", [_schedule(each) for each in found["schedules"]])
    yield from _section("runs", [_run(each) for each in found["runs"]])
    yield _spent(found["budget"])


def _section(title: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        yield f"{title}: none"
        return
    yield f"{title}:"
    shown = [[one_line(cell, _WIDTH) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _agent(each: Mapping[str, Any]) -> Sequence[str]:
    waiting = f" +{each['queue_depth']}" if each["queue_depth"] else ""
    return [str(each["name"]), f"{each['status']}{waiting}", f"{each['turns']} turns", _cost(each)]


def _worker(each: Mapping[str, Any]) -> Sequence[str]:
    items = " ".join(str(hand["item"]) for hand in each["agents"] if hand.get("item"))
    return [str(each["name"]), " ".join(each["types"]), f"{each['count']} agents", items or "idle"]


def _schedule(each: Mapping[str, Any]) -> Sequence[str]:
    when = "off" if not each["enabled"] else str(each["next_due"] or "ended")
    return [str(each["name"]), str(each["agent"]), when, f"{each['runs']} runs"]


def _run(each: Mapping[str, Any]) -> Sequence[str]:
    over = sum(stage["status"] not in ("waiting", "running") for stage in each["stages"].values())
    progress = f"{over}/{len(each['stages'])}"
    return [str(each["id"]), str(each["workflow"]), str(each["status"]), progress, cost_text(each["cost_usd"])]


def _spent(budget: Mapping[str, Any]) -> str:
    total = budget["total"]
    words = [f"spent: {_cost(total)}"]
    if total["limit_usd"] is not None:
        words.append(f"cap {cost_text(total['limit_usd'])}, left {cost_text(total['left_usd'])}")
    if budget["since"]:
        words.append(f"{cost_text(total['since_usd'])} since {budget['since']}")
    return "; ".join(words)


def _cost(each: Mapping[str, Any]) -> str:
    known = cost_text(each["known_usd"])
    return known if each["cost_usd"] is not None else f"{known} and more"
