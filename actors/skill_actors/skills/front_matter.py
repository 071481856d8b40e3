"""The front matter of a SKILL.md: found by lines, read as text, repaired where authors commonly slip.

Lines end at `\\n` only (after a BOM is dropped and CRLF folded): other separators may stand inside values, and a
`---` inside a value or in the body is not a delimiter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from skill_actors.skills._text_yaml import TextMapping, YamlRefused, parse_mapping
from skill_actors.skills.base import Diagnostic

__all__ = ["MAX_FRONT_MATTER_BYTES", "FrontMatter", "FrontMatterError", "read_front_matter"]

MAX_FRONT_MATTER_BYTES: Final = 64 * 1024


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
    """Read a SKILL.md.

    Raises:
        FrontMatterError: if the text is not UTF-8, has no closed front matter of at most 64 KiB, or its YAML is
            malformed beyond repair or uses aliases, merge keys, foreign tags or deep nesting.

    """
    header, body = _split(_decode(data))
    found: list[Diagnostic] = []
    mapping = _parse(header, found)
    found += (_duplicate(key, line) for key, line in mapping.duplicates)
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


def _duplicate(key: str, line: int) -> Diagnostic:
    message = f"key {key[:64]!r} stands more than once; the last one holds"
    return Diagnostic(code="duplicate_key", message=message, line=_in_file(line), remedy="Keep one of them.")


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte {error.start} is not UTF-8 ({error.reason})"
        raise _error("not_utf8", message, "Save the file as UTF-8.", line) from None
    return text.replace("\r\n", "\n")


def _split(text: str) -> tuple[str, str]:
    lines = text.split("\n")
    if lines[0].rstrip(" \t") != "---":
        message = "the first line must be exactly ---"
        raise _error("no_front_matter", message, "Begin the file with --- and close the front matter with ---.", 1)
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip(" \t") == "---":
            header = "\n".join(lines[1:number])
            _check_size(header)
            return header, "\n".join(lines[number + 1 :])
    remedy = "Put a line --- below the last key, at the very start of the line."
    raise _error("front_matter_open", "the front matter is never closed", remedy, 1)


def _check_size(header: str) -> None:
    size = len(header.encode())
    if size > MAX_FRONT_MATTER_BYTES:
        message = f"the front matter has {size} bytes; {MAX_FRONT_MATTER_BYTES} are allowed"
        raise _error("front_matter_too_large", message, "Move text into the body or into references/.")


def _parse(header: str, found: list[Diagnostic]) -> TextMapping:
    try:
        return parse_mapping(header)
    except YamlRefused as refusal:
        repaired = _repaired(header) if refusal.repairable else None
        if repaired is None:
            raise _refused(refusal) from None
        found.append(_repair_note(refusal))
        return repaired


def _refused(refusal: YamlRefused) -> FrontMatterError:
    line = None if refusal.line is None else _in_file(refusal.line)
    remedy = "Quote the value." if refusal.repairable else "Write plain keys and values."
    return _error(refusal.code, refusal.message, remedy, line)


def _repair_note(refusal: YamlRefused) -> Diagnostic:
    message = f"malformed YAML ({refusal.message}); read again with its values quoted"
    line = None if refusal.line is None else _in_file(refusal.line)
    return Diagnostic(code="yaml_repaired", message=message, line=line, remedy="Put the value in quotes.")


def _repaired(header: str) -> TextMapping | None:
    try:
        return parse_mapping(quote_values(header))
    except YamlRefused:
        return None


# The repair. A key whose value begins on its line owns the more indented lines below it: they can only be the rest
# of that value. So the value can be taken as the text it was meant to be.

_KEYED: Final = re.compile(r"(?P<indent> *)(?P<key>\w[\w.-]*):[ \t]+(?P<value>[^\s#].*)")
_BLOCK_SCALAR: Final = re.compile(r"[|>][-+0-9]{0,2}\s*(?:#.*)?")
_COMMENT: Final = re.compile(r"(?:^|[ \t])#.*")
_LONE_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_CLOSING: Final = {'"': '"', "'": "'", "[": "]", "{": "}"}


def quote_values(header: str) -> str:
    """The same front matter with every plain value in double quotes, and tabs in the indentation made spaces."""
    lines = [_LONE_SURROGATE.sub(r"\\uFFFD", _untab(line.rstrip(" \t"))) for line in header.split("\n")]
    return "\n".join(_quoted_lines(lines))


def _untab(line: str) -> str:
    text = line.lstrip(" \t")
    return line[: len(line) - len(text)].replace("\t", "  ") + text


def _quoted_lines(lines: list[str]) -> Iterator[str]:
    position = 0
    while position < len(lines):
        match = _KEYED.fullmatch(lines[position])
        end = position + 1
        if match is not None:
            end = _end_of_value(lines, end, len(match["indent"]))
        block = lines[position:end]
        position = end
        if match is None or _reads_well(match["value"], block):
            yield from block
        else:
            value = " ".join([match["value"], *(line.strip() for line in block[1:])]).strip()
            yield f"{match['indent']}{match['key']}: {_quote(value)}"
            yield from [""] * (len(block) - 1)  # so that later lines keep their numbers


def _end_of_value(lines: list[str], start: int, indent: int) -> int:
    end = start
    for number in range(start, len(lines)):
        line = lines[number]
        if line and len(line) - len(line.lstrip(" ")) <= indent:
            break
        if line:
            end = number + 1
    return end


def _reads_well(value: str, block: list[str]) -> bool:
    """Whether the value is a block scalar, or closes what it opens (a quote, a bracket): then it stays as it is."""
    if _BLOCK_SCALAR.fullmatch(value):
        return True
    closing = _CLOSING.get(value[0])
    if closing is None or (len(block) == 1 and len(value) == 1):
        return False
    last = block[-1].rstrip()
    return last.endswith(closing) or _COMMENT.sub("", last).rstrip().endswith(closing)


def _quote(value: str) -> str:
    if value[0] in "\"'" and value.count(value[0]) == 1:
        value = value[1:]  # opened and never closed
    elif value[0] not in _CLOSING:
        value = _COMMENT.sub("", value).rstrip()
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'"{escaped}"'
