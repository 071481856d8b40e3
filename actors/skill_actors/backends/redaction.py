"""Taking secrets out of what a tool prints: whole values, also where they arrive in pieces or are cut through.

A value is looked for as it is, line by line (a key file that is shown with line numbers), and as JSON and URLs write
it. What a program encodes otherwise is not found: this keeps accidents out of a history, not a program that wants out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

__all__ = ["HIDDEN", "MIN_SECRET_CHARS", "RedactedStream", "Redactor"]

HIDDEN: Final = "***"
MIN_SECRET_CHARS: Final = 8  # what is shorter occurs by chance
_MIN_PART_CHARS: Final = 4  # of a value that is cut through
_LEFT_IN_URLS: Final = ("", "/", "!'()*", "!'()*;/?:@&=+$,#")  # by quote(safe=""), quote, encodeURIComponent, encodeURI
_ESCAPE: Final = re.compile("%[0-9A-F]{2}")

_Span = tuple[int, int]


class Redactor:
    """Hides these values. With none of them it changes nothing and costs nothing."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._forms = tuple(sorted({form for value in values for form in _forms(value)}, key=len, reverse=True))

    def __bool__(self) -> bool:
        return bool(self._forms)

    def __repr__(self) -> str:
        return f"Redactor({len(self._forms)} forms)"

    def text(self, text: str) -> str:
        """The text with every value replaced."""
        return self._replaced(text, self.spans(text))

    def cut(self, head: str, tail: str) -> tuple[str, str]:
        """The same for the beginning and the end of a text whose middle is not known: parts of a value go as well."""
        kept = len(head) - self.begun(head, _MIN_PART_CHARS)
        gone = self._ended(tail)
        head_spans = _merged([*self.spans(head), (kept, len(head))])
        tail_spans = _merged([*self.spans(tail), (0, gone)])
        return self._replaced(head, head_spans), self._replaced(tail, tail_spans)

    def stream(self) -> RedactedStream:
        """For a text that comes piece by piece."""
        return RedactedStream(self)

    def spans(self, text: str) -> list[_Span]:
        """Where values stand, those that overlap as one."""
        return _merged(span for form in self._forms for span in _found(text, form))

    def begun(self, text: str, least: int = 1) -> int:
        """How many characters at the end of `text`, `least` or more, may be the beginning of a value."""
        return max((_overlap(text, form, least) for form in self._forms), default=0)

    def _ended(self, text: str) -> int:
        backwards = text[::-1]
        return max((_overlap(backwards, form[::-1], _MIN_PART_CHARS) for form in self._forms), default=0)

    def _replaced(self, text: str, spans: Iterable[_Span]) -> str:
        pieces: list[str] = []
        done = 0
        for start, end in spans:
            pieces += [text[done:start], HIDDEN]
            done = end
        return "".join((*pieces, text[done:])) if pieces else text


class RedactedStream:
    """Text in, text out, late by what may be the beginning of a value."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""
        self._hidden = 0  # so much of what is held belongs to a value that was found already

    def feed(self, text: str) -> str:
        """What can be shown now."""
        if not self._redactor:
            return text
        return self._take(self._held + text, final=False)

    def end(self) -> str:
        """The rest; a value that breaks off is hidden as well."""
        return self._take(self._held, final=True)

    def _take(self, text: str, *, final: bool) -> str:
        cut = self._redactor.begun(text, _MIN_PART_CHARS if final else 1)
        ended = (len(text) - cut, len(text)) if final else (0, 0)
        spans = _merged([(0, self._hidden), *self._redactor.spans(text), ended])
        shown = len(text) if final else len(text) - cut
        before = [(start, min(end, shown)) for start, end in spans if start < shown]
        self._held = text[shown:]
        self._hidden = max((end - shown for start, end in spans if start <= shown < end), default=0)
        return self._redactor._replaced(text[:shown], before)


def _forms(value: str) -> Iterator[str]:
    lines = [line.strip() for line in value.splitlines()]
    for plain in (value, *(line for line in lines if len(line) >= MIN_SECRET_CHARS)):
        yield plain
        for written in (json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1]):
            yield from (written, written.replace("/", "\\/"))
        for left in _LEFT_IN_URLS:
            written = quote(plain, safe=left, errors="replace")
            for url in (written, written.replace("%20", "+")):
                yield from (url, _ESCAPE.sub(lambda escape: escape[0].lower(), url))


def _found(text: str, form: str) -> Iterator[_Span]:
    start = text.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = text.find(form, start + 1)


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _overlap(text: str, form: str, least: int) -> int:
    """The length of the longest end of `text` that is a beginning, but not all, of `form`; 0 if it is below `least`."""
    start = text.find(form[0], max(0, len(text) - len(form) + 1))
    while start >= 0:
        if form.startswith(text[start:]):
            return len(text) - start if len(text) - start >= least else 0
        start = text.find(form[0], start + 1)
    return 0
