"""skillctl status, health and metrics."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import clean, flatten, is_terminal, print_json, wants_style

__all__ = ["health_command", "metrics_command", "status_command"]

_HOME: Final = "\x1b[H"
_CLEAR: Final = "\x1b[2J"
_ERASE_LINE: Final = "\x1b[K"
_ERASE_BELOW: Final = "\x1b[J"
_LEAST_BODY: Final = 3  # lines of the body for which it is worth keeping the foot on a low screen


class _Page(NamedTuple):
    """What is printed: a body, which is cut where the screen is too low, and a foot, which is not."""

    body: Sequence[str]
    foot: Sequence[str] = ()


@click.command("status")
@click.option("--tree", "as_tree", is_flag=True, help="Draw the live supervision tree instead, with each actor's load.")
@click.option(
    "--children",
    type=click.IntRange(0, 1000),
    default=20,
    show_default=True,
    help="With --tree: how many conversations are shown, the busiest first; the others are counted.",
)
@click.option(
    "--watch",
    "every_s",
    metavar="[SECONDS]",
    type=click.FloatRange(0.1, 3600),
    is_flag=False,
    flag_value=2.0,
    help="Show it again every SECONDS, 2 if not given, until Ctrl-C.",
)
@json_option("one JSON document, and with --watch one after the other")
@pass_app
def status_command(app: App, as_tree: bool, children: int, every_s: float | None, as_json: bool) -> int:
    """Say what the daemon is doing now.

    \b
    Examples:
      skillctl status --json
      skillctl status --tree --watch=5
    """
    with app.client() as client:

        def look() -> Mapping[str, Any]:
            return client.tree(children=children) if as_tree else client.status()

        def page(found: Mapping[str, Any]) -> _Page:
            return _tree_page(found) if as_tree else _Page(_status_lines(client.socket, found))

        if every_s is None:
            _show(look(), page, as_json)
            return EXIT.DONE
        try:
            _watch(look, page, every_s, as_json)
        except KeyboardInterrupt:
            return EXIT.CANCELLED


Paged = Callable[[Mapping[str, Any]], _Page]


def _show(found: Mapping[str, Any], page: Paged, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        body, foot = page(found)
        print("\n".join([*body, *foot]), flush=True)


def _watch(look: Callable[[], Mapping[str, Any]], page: Paged, every_s: float, as_json: bool) -> NoReturn:
    """Redraw on a terminal, append elsewhere; until Ctrl-C, or until the daemon does not answer."""
    redraw = not as_json and wants_style(sys.stdout)
    first = True
    while True:
        found = look()
        if redraw:
            height = shutil.get_terminal_size().lines - 1
            shown = _fitted(page(found), height)
            start = _CLEAR + _HOME if first else _HOME
            sys.stdout.write(start + "".join(f"{line}{_ERASE_LINE}\n" for line in shown) + _ERASE_BELOW)
            sys.stdout.flush()
        else:
            if not (first or as_json):
                print()
            _show(found, page, as_json)
        first = False
        time.sleep(every_s)


def _fitted(page: _Page, height: int) -> list[str]:
    """At most `height` lines. What is left out of the body is counted, so that the foot can be seen."""
    body, foot = page
    room = height - len(foot)
    if len(body) <= room or room < _LEAST_BODY:
        return [*body, *foot][:height]
    return [*body[: room - 1], f"({len(body) - room + 1} more lines)", *foot]


def _status_lines(socket: str, status: Mapping[str, Any]) -> list[str]:
    rows = [("socket", socket), *flatten(status)]
    width = max(len(name) for name, _ in rows)
    return [clean(f"{name.ljust(width)}  {value}") for name, value in rows]


def _tree_page(found: Mapping[str, Any]) -> _Page:
    from skilld.cli.tree import draw_reports, draw_tree

    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    lines = list(draw_tree(found["tree"], width=width, color=wants_style(sys.stdout), unicode=unicode))
    reports = list(draw_reports(found["reports"], width=width, unicode=unicode))
    return _Page(lines, ["", *reports] if reports else [])


@click.command("health")
@json_option()
@pass_app
def health_command(app: App, as_json: bool) -> int:
    """Ask whether the daemon lives and takes messages. Exits 0 if both, 1 if it lives only, 4 if nobody answers.

    \b
    Example:
      until skillctl health; do sleep 1; done
    """
    with app.client() as client:
        client.health()
        ready = client.ready()
    if as_json:
        print_json({"live": True, "ready": ready})
        return EXIT.DONE if ready else EXIT.FAILED
    if not ready:
        raise Failure("the daemon lives but takes no messages: it is starting or draining; try again in a moment")
    print("ready")
    return EXIT.DONE


@click.command("metrics")
@pass_app
def metrics_command(app: App) -> None:
    """Print the daemon's metrics in Prometheus' text format.

    \b
    Example:
      skillctl metrics | grep skilld_turns
    """
    with app.client() as client:
        text = client.metrics()
    sys.stdout.write(clean(text) if sys.stdout.isatty() else text)
