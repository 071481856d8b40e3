"""The section [hooks]."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from skilld.config.section import Command, FilePath, Section
from skilld.loopback import is_local_host

__all__ = ["HOOK_EVENTS", "HookEvent", "HooksConfig", "checked_receiver", "checked_url", "origin_of"]

HookEvent = Literal[
    "approval.needed",
    "approval.resolved",
    "budget.exceeded",
    "budget.warning",
    "turn.cancelled",
    "turn.failed",
    "turn.finished",
    "turn.interrupted",
]

HOOK_EVENTS: Final[tuple[HookEvent, ...]] = get_args(HookEvent)


class HooksConfig(Section):
    """Who is told of endings, approvals and budgets that run out. The token is named here, never written here."""

    events: tuple[HookEvent, ...] = Field(default=HOOK_EVENTS, strict=False)
    exec: Command = Field(default=(), strict=False)
    url: Annotated[str, Field(max_length=2000)] = ""
    token_file: FilePath | None = None
    ca_file: FilePath | None = None
    timeout_s: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 10.0
    attempts: Annotated[int, Field(ge=1, le=20)] = 5
    queue: Annotated[int, Field(ge=1, le=100_000)] = 1000

    @field_validator("url")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        return checked_receiver(
            value,
            example="https://hooks.example.com/skilld",
            instead="a token belongs into hooks.token_file",
        )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, origin_of(value) if name == "url" else value


def origin_of(url: str) -> str:
    """The URL without its path and query, since whoever knows those of some services may speak for their owner."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/***" if url else ""


def checked_url(value: str, *, example: str, instead: str) -> str:
    """The URL of a receiver over HTTP.

    Args:
        example: one that is well formed.
        instead: where what a receiver knows us by belongs.

    Raises:
        ValueError: if it is none, or has a user or a password in it.

    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or not value.isprintable() or " " in value:
        raise ValueError(f"must be a URL such as {example}")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"must have no user and password; {instead}")
    return value


def checked_receiver(value: str, *, example: str, instead: str) -> str:
    """As `checked_url`, and https unless it is this host's; "" for none."""
    if not value:
        return value
    parts = urlsplit(checked_url(value, example=example, instead=instead))
    if parts.scheme == "http" and not is_local_host(parts.netloc):
        raise ValueError("must be https, but for this host itself")
    return value
