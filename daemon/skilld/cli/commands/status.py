"""skillctl status, health and metrics."""

from __future__ import annotations

import sys

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import clean, flatten, print_json

__all__ = ["health_command", "metrics_command", "status_command"]


@click.command("status")
@json_option()
@pass_app
def status_command(app: App, as_json: bool) -> None:
    """Say what the daemon is doing now.

    \b
    Example:
      skillctl status --json
    """
    with app.client() as client:
        status = client.status()
    if as_json:
        print_json(status)
        return
    rows = [("socket", client.socket), *flatten(status)]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(clean(f"{name.ljust(width)}  {value}"))


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
