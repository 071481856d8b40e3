"""Names for files that others named. Pure.

What a model called its file is joined to no path as it stands: it may hold folders, control characters, or what some
system takes for a device.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import Final

__all__ = ["fresh_name", "safe_name"]

_MAX_BYTES: Final = 200  # file systems take 255; the rest is for numbers and for files that are being written
_MAX_SUFFIX_BYTES: Final = 20
_ODD: Final = re.compile(r'[<>:"|?*]')
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # controls, formats, surrogates, unassigned


def safe_name(name: str) -> str:
    """A name of one file in a folder, as near to `name` as is safe on every system; "file" if nothing of it is left."""
    last = re.split(r"[/\\]", name)[-1]
    shown = "".join(
        letter for letter in unicodedata.normalize("NFC", last) if unicodedata.category(letter) not in _UNSEEN
    )
    plain = _ODD.sub("_", shown).strip().rstrip(". ")
    if plain.startswith("."):
        plain = "_" + plain.lstrip(".")  # nobody expects a hidden file, which some programs would obey
    if _DEVICES.fullmatch(plain):
        plain = "_" + plain
    return _cut(plain) if plain.strip("_ ") else "file"


def fresh_name(name: str, taken: Collection[str]) -> str:
    """`name`, or with a number that is free: "report (2).xlsx". Case does not tell two names apart.

    The number is the next one where those before it are all taken. It is searched for, not counted up to: of thousands
    of equal names each would take longer than the one before.

    Args:
        name: a safe one.
        taken: names that are in use, each casefolded.

    """
    if name.casefold() not in taken:
        return name
    stem, suffix = _split(name)

    def numbered(number: int) -> str:
        return f"{stem} ({number}){suffix}"

    used, free = 1, 2
    while numbered(free).casefold() in taken:
        used, free = free, 2 * free
    while free - used > 1:
        middle = (used + free) // 2
        if numbered(middle).casefold() in taken:
            used = middle
        else:
            free = middle
    return numbered(free)


def _cut(name: str) -> str:
    stem, suffix = _split(name)
    room = _MAX_BYTES - len(suffix.encode())
    return stem.encode()[:room].decode("utf-8", "ignore").rstrip() + suffix


def _split(name: str) -> tuple[str, str]:
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) >= _MAX_SUFFIX_BYTES:
        return name, ""
    return stem, dot + suffix
