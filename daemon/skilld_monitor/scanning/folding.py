# ruff: noqa: RUF001 - letters that look alike are what it is about
"""A text as rules read it: letters that look alike are one, and what cannot be seen is gone.

Compatibility forms (full-width letters, ligatures, styled letters), accents, invisible and direction-changing
characters, and letters of other alphabets that look like Latin ones are folded. Positions in the folded text are led
back to the text as it was.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right

__all__ = ["Folded", "fold"]

# Letters that are drawn like Latin ones, by what they are read as; the kinds that are met, not all there are.
_ALIKE = {
    "a": "аɑα",
    "b": "ЬƄ",
    "c": "сϲ",
    "d": "ԁ",
    "e": "еєҽ℮",
    "g": "ɡ",
    "h": "һ",
    "i": "іιɩıǀ",
    "j": "јϳ",
    "k": "κк",
    "l": "ӏⅼ",
    "m": "м",
    "n": "ո",
    "o": "оοօ",
    "p": "рρ",
    "q": "ԛ",
    "r": "г",
    "s": "ѕꜱ",
    "t": "т",
    "u": "υսʋ",
    "v": "νѵ",
    "w": "ԝѡ",
    "x": "хχ",
    "y": "уγү",
    "z": "ʐ",
    "A": "АΑ",
    "B": "ВΒ",
    "C": "СϹ",
    "E": "ЕΕ",
    "H": "НΗ",
    "I": "ІΙӀ",
    "J": "Ј",
    "K": "КΚ",
    "M": "МΜ",
    "N": "Ν",
    "O": "ОΟ",
    "P": "РΡ",
    "S": "Ѕ",
    "T": "ТΤ",
    "X": "ХΧ",
    "Y": "ҮΥ",
    "Z": "Ζ",
    "-": "‐‑‒–—−﹣",
    "'": "‘’ʼ′",
    '"': "“”„″",
    "/": "∕⁄",
    "|": "∣｜",
}


def _alike() -> dict[str, str]:
    """Both cases of a letter lead to both cases of the same one: small letters agree however it was written."""
    found = {letter: plain for plain, letters in _ALIKE.items() for letter in letters}
    for letter, plain in list(found.items()):
        for case in (str.lower, str.upper):
            if len(case(letter)) == 1:
                found.setdefault(case(letter), case(plain))
    return found


_LIKE = _alike()
_MAX_KNOWN = 20_000
_known: dict[str, str] = dict(_LIKE)
_ASCII = bytes(range(128))
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_MAX_REPLACED = 80  # kinds of letters; of more, one pass through the text letter by letter is quicker
_UNSEEN = ("Cf", "Mn", "Me", "Cc")
_TAGS = range(0xE0020, 0xE007F)  # letters that are not drawn and say what ASCII says
_SHAPES = bytes.maketrans(b"123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0" * 9 + b"A" * 26)


class Folded:
    """The two views of a text that rules look at, of the same length.

    Args:
        plain: folded, with capital letters.
        shifts: pairs of a position in it and how much further on the text as it was stands from there, in order.
        letters: each kind of letter in it that is not ASCII.

    """

    __slots__ = ("_at", "_by", "_shape", "letters", "lower", "plain")

    def __init__(self, plain: str, shifts: list[tuple[int, int]], letters: frozenset[str]) -> None:
        self.plain = plain
        self.lower = _lower(plain, letters)
        self.letters = letters.union(*map(str.lower, letters))  # of both views
        self._shape: str | None = None
        self._at = [at for at, _ in shifts]
        self._by = [by for _, by in shifts]

    @property
    def shape(self) -> str | None:
        """The plain view with `0` for every digit, `A` for every capital and `?` for every letter beyond ASCII; None if
        there are digits among those: an expression may take them for others."""
        if self._shape is None and not any(letter.isdecimal() for letter in self.letters):
            self._shape = self.plain.encode("ascii", "replace").translate(_SHAPES).decode()
        return self._shape

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Where a span of the folded text, which is not empty, stands in the text as it was."""
        if not self._at:
            return start, end
        return self._place(start), self._place(end - 1) + 1

    def _place(self, at: int) -> int:
        index = bisect_right(self._at, at) - 1
        return at if index < 0 else at + self._by[index]


def fold(text: str) -> Folded:
    """The text as rules read it."""
    letters = _beyond_ascii(text)
    changed = {letter: plain for letter in letters if (plain := _folded(letter)) != letter}
    if not changed:
        return Folded(text, [], letters)
    uneven = "".join(letter for letter, plain in changed.items() if len(plain) != 1)
    shifts = _shifts(text, changed, uneven) if uneven else []
    left = {letter for plain in changed.values() for letter in plain if not letter.isascii()}
    return Folded(_replaced(text, changed), shifts, (letters - changed.keys()) | left)


def _beyond_ascii(text: str) -> frozenset[str]:
    """Each kind of letter in a text that is not ASCII."""
    if text.isascii():
        return frozenset()
    return frozenset(text.encode("utf-8", "surrogatepass").translate(None, _ASCII).decode("utf-8", "surrogatepass"))


def _lower(plain: str, letters: frozenset[str]) -> str:
    """In small letters, and of the same length."""
    if not letters:
        return plain.lower()
    capitals = {letter: low for letter in letters if (low := letter.lower()) != letter}
    if len(capitals) <= _MAX_REPLACED and "\u03a3" not in capitals and all(len(low) == 1 for low in capitals.values()):
        # Letter by letter is slow, and small letters of bytes are those of ASCII. One letter has two small ones.
        lower = plain.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
        return _replaced(lower, capitals)
    lower = plain.lower()
    if len(lower) == len(plain):
        return lower
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in plain)


def _replaced(text: str, changed: dict[str, str]) -> str:
    """With other letters for each of these, which are not ASCII."""
    if len(changed) <= _MAX_REPLACED and changed.keys().isdisjoint("".join(changed.values())):
        for letter, plain in changed.items():
            text = text.replace(letter, plain)
        return text
    others = {ord(letter): plain for letter, plain in changed.items()}
    return _NOT_ASCII.sub(lambda found: found.group().translate(others), text)


def _shifts(text: str, changed: dict[str, str], uneven: str) -> list[tuple[int, int]]:
    shifts: list[tuple[int, int]] = []
    by = 0
    for match in re.finditer(f"[{re.escape(uneven)}]", text):
        at = match.start()
        width = len(changed[match.group()])
        begins = at - by
        shifts.extend((begins + more, by - more) for more in range(1, width))  # all of them are the one it was
        by += 1 - width
        shifts.append((begins + width, by))
    return shifts


def _folded(letter: str) -> str:
    found = _known.get(letter)
    if found is None:
        found = _fold_letter(letter)
        if len(_known) < _MAX_KNOWN:
            _known[letter] = found
    return found


def _fold_letter(letter: str) -> str:
    if ord(letter) in _TAGS:
        return chr(ord(letter) - 0xE0000)
    if unicodedata.category(letter) in _UNSEEN:
        return ""
    if letter.isspace():
        return " "
    return "".join(_bare(part) for part in unicodedata.normalize("NFKC", letter))


def _bare(letter: str) -> str:
    """Without its accent, and as the Latin letter that it looks like."""
    parts = unicodedata.normalize("NFD", letter)
    base = parts[0] if len(parts) > 1 and unicodedata.category(parts[1]) == "Mn" else letter
    return _LIKE.get(base, base)
