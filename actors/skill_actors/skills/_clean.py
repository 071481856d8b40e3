"""Text from strangers, without what does not show."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["clean_text"]

_JOINERS: Final = "\u200c\u200d"  # visible in effect: Indic and Persian spelling, emoji

# Letters, marks and unassigned characters by category, yet drawn as nothing: texts are smuggled in them. The first
# sixteen variation selectors stay, since emoji need them.
_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufdd0-\ufdef\ufff0-\ufff8\ufffe\uffff"
    "\U000e0000-\U000e0fff]"
)
_LINE_ENDS: Final = re.compile("[\u0085\u2028\u2029]")


def clean_text(text: str) -> str:
    """The text without controls, bidirectional marks, invisible characters and lone surrogates; \\n and \\t stay.

    The line ends that only some programs know become \\n. Characters younger than this Python's tables stay.
    """
    text = _BLANK.sub("", text)
    if text.isprintable():
        return text
    return "".join(character for character in _LINE_ENDS.sub("\n", text) if _shows(character))


def _shows(character: str) -> bool:
    if character in "\n\t" or character in _JOINERS:
        return True
    if ord(character) & 0xFFFE == 0xFFFE:
        return False  # no character, in every plane
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")
