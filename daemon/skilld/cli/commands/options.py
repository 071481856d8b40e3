"""Options and arguments that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from skilld.cli.app import App
from skilld.client import SkilldError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    "approval_argument",
    "complete_approvals",
    "complete_backends",
    "complete_caps",
    "complete_message",
    "complete_sessions",
    "complete_skills",
    "json_option",
    "pass_app",
    "session_argument",
    "skill_paths",
]

F = TypeVar("F", bound=Callable[..., Any])

_SAFE: Final = re.compile(r"(?![-.])[\w.\-\u0080-\U0010ffff]+")
_SAFE_PATH: Final = re.compile(r"(?![-.])[\w./-]+", re.ASCII)
_CAPS: Final = ("turn", "session", "agent", "user", "user/day", "user/month", "total", "day", "month")

pass_app = click.make_pass_decorator(App)


class _GivenPath(click.Path):
    """A path that is not empty: such as of an unset variable would be taken for the folder one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("an empty path; write . for the folder you are in", param, ctx)
        return super().convert(value, param, ctx)


# What cannot be read is for the command to tell, path by path.
_GIVEN: Final = _GivenPath(path_type=Path, readable=False)
skill_paths = click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=_GIVEN)


def json_option(what: str = "one JSON document") -> Callable[[F], F]:
    """--json, passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what}.")


def complete_sessions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the latest conversations, titled; nothing if the daemon cannot be asked."""
    from click.shell_completion import CompletionItem

    from skilld.cli.output import one_line

    app = ctx.find_object(App) or App(ctx.find_root().params.get("socket"))
    try:
        with app.client() as client:
            latest = list(islice(client.sessions(page_size=50), 50))
    except (SkilldError, click.UsageError):
        return []  # a completion has nowhere to report to
    return [
        CompletionItem(item["id"], help=one_line(str(item.get("title") or ""), 60))
        for item in latest
        if str(item["id"]).startswith(incomplete)
    ]


def complete_approvals(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of approvals that wait, with what would run; nothing if the daemon cannot be asked."""
    from click.shell_completion import CompletionItem

    from skilld.cli.inert import inert
    from skilld.cli.output import one_line

    app = ctx.find_object(App) or App(ctx.find_root().params.get("socket"))
    try:
        with app.client() as client:
            waiting = list(islice(client.approvals(page_size=50), 50))
    except (SkilldError, click.UsageError):
        return []
    return [
        CompletionItem(str(item["id"]), help=one_line(inert(str(item.get("shown") or "")), 60))
        for item in waiting
        if str(item["id"]).startswith(incomplete) and _SAFE.fullmatch(str(item["id"]))
    ]


def complete_caps(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of caps: those of each kind, and what is in force, if the daemon can be asked."""
    from click.shell_completion import CompletionItem

    app = ctx.find_object(App) or App(ctx.find_root().params.get("socket"))
    try:
        with app.client() as client:
            there = [str(cap["name"]) for cap in client.budgets()]
    except (SkilldError, click.UsageError):
        there = []
    names = dict.fromkeys((*_CAPS, *there))
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and _SAFE_PATH.fullmatch(name)]


def complete_backends(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the backends that a session may have; nothing if the daemon cannot be asked."""
    from click.shell_completion import CompletionItem

    app = ctx.find_object(App) or App(ctx.find_root().params.get("socket"))
    try:
        with app.client() as client:
            names = [str(item["name"]) for item in client.backends()]
    except (SkilldError, click.UsageError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and _SAFE.fullmatch(name)]


def complete_skills(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of skills; nothing if the daemon cannot be asked.

    Names that a shell could read as more than one word are left out: it puts what it is offered on its line as it is.
    """
    return _skills(ctx, incomplete, "", runnable=False)


def complete_message(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`/name` for skills that can be run so, once a message begins with a slash."""
    return _skills(ctx, incomplete, "/", runnable=True) if incomplete.startswith("/") else []


def _skills(ctx: click.Context, incomplete: str, before: str, *, runnable: bool) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from skilld.cli.output import one_line

    app = ctx.find_object(App) or App(ctx.find_root().params.get("socket"))
    try:
        with app.client() as client:
            found = client.skills()["items"]
    except (SkilldError, click.UsageError):
        return []
    named = {before + str(item["name"]): item for item in found if item.get("entry") or not runnable}
    return [
        CompletionItem(name, help=one_line(str(item.get("description") or ""), 60))
        for name, item in named.items()
        if name.startswith(incomplete) and _SAFE.fullmatch(name[len(before) :]) and name.isprintable()
    ]


def approval_argument(*, required: bool = True) -> Callable[[F], F]:
    """ID of an approval, passed as `approval`."""
    metavar = "ID" if required else "[ID]"
    return click.argument("approval", metavar=metavar, required=required, shell_complete=complete_approvals)


def session_argument(*, many: bool = False) -> Callable[[F], F]:
    """SESSION, passed as `session`, or SESSION... passed as `sessions`."""
    if many:
        return click.argument(
            "sessions", metavar="SESSION...", nargs=-1, required=True, shell_complete=complete_sessions
        )
    return click.argument("session", metavar="SESSION", shell_complete=complete_sessions)
