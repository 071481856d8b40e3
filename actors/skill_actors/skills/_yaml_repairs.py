"""Front matters spelled again, where authors commonly slip: the text stays what it was meant to be.

No line moves: what is reported about the new text is true of the old.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["QUOTING", "RESPELLING", "Repair"]

# The repair by other spelling: what is legal YAML, and refused by many readers.

_SURROGATES: Final = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_LONE_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def respelled(header: str) -> str:
    """The same front matter without blanks at line ends, with escaped surrogate pairs joined and halves replaced."""
    header = "\n".join(line.rstrip(" \t") for line in header.split("\n"))
    return _LONE_SURROGATE.sub(r"\\uFFFD", _SURROGATES.sub(_joined, header))


def _joined(pair: re.Match[str]) -> str:
    high, low = (int(half, 16) for half in pair.groups())
    return f"\\U{0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00:08x}"


# The repair by quotes. A key whose value begins on its line owns the more indented lines below it: they can only be the
# rest of that value. So the value can be taken as the text it was meant to be.

_KEYED: Final = re.compile(r"(?P<indent> *)(?P<key>\w[\w.-]*):[ \t]+(?P<value>[^\s#].*)")
_BLOCK_SCALAR: Final = re.compile(r"[|>][-+0-9]{0,2}\s*(?:#.*)?")
_COMMENT: Final = re.compile(r"(?:^|[ \t])#.*")
# With nothing behind the backslash if YAML knows no such escape.
_ESCAPE: Final = re.compile(r'\\([0abtnvfre "/\\N_LP]|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|$)?')
_CLOSED_QUOTES: Final = re.compile(
    r"""(?:"(?:[^"\\]|\\[\s\S])*"|'(?:[^']|'')*')"""  # and behind them nothing but comments
    r"[ \t]*(?:(?<=[ \t])#.*)?(?:\n[ \t]*(?:#.*)?)*"
)
_BRACKETS: Final = {"[": "]", "{": "}"}


def quote_values(header: str) -> str:
    """The same front matter with every plain value in double quotes, and tabs in the indentation made spaces."""
    lines = [_untab(line) for line in respelled(header).split("\n")]
    return "\n".join(_quoted_lines(lines))


def _known_escape(match: re.Match[str]) -> str:
    return match[0] if match[1] is not None else "\\\\"  # a Windows path, most often


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
        if match is not None and match["value"][0] == '"' and _reads_well(match["value"], block):
            yield from (_ESCAPE.sub(_known_escape, line) for line in block)
        elif match is None or _reads_well(match["value"], block):
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
    if value[0] in "\"'":
        return _CLOSED_QUOTES.fullmatch("\n".join([value, *block[1:]])) is not None
    closing = _BRACKETS.get(value[0])
    if closing is None:
        return False
    last = block[-1].rstrip()
    return last.endswith(closing) or _COMMENT.sub("", last).rstrip().endswith(closing)


def _quote(value: str) -> str:
    if value[0] in "\"'" and value.count(value[0]) == 1:
        value = value[1:]  # opened and never closed
    elif value[0] not in "\"'[{":
        value = _COMMENT.sub("", value).rstrip()
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'"{escaped}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A way to read a front matter that the parser refused, and how it is told."""

    respell: Callable[[str], str]
    judgement: str
    change: str
    remedy: str


RESPELLING: Final = Repair(
    respell=respelled,
    judgement="YAML that many readers refuse",
    change="the ends of its lines trimmed and half characters replaced",
    remedy="Remove blanks and tabs at line ends, and \\u escapes of half a character.",
)
QUOTING: Final = Repair(
    respell=quote_values,
    judgement="malformed YAML",
    change="its values quoted",
    remedy="Put the value in quotes.",
)
