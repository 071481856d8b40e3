"""The section [workshop]: agents with names, and when one that crashes is given up."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skilld.config.section import Count, FilePath, Seconds, Section

__all__ = ["WorkshopConfig"]


class WorkshopConfig(Section):
    """Bounds of each user's agents and board, and how often an agent's program may crash."""

    max_agents: Count = 10_000
    max_crashes: Count = 5
    crash_period_s: Seconds = 600.0
    max_crashes_per_message: Count = 2
    board_items: Count = 10_000
    item_types: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")], ...] = Field(default=(), strict=False)
    setup: FilePath | None = None
    setup_owner: Annotated[int, Field(ge=0, le=(1 << 32) - 2)] | None = None
    git: Annotated[str, Field(min_length=1, max_length=4096)] = "git"
