"""Text that others have written, as people are shown it where they decide: on one line, inert, and unambiguous.

A command that is to be approved may hold escape sequences that rewrite what the terminal shows, characters that turn
the direction of text, and characters that cannot be seen at all. Here each of them is its escape, `\\x1b`, `\\u202e`,
and a backslash is doubled, so that what looks like an escape and is none can be told from one.
"""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["is_visible", "shown"]

_NAMED: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
# Drawn as nothing, or as a blank, though Unicode calls them letters, marks or symbols.
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def is_visible(char: str) -> bool:
    """Whether the character takes a place on the screen, and no other than its own. A space does."""
    if char.isascii():
        return char.isprintable()
    return unicodedata.category(char) not in _UNSEEN and char not in _BLANK and not _is_selector(char)


def shown(text: str) -> str:
    """The text as one line in which every character can be seen and nothing has an effect."""
    return "".join(_escaped(char) for char in text)


def _is_selector(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef" or "\u180b" <= char <= "\u180d"


def _escaped(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    if is_visible(char):
        return char
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
