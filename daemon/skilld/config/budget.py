"""The section [budget]: what may be spent. A cap that is not written down is none."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from skilld.config.section import Section

__all__ = ["BudgetConfig"]

Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


def _is_cap(value: dict[str, Any]) -> dict[str, Any]:
    """The same, if it is limits as a session's `budget` has them. Raises ValueError."""
    if value:
        # Imported where it is needed: the command line checks configurations, and this takes a while.
        from skill_actors.sessions.ledger import Limits

        Limits.from_json(value)
    return value


# A table and no section: a limit that is not written is none, for which there would be no default to show.
CapTable = Annotated[dict[str, Any], AfterValidator(_is_cap)]


class BudgetConfig(Section):
    """Caps in dollars, tokens, seconds and tool calls: of each one, of a day or a month in UTC, and of all together."""

    warn_at: tuple[Share, ...] = Field(default=(0.5, 0.8, 0.95), strict=False, max_length=20)
    turn: CapTable = Field(default={})
    session: CapTable = Field(default={})
    agent: CapTable = Field(default={})
    user: CapTable = Field(default={})
    user_day: CapTable = Field(default={})
    user_month: CapTable = Field(default={})
    day: CapTable = Field(default={})
    month: CapTable = Field(default={})
    total: CapTable = Field(default={})

    @field_validator("warn_at")
    @classmethod
    def _rises(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("must rise, such as [0.5, 0.8]")
        return value
