"""Log text that cannot pass for anything else: control characters are shown, and a line never begins a record.

What clients, tools and files are called reaches the log. Written as it is it could move a terminal's cursor, end a
line and go on with one that looks like the daemon's own.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["indented", "visible"]

# C0 but tab and newline, DEL, C1, the line ends of Unicode, and what turns the direction of text.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """The text with every control character but tab and newline as its escape, `\\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def indented(text: str) -> list[str]:
    """The lines of a record; all but the first are indented, since nothing else tells them from another record."""
    first, *others = visible(text).split("\n")
    return [first, *(f"    {line}" for line in others)]
