"""A text as it reads once what breaks its words up is taken out: escapes of a string within a string, and spaces
between letters.

Only what stands around such places is read again, and only what was found at one of them is new. A text that has none
costs a look for a backslash, and one for letters that stand alone.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right

from skilld_monitor.scanning.findings import CATEGORIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Disguise", "disguises"]

_BEFORE_CHARS, _BEHIND_CHARS = 120, 160  # of the text, read with a place
_MAX_WORD_CHARS = 4_000  # that one goes on behind that
_JOINT = "\n\n"
_HOLES = {"n": "\n", "r": "\r", "t": "\t"}
# However many strings it is within: each has doubled the backslashes. Before what ends a line or a string an escape
# divides nothing, and source code is full of those.
_ESCAPE = re.compile(r"\\(?:\\{0,15})(?:u([0-9A-Fa-f]{4})|([\"/])|([nrt])(?=[\w ]))")
# Letters as `a`, and what stands between them as a space.
_SHAPES = bytes(ord(" ") if code in b" \t\r\n" else ord("a") for code in range(256))
_SPACED = re.compile(rb"a(?: {1,4}a(?!a)){5,400}")
_SPACES = re.compile(rb" +")


class Disguise:
    """Parts of a text without what breaks them up.

    Args:
        text: the whole, for what stands around.
        changes: places in it, in order and apart from each other, and what each is read as.
        categories: of rules that may look at it.

    """

    def __init__(self, text: str, changes: Iterable[tuple[int, int, str]], categories: tuple[str, ...]) -> None:
        self.categories = categories
        self._text = text
        self._parts: list[str] = []
        self._length = 0
        self._at: list[int] = []  # where each part begins below
        self._places: list[tuple[int, int]] = []  # and where it stands in the text as it was
        self._marks: list[int] = []
        self._joints: list[int] = []
        done = behind = 0
        for start, end, said in changes:
            if start > behind:
                self._keep(done, behind)
                self._joints.append(self._length)
                self._say(_JOINT, behind, behind)
                done = max(behind, _begin(text, start))
            self._keep(done, start)
            self._marks.append(self._length)
            self._say(said, start, end)
            done, behind = end, max(behind, _end(text, end))
        self._keep(done, behind)
        self.text = "".join(self._parts)

    def original(self, start: int, end: int) -> tuple[int, int] | None:
        """Where it stands in the text as it was; None for what has nothing to do with what was taken out."""
        if not _has(self._marks, start - 1, end + 1) or _has(self._joints, start, end):
            return None
        return self._place(start)[0], self._place(end - 1)[1]

    def _place(self, at: int) -> tuple[int, int]:
        """The place of one letter."""
        part = bisect_right(self._at, at) - 1
        (start, end), inside = self._places[part], at - self._at[part]
        is_kept = end - start == len(self._parts[part])
        return (start + inside, start + inside + 1) if is_kept else (start, end)

    def _keep(self, start: int, end: int) -> None:
        if end > start:
            self._say(self._text[start:end], start, end)

    def _say(self, said: str, start: int, end: int) -> None:
        if said:
            self._at.append(self._length)
            self._parts.append(said)
            self._places.append((start, end))
            self._length += len(said)


def _has(places: list[int], start: int, end: int) -> bool:
    at = bisect_left(places, start)
    return at < len(places) and places[at] < end


def disguises(text: str) -> Iterator[Disguise]:
    """Ways to read parts of it, of each kind at most one."""
    if "\\" in text:
        escapes = [(found.start(), found.end(), _decoded(found)) for found in _ESCAPE.finditer(text)]
        if escapes:
            yield Disguise(text, escapes, CATEGORIES)
    shape = b" %b " % text.encode("ascii", "replace").translate(_SHAPES)
    gaps = list(_gaps(shape)) if b" a a " in shape else []
    if gaps:  # digits in a row are a row of a table as often as a number
        yield Disguise(text, gaps, ("dangerous_commands", "prompt_manipulation"))


def _decoded(found: re.Match[str]) -> str:
    code, sign, hole = found.groups()
    return chr(int(code, 16)) if code else sign or _HOLES[hole]


def _gaps(shape: bytes) -> Iterator[tuple[int, int, str]]:
    """What stands between letters that stand alone: one space is nothing, and more divide two words."""
    at = shape.find(b" a a ")
    while at >= 0:
        found = _SPACED.match(shape, at + 1)
        if found is not None:
            for gap in _SPACES.finditer(shape, found.start(), found.end()):
                yield gap.start() - 1, gap.end() - 1, "" if gap.end() - gap.start() == 1 else " "
        at = shape.find(b" a a ", at + 1 if found is None else found.end())


def _begin(text: str, at: int) -> int:
    """Where to read from, for a place: not from the middle of a word, if there is a space."""
    first = max(0, at - _BEFORE_CHARS)
    space = text.find(" ", first, at) if first else -1
    return first if space < 0 else space


def _end(text: str, at: int) -> int:
    last = min(len(text), at + _BEHIND_CHARS)
    space = text.find(" ", last, last + _MAX_WORD_CHARS)
    return min(len(text), last + _MAX_WORD_CHARS) if space < 0 else space
