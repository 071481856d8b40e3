"""What the specification asks of the fields beside the name, for both levels."""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "KNOWN_FIELDS",
    "MAX_COMPATIBILITY_CHARS",
    "MAX_DESCRIPTION_CHARS",
    "counted_chars",
    "has_comma_between_tools",
]

KNOWN_FIELDS: Final = frozenset({"name", "description", "license", "compatibility", "metadata", "allowed-tools"})
MAX_DESCRIPTION_CHARS: Final = 1024
MAX_COMPATIBILITY_CHARS: Final = 500

_COMMA_BETWEEN_TOOLS: Final = re.compile(r"\([^()]*\)|(,)")


def counted_chars(value: str) -> int:
    """How long the specification finds a value: in code points, without the line break that ends a block of text."""
    return len(value.rstrip("\n"))


def has_comma_between_tools(text: str) -> bool:
    """Whether a comma stands outside the parentheses of `allowed-tools`."""
    return any(match[1] for match in _COMMA_BETWEEN_TOOLS.finditer(text))
