"""What all sections of the configuration are, and the kinds of values that several of them have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from skilld.loopback import loopback_address

__all__ = [
    "Bound",
    "Command",
    "ConfigError",
    "Count",
    "CredentialName",
    "FilePath",
    "LocalAddress",
    "Names",
    "Seconds",
    "Section",
    "mask",
]


def _is_loopback(value: str) -> str:
    if value:
        loopback_address(value)
    return value


def _names_a_program(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and not value[0].startswith("/"):
        raise ValueError("must begin with the absolute path of a program")
    return value


_Word = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]  # what a program may get, so an empty one too

Bound = Annotated[int, Field(ge=0, le=1 << 50)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Command = Annotated[tuple[_Word, ...], AfterValidator(_names_a_program)]
CredentialName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,255}$")]
FilePath = Annotated[Path, Field(strict=False)]
LocalAddress = Annotated[str, AfterValidator(_is_loopback)]
Names = tuple[Annotated[str, Field(min_length=1, max_length=200)], ...]
Seconds = Annotated[float, Field(gt=0, le=604_800, allow_inf_nan=False)]

# What looks like a credential is not repeated in an error, whichever key it was written to.
_SECRET: Final = re.compile(r"sk-[A-Za-z0-9_-]{8,}|(?<=://)[^/@\s]+(?=@)")


class ConfigError(Exception):
    """The configuration cannot be used. The message names the file, the key, the value and what is allowed."""


class Section(BaseModel):
    """A section: no key but those it has, and no value of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def mask(text: str) -> str:
    """The text with everything that looks like a credential replaced by `***`."""
    return _SECRET.sub("***", text)
