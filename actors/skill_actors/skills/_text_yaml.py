"""YAML in which every scalar is text, read from libyaml's event stream.

Working on events keeps three promises that a constructor cannot: nothing is resolved (`1.10`, `true` and dates stay
what the author wrote), nothing but text, lists and mappings can come out, and a hostile document is refused at the
event that makes it hostile, before anything is built or expanded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

__all__ = ["TextMapping", "YamlRefused", "parse_mapping"]

MAX_DEPTH: Final = 32

_LOADER: Final[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # 50 us against 1,050 us for a usual skill

_PREFIX: Final = "tag:yaml.org,2002:"
_TAGS: Final = frozenset(
    {None, "!"}
    | {
        _PREFIX + kind
        for kind in ("str", "null", "bool", "int", "float", "seq", "map", "set", "omap", "pairs", "timestamp")
    }
)
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


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
    """

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    nulls: set[str] = field(default_factory=set)
    duplicates: list[tuple[str, int]] = field(default_factory=list)


def parse_mapping(text: str) -> TextMapping:
    """Read one document whose root is a mapping.

    Raises:
        YamlRefused: with code `yaml_syntax`, `yaml_not_mapping`, `yaml_alias`, `yaml_tag`, `yaml_merge_key`,
            `yaml_key` or `yaml_too_deep`.

    """
    try:
        return _Builder(yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line if mark is not None else None
        raise YamlRefused("yaml_syntax", error.problem or "malformed YAML", line, repairable=True) from None
    except yaml.YAMLError as error:
        raise YamlRefused("yaml_syntax", str(error).partition("\n")[0], None) from None


class _Builder:
    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
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
        if isinstance(event, yaml.AliasEvent):
            raise YamlRefused("yaml_alias", f"aliases are not accepted: *{event.anchor}", _line(event))
        if getattr(event, "tag", None) not in _TAGS:
            raise YamlRefused("yaml_tag", f"tag {_tag_name(event)} is not accepted", _line(event))
        if isinstance(event, yaml.ScalarEvent):
            return event.value
        if depth >= MAX_DEPTH:
            raise YamlRefused("yaml_too_deep", f"nested deeper than {MAX_DEPTH} levels", _line(event))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, depth + 1)
        return self._sequence(depth + 1)

    def _sequence(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth))
        return items

    def _mapping(self, start: yaml.Event, depth: int) -> dict[str, Any]:
        if getattr(start, "tag", None) not in _TAGS:
            raise YamlRefused("yaml_tag", f"tag {_tag_name(start)} is not accepted", _line(start))
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
        if isinstance(value, yaml.ScalarEvent) and _is_plain(value) and value.value in _NULLS:
            self._result.nulls.add(key)
        else:
            self._result.nulls.discard(key)


def _is_plain(event: yaml.Event) -> bool:
    return not getattr(event, "style", None) and getattr(event, "tag", None) is None


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return mark.line if mark is not None else 0


def _tag_name(event: yaml.Event) -> str:
    return str(getattr(event, "tag", "")).replace(_PREFIX, "!!")[:100]
