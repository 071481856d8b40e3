"""The setting `channels` of several sections below [monitor]: which channels of events are meant."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

__all__ = ["Channels"]

_MAX_CHARS: Final = 64  # longer ones are cut before they are stored


def _can_be_a_channel(value: str) -> str:
    if value == "*":
        raise ValueError("is no channel; for all of them leave the list empty")
    if not value or len(value) > _MAX_CHARS or not value.isprintable():
        raise ValueError(f"must be a channel, such as 'LLM': 1 to {_MAX_CHARS} characters, all of which can be printed")
    return value


Channels = Annotated[
    tuple[Annotated[str, AfterValidator(_can_be_a_channel)], ...], Field(max_length=1_000, strict=False)
]
