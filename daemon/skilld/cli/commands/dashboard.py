"""skillctl dashboard."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import pass_app
from skilld.cli.failure import EXIT, Failure

if TYPE_CHECKING:
    from skilld.dashboard import Dashboard

__all__ = ["dashboard_command"]

_BROWSER_STARTS_S: Final = 60.0  # after which the page that leads to the address is removed


@click.command("dashboard")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default=True,
    metavar="N",
    help="Where it listens on 127.0.0.1; 0 is any port that is free.",
)
@click.option("--open", "open_it", is_flag=True, help="Open it in your browser as well.")
@click.option("--read-only", is_flag=True, help="Let nothing be changed from it.")
@pass_app
def dashboard_command(app: App, port: int, open_it: bool, read_only: bool) -> int:
    """Show the workshop in a browser on this machine. Ctrl-C ends it.

    It prints an address that only works for you: keep it to yourself. What is done there is done as you. See
    docs/dashboard.md.

    \b
    Examples:
      skillctl dashboard
      skillctl dashboard --read-only --port 8765
    """
    from skilld.dashboard import Dashboard, listen

    with app.client() as client:
        about = {"version": str(client.version()["version"]), "socket": client.socket, "commands": _commands()}
        socket = client.socket
    try:
        sock = listen(port)
    except OSError as error:
        raise Failure(f"cannot listen on port {port} of 127.0.0.1: {error.strerror}; choose another --port") from error
    return _run(Dashboard(sock, socket, read_only=read_only, about=about), open_it)


def _run(dashboard: Dashboard, open_it: bool) -> int:
    """Serve until a signal ends it; the exit code."""
    import signal

    import trio

    async def serve() -> int:
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                await nursery.start(dashboard.serve)
                print(dashboard.gate.address, flush=True)
                if open_it:
                    nursery.start_soon(_open, dashboard.gate.address)
                async for number in signals:
                    nursery.cancel_scope.cancel()
                    return EXIT.CANCELLED if number == signal.SIGINT else EXIT.DONE
        return EXIT.DONE

    return trio.run(serve)


async def _open(address: str) -> None:
    """Have the browser open the address.

    It is not in the browser's arguments, which every user of the machine can read, but in a file that only ours can.
    """
    import trio

    with _leading_to(address) as page:
        if not await trio.to_thread.run_sync(_browse, page, abandon_on_cancel=True):
            click.echo("no browser was found: open the address yourself", err=True)
            return
        await trio.sleep(_BROWSER_STARTS_S)


def _browse(page: Path) -> bool:
    import webbrowser

    return webbrowser.open(page.as_uri())


@contextmanager
def _leading_to(address: str) -> Iterator[Path]:
    """A page of our own that leads to the address, in a folder that nobody else can enter."""
    with tempfile.TemporaryDirectory(prefix="skilld-dashboard-") as folder:
        page = Path(folder) / "open.html"
        page.write_text(
            f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={address}">\n'
        )
        yield page


def _commands() -> Mapping[str, Mapping[str, str]]:
    """What each command does, for the page that lists them."""
    from skilld.cli.commands.workshop.group import workshop_command
    from skilld.cli.summaries import SUMMARIES

    context = click.Context(workshop_command)
    nouns = {name: workshop_command.get_command(context, name) for name in workshop_command.list_commands(context)}
    return {
        "skillctl": dict(SUMMARIES),
        "skillctl workshop": {
            name: found.get_short_help_str(1000) for name, found in nouns.items() if found is not None
        },
    }
