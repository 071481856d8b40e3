"""The front matter of a SKILL.md: found by lines, read as text, repaired where authors commonly slip.

Lines end at `\\n` only (after a BOM is dropped and CRLF folded, or CR where there is no `\\n` at all): other separators
may stand inside values, and a `---` inside a value or in the body is not a delimiter.

The work is bounded by the number of keys and values, not by bytes: one value of megabytes is cut, cheaply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from skill_actors.skills._text_yaml import MAX_NODES, TextMapping, YamlRefused, parse_mapping
from skill_actors.skills._yaml_repairs import QUOTING, RESPELLING, Repair
from skill_actors.skills.base import Diagnostic

__all__ = ["FrontMatter", "FrontMatterError", "read_front_matter", "read_strictly"]

USUAL_BYTES: Final = 64 * 1024  # above it nothing is repaired, and the loader cuts values to as many characters
_MAX_STRICT_NODES: Final = 1_000_000  # the specification has no limit: this one only bounds the work
_MAX_REPORTED: Final = 20

_T = TypeVar("_T")


class FrontMatterError(Exception):
    """The front matter cannot be read; `diagnostic` says why, where and what to do."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMatter:
    """What stands above and below the closing line.

    Args:
        values: text, lists and mappings, exactly as written; no number, date or null is made of any text.
        lines: where each key stands, counted from 1 in the file.
        nulls: keys whose value other YAML readers take as null: empty, `~` or `null` without quotes.
        body: everything below the closing line, without blank lines around it.
        diagnostics: what was repaired or is doubtful.

    """

    values: Mapping[str, Any]
    lines: Mapping[str, int]
    nulls: frozenset[str]
    body: str
    diagnostics: tuple[Diagnostic, ...] = ()


def read_front_matter(data: bytes) -> FrontMatter:
    """Read a SKILL.md, repairing what authors commonly get wrong.

    Raises:
        FrontMatterError: if the text is not UTF-8, has no closed front matter, or its YAML is malformed beyond repair,
            uses aliases, merge keys, foreign tags or deep nesting, or holds more than 32,768 keys and values.

    """
    return _read(data, strict=False)


def read_strictly(data: bytes) -> FrontMatter:
    """As `read_front_matter`, but of YAML only what is legal, whole, and up to a million keys and values.

    Legal YAML that the parser does not know (blanks at the end of a line, half a surrogate pair) is read all the same.
    """
    return _read(data, strict=True)


def _read(data: bytes, *, strict: bool) -> FrontMatter:
    found: list[Diagnostic] = []
    header, body = _split(_decode(data, found))
    size = len(header.encode())
    if size > USUAL_BYTES:
        message = f"the front matter has {size} bytes; {USUAL_BYTES} are plenty"
        found.append(_doubt("front_matter_large", message, "Move text into the body or into references/."))
    if strict:
        mapping = _parse(header, _MAX_STRICT_NODES, None, (RESPELLING,), found)
    else:
        repairs = (RESPELLING, QUOTING) if size <= USUAL_BYTES else ()
        mapping = _parse(header, MAX_NODES, USUAL_BYTES, repairs, found)
    found += _doubts(mapping)
    return FrontMatter(
        values=mapping.values,
        lines={key: _in_file(line) for key, line in mapping.lines.items()},
        nulls=frozenset(mapping.nulls),
        body=body.strip("\n"),
        diagnostics=tuple(found),
    )


def _in_file(line: int) -> int:
    return line + 2  # counted from 1, below the opening line


def _error(code: str, message: str, remedy: str, line: int | None = None) -> FrontMatterError:
    return FrontMatterError(
        Diagnostic(code=code, message=f"SKILL.md: {message}", severity="error", line=line, remedy=remedy)
    )


def _doubt(code: str, message: str, remedy: str, line: int | None = None) -> Diagnostic:
    return Diagnostic(code=code, message=message, line=None if line is None else _in_file(line), remedy=remedy)


def _doubts(mapping: TextMapping) -> Iterator[Diagnostic]:
    for key, line in _first(mapping.duplicates):
        message = f"key {key[:64]!a} stands more than once; the last one holds"
        yield _doubt("duplicate_key", message, "Keep one of them.", line)
    for tag, line in _first(mapping.odd_tags):
        message = f"tag {tag} is not the core tag of its value; it is passed over"
        yield _doubt("yaml_tag", message, "Leave the tag out.", line)
    for line in _first(mapping.tabs):
        yield _doubt("yaml_tab", "a tab outside of quotes, which many readers refuse", "Write blanks.", line)
    for line in _first(mapping.anchors):
        yield _doubt(
            "yaml_anchor", "an anchor (&) has no use here; it is passed over", "Put the value in quotes.", line
        )
    for line in _first(mapping.cut):
        yield _doubt("value_cut", f"the value is longer than {USUAL_BYTES} characters; it is cut", "Shorten it.", line)


def _first(items: Sequence[_T]) -> Sequence[_T]:
    return items[:_MAX_REPORTED]  # of a kind: who wrote thousands needs no longer list


def _decode(data: bytes, found: list[Diagnostic]) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte {error.start} is not UTF-8 ({error.reason})"
        raise _error("not_utf8", message, "Save the file as UTF-8.", line) from None
    text = text.replace("\r\r\n", "\n").replace("\r\n", "\n")  # the first: converted twice
    if "\r" in text and "\n" not in text:
        found.append(_doubt("line_ends", "lines end with CR alone, which many readers refuse", "Save it with LF."))
        return text.replace("\r", "\n")
    return text


_OPENING: Final = re.compile(r"---[ \t]*(?:\n|\Z)")
_CLOSING_LINE: Final = re.compile(r"^---[ \t]*$", re.MULTILINE)


def _split(text: str) -> tuple[str, str]:
    opening = _OPENING.match(text)
    if opening is None:
        message = "the first line must be exactly ---"
        raise _error("no_front_matter", message, "Begin the file with --- and close the front matter with ---.", 1)
    closing = _CLOSING_LINE.search(text, opening.end())
    if closing is None:
        remedy = "Put a line --- below the last key, at the very start of the line."
        raise _error("front_matter_open", "the front matter is never closed", remedy, 1)
    header = text[opening.end() : max(closing.start() - 1, opening.end())]
    return header, text[closing.end() + 1 :]


def _parse(
    header: str, max_nodes: int, max_value_chars: int | None, repairs: Sequence[Repair], found: list[Diagnostic]
) -> TextMapping:
    try:
        return parse_mapping(header, max_nodes=max_nodes, max_value_chars=max_value_chars)
    except YamlRefused as refusal:
        for repair in repairs if refusal.repairable else ():
            try:
                repaired = parse_mapping(repair.respell(header), max_nodes=max_nodes, max_value_chars=max_value_chars)
            except YamlRefused:
                continue
            found.append(_repair_note(refusal, repair))
            return repaired
        raise _refused(refusal) from None


def _refused(refusal: YamlRefused) -> FrontMatterError:
    line = None if refusal.line is None else _in_file(refusal.line)
    remedy = "Quote the value." if refusal.repairable else "Write plain keys and values."
    return _error(refusal.code, refusal.message, remedy, line)


def _repair_note(refusal: YamlRefused, repair: Repair) -> Diagnostic:
    message = f"{repair.judgement} ({refusal.message}); read again with {repair.change}"
    line = None if refusal.line is None else _in_file(refusal.line)
    return Diagnostic(code="yaml_repaired", message=message, line=line, remedy=repair.remedy)
