"""A file's text as an audit searches it: not as it is written, but as whoever runs or reads it takes it.

Without what a shell or a model passes over (NUL, characters that do not show), with look-alike letters of other scripts
as the ones they look like, HTML's entities as the characters they stand for, and lines that end in a backslash joined
with the next one. Every place in it leads back to a line of the file.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from skill_actors.authoring.findings import Lines, Severity

__all__ = ["Hiding", "SearchedText", "decoded", "hides", "is_utf8"]

_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")
_CYRILLIC: Final = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u051b\u051d",
    "aeopcyxijsdhqw",
)
_GREEK: Final = str.maketrans(
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bf\u03b1\u03bd",
    "ABEZHIKMNOPTYXoav",
)
_LOOK_ALIKES: Final = _CYRILLIC | _GREEK
_TAGGED: Final = {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)}  # invisible, yet models read them


def decoded(data: bytes) -> str:
    """The text: UTF-16 where it begins with that mark, else UTF-8; what is neither as U+FFFD."""
    return data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8", "replace")


def is_utf8(data: bytes) -> bool:
    """Whether it is text in UTF-8 or, by its mark, in UTF-16. NUL may be in it: a shell passes over that."""
    if data.startswith(_UTF_16):
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class SearchedText:
    """The text `written`, and as it is `read`."""

    def __init__(self, written: str) -> None:
        self.written = written
        self._lines = Lines(written)
        self._offsets: Sequence[int] | None = None  # in `written`, of each character that is read; None: the same
        joined = written.replace("\\\n", "  ")  # of the same length
        if joined.isascii() and "\0" not in joined and _ENTITY.search(joined) is None:
            self.read = joined
            return
        pieces = list(_pieces(joined))
        self.read = "".join(shown for shown, _ in pieces)
        self._offsets = [offset for shown, offset in pieces for _ in shown]

    def line(self, offset: int) -> int:
        """Of a place in `written`; the first is 1."""
        return self._lines.of(offset)

    def line_read(self, offset: int) -> int:
        """Of a place in `read`, that of its character in `written`."""
        return self.line(offset if self._offsets is None else self._offsets[offset])


def _pieces(text: str) -> Iterator[tuple[str, int]]:
    """What each character, or entity, reads as, and where it begins."""
    done = 0
    for match in _ENTITY.finditer(text):
        yield from _shown(text, done, match.start())
        yield "".join(shown for shown, _ in _shown(html.unescape(match[0]), 0, None)), match.start()
        done = match.end()
    yield from _shown(text, done, None)


def _shown(text: str, start: int, end: int | None) -> Iterator[tuple[str, int]]:
    for offset, character in enumerate(text[start:end], start=start):
        if character.isascii():
            shown = "" if character == "\0" else character
        elif hides(character) is not None:
            shown = _TAGGED.get(ord(character), "")
        else:
            shown = unicodedata.normalize("NFKD", character).translate(_LOOK_ALIKES)
            shown = "".join(part for part in shown if not unicodedata.combining(part))
        yield shown, offset


# Characters that do not show


@dataclass(frozen=True, slots=True)
class Hiding:
    """How a character escapes the eye."""

    severity: Severity
    what: str


_BIDI: Final = Hiding("high", "change the direction of writing, so that text reads otherwise than it stands")
_TAG: Final = Hiding("high", "are invisible copies of letters, which a model can read and you cannot")
_ZERO: Final = Hiding("medium", "have no width")
_CONTROL: Final = Hiding("medium", "are controls, which can change what a terminal shows")


def hides(character: str) -> Hiding | None:
    """How the character escapes the eye; None if it does not."""
    code = ord(character)
    if code < 0x7F:
        return None if code >= 0x20 or character in "\n\t\r\f" else _CONTROL
    if 0xE0000 <= code <= 0xE007F or 0xE0100 <= code <= 0xE01EF:
        return _TAG
    if 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069:
        return _BIDI
    if code in (0x200C, 0x200D):
        return None  # visible in effect: Indic and Persian spelling, emoji
    category = unicodedata.category(character)
    if category == "Cf" or code in (0x115F, 0x1160, 0x3164, 0xFFA0):
        return _ZERO
    return _CONTROL if category == "Cc" else None
