"""Files that come with a message, as text that rules can be tried on. Pure.

What is text is told by what a file holds and never by its name: by the mark that it begins with, else it has no NUL and
no other control characters but those that stand in texts. Any bytes that are no UTF-8 are taken for Latin-1 then, also
behind the mark of UTF-8, which loses none of them. Half a surrogate pair is a letter of UTF-16 and UTF-32; what is no
text in these even so is the rest of the file, like what is behind the bounds.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_FILE_BYTES", "MAX_MESSAGE_BYTES", "FileText", "text_of", "texts_of"]

MAX_FILE_BYTES: Final = 1 << 20
"""Of each file so much is looked into: about 0.4 s of work for the worst of texts."""

MAX_MESSAGE_BYTES: Final = 8 << 20
"""Of all files of a message together."""

_MARKS: Final = (  # the longest first: that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NEVER: Final = bytes({*range(0x20), 0x7F} - set(b"\t\n\v\f\r\b\x1b\x1a"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileText:
    """A file that is text.

    Args:
        mark: what it begins with, before the text.
        text: as far as it is looked into.
        rest: of its bytes, behind that; nothing if it was looked into to its end.

    """

    mark: bytes
    encoding: str
    text: str
    rest: bytes

    def with_text(self, text: str) -> bytes:
        """The file with another text. Raises UnicodeEncodeError if its encoding cannot hold that."""
        return self.mark + text.encode(self.encoding, _errors(self.encoding)) + self.rest


def texts_of(files: Sequence[tuple[str, bytes]]) -> Iterator[FileText | None]:
    """Of each file its text, as far as the bounds go; None for one that is none."""
    left = MAX_MESSAGE_BYTES
    for _, content in files:
        found = text_of(content, min(left, MAX_FILE_BYTES))
        if found is not None:
            left = max(0, left - len(content) + len(found.rest))  # its mark may be more than what was left
        yield found


def text_of(content: bytes, max_bytes: int = MAX_FILE_BYTES) -> FileText | None:
    """The first so many bytes as text; None if they are none."""
    mark, encoding = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", ""))
    head = content[len(mark) : max_bytes]
    if not encoding and len(head.translate(None, _NEVER)) < len(head):
        return None
    if not encoding or encoding == "utf-8":
        encoding, text, read = _bytewise(head, final=len(mark) + len(head) >= len(content))
    else:
        text, read = _wide(head, encoding)
    return FileText(mark=mark, encoding=encoding, text=text, rest=content[len(mark) + read :])


def _bytewise(head: bytes, *, final: bool) -> tuple[str, str, int]:
    """The encoding, the text, and of how many bytes it is. A letter may be cut if this is not the end of the file."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(head, final)
    except UnicodeDecodeError:
        return "latin-1", head.decode("latin-1"), len(head)
    unread, _ = decoder.getstate()
    return "utf-8", text, len(head) - len(unread)


def _wide(head: bytes, encoding: str) -> tuple[str, int]:
    """The text, and of how many bytes it is: as far as there are letters. The last one may be cut."""
    decoder = codecs.getincrementaldecoder(encoding)(_errors(encoding))
    try:
        text = decoder.decode(head)
    except UnicodeDecodeError as error:  # there are numbers in UTF-32 that are no letter's
        head = head[: error.start]
        text = decoder.decode(head)
    unread, _ = decoder.getstate()
    return text, len(head) - len(unread)


def _errors(encoding: str) -> str:
    """Programs leave half a surrogate pair where they cut a text, and read on behind one."""
    return "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "strict"
