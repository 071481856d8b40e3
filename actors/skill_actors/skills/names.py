"""What the specification asks of a skill's name. Both levels judge by this: one refuses, the other warns."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["MAX_NAME_CHARS", "NameFault", "name_faults", "normal_name"]

MAX_NAME_CHARS: Final = 64


class NameFault(NamedTuple):
    """One way in which a name is not as it should be; `code` is stable."""

    code: str
    message: str
    remedy: str


def normal_name(text: str) -> str:
    """The spelling by which names are compared: NFKC, so that look-alikes of one name collide."""
    return unicodedata.normalize("NFKC", text)


def name_faults(name: str, folder: str) -> Iterator[NameFault]:
    """All that is wrong with a normal name of a skill whose folder has this name."""
    if len(name) > MAX_NAME_CHARS:
        message = f"the name has {len(name)} characters; {MAX_NAME_CHARS} are allowed"
        yield NameFault("name_too_long", message, "Shorten it.")
    if name != name.lower():
        yield NameFault("name_case", f"name {_shown(name)} must be lowercase", f"Write name: {name.lower()[:80]}")
    if name.startswith("-") or name.endswith("-"):
        message = f"name {_shown(name)} cannot start or end with a hyphen"
        yield NameFault("name_hyphens", message, "Use hyphens between words only.")
    if "--" in name:
        message = f"name {_shown(name)} holds consecutive hyphens"
        yield NameFault("name_hyphens", message, "Use single hyphens.")
    odd = sorted({character for character in name if not character.isalnum() and character != "-"})
    if odd:
        message = f"name {_shown(name)} holds {', '.join(map(ascii, odd))[:80]}"
        yield NameFault("name_characters", message, "Use letters, digits and hyphens, such as tide-table.")
    if name != normal_name(folder):
        message = f"name {_shown(name)} differs from the name of its folder, {_shown(folder)}"
        yield NameFault("name_folder", message, "Give both the same name.")


def _shown(name: str) -> str:
    return repr(name[:80]) if name.isprintable() else ascii(name[:80])
