"""What somebody is asked to judge, shown so that it is what it seems.

A command that waits for an approval was written by a model, out of texts of strangers. Shown as it is, it could move
the cursor, clear what stands above, turn its letters around, or hide a part. So every character that is not itself a
mark on the screen is written as an escape, such as `\\x1b` or `\\u202e`; nothing is dropped. A backslash stays as it
is, so that commands can be read: which characters are escapes, `suspects` tells. A terminal that breaks a long line
begins the rest where labels stand: `pieces` breaks it before that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

__all__ = ["inert", "inert_lines", "pieces", "suspects"]

# Printable by Unicode's word, and yet blank, or a part of the letter before.
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_SELECTORS: Final = ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
_WIDE: Final = frozenset("WFA")  # A: in some terminals
_GAP: Final = re.compile(r" {40,}")
_ENDS: Final = re.compile(r"\r?\n")


def inert(text: str) -> str:
    """The text on one line, all of it visible. Long gaps, which push the rest out of sight, are counted instead."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_shown, text))
    return _GAP.sub(lambda gap: f"[{len(gap[0])} spaces]", text)


def inert_lines(text: str) -> list[str]:
    """The same line by line."""
    return [inert(line) for line in _ENDS.split(text)]


def pieces(text: str, columns: int) -> list[str]:
    """A line that is inert already, in parts of which each has so many columns at most; at least one."""
    if text.isascii():
        return [text[at : at + columns] for at in range(0, len(text), columns)] or [""]
    found, part, left = [], "", columns
    for char in text:
        width = 2 if unicodedata.east_asian_width(char) in _WIDE else 1
        if width > left and part:
            found.append(part)
            part, left = "", columns
        part, left = part + char, left - width
    return [*found, part]


def suspects(text: str) -> tuple[Sequence[str], Sequence[str]]:
    """Characters that `inert` writes as escapes, but for ends of lines and tabs; and visible ones that are not ASCII.

    The latter may look like others: some letters of Cyrillic do like Latin ones.
    """
    found = sorted(set(text) - set("\t\n\r")) if not (text.isascii() and text.isprintable()) else []
    hidden = [char for char in found if _shown(char) != char]
    return hidden, [char for char in found if not char.isascii() and char not in hidden]


def _shown(char: str) -> str:
    if char.isprintable() and char not in _BLANK and not _selects(ord(char)):
        return char
    if char == "\t":
        return "\\t"
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _selects(code: int) -> bool:
    return any(low <= code <= high for low, high in _SELECTORS)
