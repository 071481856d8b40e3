"""The option that names whose things of the workshop are shown, for the role admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import click

__all__ = ["Owner", "user_option"]

F = TypeVar("F", bound=Callable[..., Any])

Owner = int | Literal["all"] | None


class _User(click.ParamType[Any, Any]):
    """A user id; with `everybody` also "all"."""

    def __init__(self, everybody: bool) -> None:
        self.name = "UID|all" if everybody else "UID"
        self._everybody = everybody

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if self._everybody and value == "all":
            return value
        try:
            return int(str(value))
        except ValueError:
            self.fail(f"{value!a}: expected a user id{' or all' if self._everybody else ''}", param, ctx)


def user_option(*, everybody: bool = False) -> Callable[[F], F]:
    """--user, passed as `owner`; with `everybody` it may be "all"."""
    who = "Of this user, or of all" if everybody else "Of this user"
    return click.option(
        "--user", "owner", type=_User(everybody), metavar=_User(everybody).name, help=f"{who}; for the role admin."
    )
