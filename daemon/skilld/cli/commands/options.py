"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click

from skilld.cli.app import App
from skilld.client import SkilldError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["json_option", "pass_app", "session_argument"]

F = TypeVar("F", bound=Callable[..., Any])

pass_app = click.make_pass_decorator(App)


def json_option(what: str = "one JSON document") -> Callable[[F], F]:
    """--json, passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what}.")


def complete_sessions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the latest conversations, titled; nothing if the daemon cannot be asked."""
    from click.shell_completion import CompletionItem

    app = ctx.find_object(App) or App(ctx.find_root().params.get("socket"))
    try:
        with app.client() as client:
            latest = list(islice(client.sessions(page_size=50), 50))
    except (SkilldError, click.UsageError):
        return []  # a completion has nowhere to report to
    return [
        CompletionItem(item["id"], help=str(item.get("title") or "")[:60])
        for item in latest
        if str(item["id"]).startswith(incomplete)
    ]


def session_argument(*, many: bool = False) -> Callable[[F], F]:
    """SESSION, passed as `session`, or SESSION... passed as `sessions`."""
    if many:
        return click.argument(
            "sessions", metavar="SESSION...", nargs=-1, required=True, shell_complete=complete_sessions
        )
    return click.argument("session", metavar="SESSION", shell_complete=complete_sessions)
