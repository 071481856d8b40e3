"""Text from strangers, without what does not show."""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["clean_text"]

_JOINERS: Final = "\u200c\u200d"  # visible in effect: Indic and Persian spelling, emoji


def clean_text(text: str) -> str:
    """The text without controls, bidirectional marks, invisible tags and lone surrogates; \\n and \\t stay."""
    if text.isprintable():
        return text
    return "".join(character for character in text if _shows(character))


def _shows(character: str) -> bool:
    if character in "\n\t" or character in _JOINERS:
        return True
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")
