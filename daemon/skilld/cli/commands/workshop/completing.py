"""How names of the workshop are completed: by asking the daemon, and with nothing if it cannot be asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from skilld.cli.app import App
from skilld.client import SkilldError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    *("complete_agents", "complete_profiles", "complete_runs"),
    *("complete_schedules", "complete_workers", "complete_workflows"),
]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")  # nothing else is put on anybody's line


def complete_agents(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of one's own agents."""
    return _complete(ctx, incomplete, lambda client: [each["name"] for each in client.agents()])


def complete_profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of one's own profiles."""
    return _complete(ctx, incomplete, lambda client: [each["name"] for each in client.profiles()])


def complete_workflows(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of one's own workflows."""
    return _complete(ctx, incomplete, lambda client: [each["name"] for each in client.workflows()])


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of one's own latest runs."""
    return _complete(ctx, incomplete, lambda client: [each["id"] for each in client.runs()])


def complete_schedules(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of one's own schedules."""
    return _complete(ctx, incomplete, lambda client: [each["name"] for each in client.schedules()])


def complete_workers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of one's own workers."""
    return _complete(ctx, incomplete, lambda client: [each["name"] for each in client.board_workers()])


def _complete(ctx: click.Context, incomplete: str, ask: Callable[[Any], Sequence[str]]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    app = ctx.find_object(App) or App(ctx.find_root().params.get("socket"))
    try:
        with app.client() as client:
            names = [str(name) for name in ask(client)]
    except (SkilldError, click.UsageError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and _NAME.fullmatch(name)]
