"""YAML in which every scalar is text, read from libyaml's event stream.

Working on events keeps three promises that a constructor cannot: nothing is resolved (`1.10`, `true` and dates stay
what the author wrote), nothing but text, lists and mappings can come out, and a hostile document is refused at the
event that makes it hostile, before anything is built or expanded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

__all__ = ["TextMapping", "YamlRefused", "parse_mapping"]

MAX_DEPTH: Final = 32
MAX_NODES: Final = 32_768

_LOADER: Final[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # 50 us against 1,050 us for a usual skill

_PREFIX: Final = "tag:yaml.org,2002:"
_SCALAR_TAGS: Final = frozenset(_PREFIX + kind for kind in ("str", "null", "bool", "int", "float"))
_CORE_TAGS: Final = _SCALAR_TAGS | {_PREFIX + "seq", _PREFIX + "map"}
_TOLERATED_TAGS: Final = frozenset({"!"} | {_PREFIX + kind for kind in ("set", "omap", "pairs", "timestamp")})
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ufffe\uffff]")
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRAILING_TAB: Final = re.compile(r" *\t[ \t]*(?:\n|\Z)")

# Line breaks for this parser, plain characters in YAML 1.2: they are hidden from it behind what is no character at all.
_OLD_BREAKS: Final = "\x85\u2028\u2029"
_STAND_INS: Final = "\U000ffffe\U0010fffe\U0010ffff"
_TO_STAND_INS: Final = str.maketrans(_OLD_BREAKS, _STAND_INS)
_FROM_STAND_INS: Final = str.maketrans(_STAND_INS, _OLD_BREAKS)
_OLD_DELIMITER: Final = re.compile(f"[{_OLD_BREAKS}](?:---|\\.\\.\\.)")


class YamlRefused(Exception):
    """The text is no mapping, or uses something that a skill may not. `line` counts from 0 in the text."""

    def __init__(self, code: str, message: str, line: int | None, *, repairable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.line = line
        self.repairable = repairable  # a slip of syntax, as opposed to a construct that is refused


@dataclass(slots=True)
class TextMapping:
    """A mapping of text to text, lists and mappings.

    `lines` tells where each top-level key stands, counted from 0. `nulls` holds the top-level keys whose value
    other YAML readers take as null. `duplicates` holds (key, line) of every repeated key; the last value holds.
    `odd_tags` holds (tag, line) of every tag that is harmless, but no core tag of YAML or not that of its value; it
    is passed over. `tabs` holds the lines of values with a tab before, inside or behind them, outside of quotes.
    `anchors` holds the lines of values with an anchor. `cut` holds the lines of values longer than asked for.
    """

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    nulls: set[str] = field(default_factory=set)
    duplicates: list[tuple[str, int]] = field(default_factory=list)
    odd_tags: list[tuple[str, int]] = field(default_factory=list)
    tabs: list[int] = field(default_factory=list)
    anchors: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)


def parse_mapping(text: str, *, max_nodes: int = MAX_NODES, max_value_chars: int | None = None) -> TextMapping:
    """Read one document whose root is a mapping.

    Args:
        text: the document.
        max_nodes: how many values, keys, lists and mappings it may hold.
        max_value_chars: longer values are cut to this.

    Raises:
        YamlRefused: with code `yaml_syntax`, `yaml_not_mapping`, `yaml_alias`, `yaml_tag`, `yaml_merge_key`,
            `yaml_key`, `yaml_too_deep` or `yaml_too_many`.

    """
    between = _OLD_DELIMITER.search(text)
    if between is not None:
        message = "a line of dashes or dots between line ends that not all readers know"
        raise YamlRefused("yaml_syntax", message, text.count("\n", 0, between.start()))
    try:
        return _Builder(text, max_nodes, max_value_chars).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line if mark is not None else None
        raise YamlRefused("yaml_syntax", error.problem or "malformed YAML", line, repairable=True) from None
    except yaml.YAMLError as error:
        found = _UNPRINTABLE.search(text)
        line = None if found is None else text.count("\n", 0, found.start())
        raise YamlRefused("yaml_syntax", str(error).partition("\n")[0], line) from None


class _Builder:
    def __init__(self, text: str, max_nodes: int, max_value_chars: int | None) -> None:
        self._is_translated = any(character in text for character in _OLD_BREAKS)
        if self._is_translated:
            text = text.translate(_TO_STAND_INS)
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._text = text if "\t" in text else ""
        self._max_nodes = max_nodes
        self._max_value_chars = max_value_chars
        self._nodes = 0
        self._result = TextMapping()

    def document(self) -> TextMapping:
        next(self._events)  # the start of the stream
        event = next(self._events)
        if not isinstance(event, yaml.DocumentStartEvent):
            raise YamlRefused("yaml_not_mapping", "the front matter is empty", None)
        root = next(self._events)
        if not isinstance(root, yaml.MappingStartEvent):
            raise YamlRefused("yaml_not_mapping", "the front matter must be a mapping of keys to values", _line(root))
        self._result.values = self._mapping(root, 1)
        next(self._events)  # the end of the document
        extra = next(self._events)
        if not isinstance(extra, yaml.StreamEndEvent):
            raise YamlRefused("yaml_not_mapping", "the front matter must be a single YAML document", _line(extra))
        return self._result

    def _node(self, event: yaml.Event, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > self._max_nodes:
            raise YamlRefused("yaml_too_many", f"more than {self._max_nodes} keys and values", _line(event))
        if isinstance(event, yaml.AliasEvent):
            raise YamlRefused("yaml_alias", f"aliases are not accepted: *{event.anchor}", _line(event))
        if getattr(event, "anchor", None) is not None:
            self._result.anchors.append(_line(event))
        if isinstance(event, yaml.ScalarEvent):
            self._check_tag(event, _SCALAR_TAGS)
            return self._scalar(event)
        if depth >= MAX_DEPTH:
            raise YamlRefused("yaml_too_deep", f"nested deeper than {MAX_DEPTH} levels", _line(event))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, depth + 1)
        return self._sequence(event, depth + 1)

    def _scalar(self, event: yaml.ScalarEvent) -> str:
        text: str = event.value.translate(_FROM_STAND_INS) if self._is_translated else event.value
        if self._text and self._has_tab(event):
            self._result.tabs.append(_line(event))
        if self._max_value_chars is not None and len(text) > self._max_value_chars:
            self._result.cut.append(_line(event))
            return text[: self._max_value_chars]
        return text

    def _has_tab(self, event: yaml.ScalarEvent) -> bool:
        start, end = event.start_mark, event.end_mark
        if start is None or end is None:
            return False
        if self._text[max(start.index - 1, 0) : start.index] == "\t":
            return True
        if event.style:
            return False
        return "\t" in self._text[start.index : end.index] or bool(_TRAILING_TAB.match(self._text, end.index))

    def _check_tag(self, event: yaml.Event, fitting: Collection[str]) -> None:
        tag = getattr(event, "tag", None)
        if tag is None or tag in fitting:
            return
        if tag not in _CORE_TAGS and tag not in _TOLERATED_TAGS:
            raise YamlRefused("yaml_tag", f"tag {_tag_name(event)} is not accepted", _line(event))
        self._result.odd_tags.append((_tag_name(event), _line(event)))

    def _sequence(self, start: yaml.Event, depth: int) -> list[Any]:
        self._check_tag(start, (_PREFIX + "seq",))
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth))
        return items

    def _mapping(self, start: yaml.Event, depth: int) -> dict[str, Any]:
        self._check_tag(start, (_PREFIX + "map",))
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, depth)
            value_event = next(self._events)
            if key in values:
                self._result.duplicates.append((key, _line(event)))
            values[key] = self._node(value_event, depth)
            if depth == 1:
                self._note(key, event, value_event)
        return values

    def _key(self, event: yaml.Event, depth: int) -> str:
        if isinstance(event, yaml.CollectionStartEvent):
            raise YamlRefused("yaml_key", "a key must be text, not a list or a mapping", _line(event))
        key = self._node(event, depth)
        assert isinstance(key, str)
        if key == "<<" and _is_plain(event):
            raise YamlRefused("yaml_merge_key", "merge keys (<<) are not accepted", _line(event))
        return key

    def _note(self, key: str, event: yaml.Event, value: yaml.Event) -> None:
        self._result.lines[key] = _line(event)
        if isinstance(value, yaml.ScalarEvent) and _is_null(value):
            self._result.nulls.add(key)
        else:
            self._result.nulls.discard(key)


def _is_plain(event: yaml.Event) -> bool:
    return not getattr(event, "style", None) and getattr(event, "tag", None) is None


def _is_null(event: yaml.ScalarEvent) -> bool:
    return (_is_plain(event) and event.value in _NULLS) or event.tag == _PREFIX + "null"


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return mark.line if mark is not None else 0


def _tag_name(event: yaml.Event) -> str:
    return str(getattr(event, "tag", "")).replace(_PREFIX, "!!")[:100]
