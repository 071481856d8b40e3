"""The specification's rules for a front matter, applied strictly: every finding here is an error.

Where the text is silent the reference validator decides (`null` is text, a name may be in any script); where the
text is stricter than that validator, the text does (types of `license`, `metadata` and `allowed-tools`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from skill_actors.skills.base import Diagnostic
from skill_actors.skills.fields import (
    KNOWN_FIELDS,
    MAX_COMPATIBILITY_CHARS,
    MAX_DESCRIPTION_CHARS,
    counted_chars,
    has_comma_between_tools,
)
from skill_actors.skills.front_matter import FrontMatter
from skill_actors.skills.names import name_faults, normal_name

__all__ = ["api_errors", "field_errors"]

_ALWAYS_ERRORS: Final = frozenset({"duplicate_key", "yaml_anchor", "yaml_tag"})
_RESERVED_WORDS: Final = ("anthropic", "claude")
_XML_TAG: Final = re.compile(r"</?[A-Za-z][^<>]*>")


def field_errors(front: FrontMatter, folder: str) -> Iterator[Diagnostic]:
    """What the specification does not allow in the front matter of a skill whose folder has this name."""
    for found in front.diagnostics:
        if found.code in _ALWAYS_ERRORS:
            yield Diagnostic(
                code=found.code, message=found.message, severity="error", line=found.line, remedy=found.remedy
            )
    for key in front.values:
        if key not in KNOWN_FIELDS:
            message = f"field {key[:64]!a} is not part of the specification"
            yield _error(front, key, "unknown_field", message, "Move it into metadata.")
    yield from _name(front, folder)
    yield from _description(front)
    yield from _license(front)
    yield from _compatibility(front)
    yield from _metadata(front)
    yield from _allowed_tools(front)


def api_errors(front: FrontMatter) -> Iterator[Diagnostic]:
    """What the hosted Skills API refuses besides: reserved words and other scripts in the name, XML tags."""
    name = front.values.get("name")
    if isinstance(name, str):
        for word in _RESERVED_WORDS:
            if word in normal_name(name).lower():
                message = f"the Skills API does not take the word {word!r} in a name"
                yield _error(front, "name", "name_reserved", message, "Choose another name.")
        if not name.isascii():
            message = "the Skills API takes only a-z, 0-9 and hyphens in a name"
            yield _error(front, "name", "name_not_ascii", message, "Use a-z, 0-9 and hyphens.")
    for key in ("name", "description"):
        value = front.values.get(key)
        if isinstance(value, str) and _XML_TAG.search(value):
            yield _error(front, key, "xml_tag", f"the Skills API takes no XML tags in {key}", "Write it without tags.")


def _error(front: FrontMatter, key: str, code: str, message: str, remedy: str) -> Diagnostic:
    return Diagnostic(code=code, message=message, severity="error", line=front.lines.get(key), remedy=remedy)


def _name(front: FrontMatter, folder: str) -> Iterator[Diagnostic]:
    value = front.values.get("name")
    if not isinstance(value, str) or not value.strip():
        message = "the skill has no name" if value is None else "name must be text that is not empty"
        yield _error(front, "name", "name_missing", message, f"Add name: {ascii(folder)[1:-1]}")
        return
    for fault in name_faults(normal_name(value.strip()), folder):
        yield _error(front, "name", *fault)


def _description(front: FrontMatter) -> Iterator[Diagnostic]:
    value = front.values.get("description")
    remedy = "Say what the skill does and when to use it: description: ..."
    if value is None:
        yield _error(front, "description", "description_missing", "the skill has no description", remedy)
    elif not isinstance(value, str):
        yield _error(front, "description", "description_not_text", "description must be text", remedy)
    elif not value.strip():
        yield _error(front, "description", "description_missing", "the description is blank", remedy)
    elif (length := counted_chars(value)) > MAX_DESCRIPTION_CHARS:
        message = f"the description has {length} characters; {MAX_DESCRIPTION_CHARS} are allowed"
        yield _error(front, "description", "description_too_long", message, "Shorten it.")


def _license(front: FrontMatter) -> Iterator[Diagnostic]:
    if not isinstance(front.values.get("license", ""), str):
        yield _error(front, "license", "not_text", "license must be text", "Write it on one line.")


def _compatibility(front: FrontMatter) -> Iterator[Diagnostic]:
    key = "compatibility"
    if key not in front.values:
        return
    value = front.values[key]
    if not isinstance(value, str):
        yield _error(front, key, "not_text", "compatibility must be text", "Write it on one line.")
    elif not counted_chars(value):
        yield _error(front, key, "compatibility_empty", "compatibility is empty", "Leave it out.")
    elif (length := counted_chars(value)) > MAX_COMPATIBILITY_CHARS:
        message = f"compatibility has {length} characters; {MAX_COMPATIBILITY_CHARS} are allowed"
        yield _error(front, key, "compatibility_too_long", message, "Shorten it.")


def _metadata(front: FrontMatter) -> Iterator[Diagnostic]:
    key = "metadata"
    value = front.values.get(key)
    if value is None or key in front.nulls:
        return
    if not isinstance(value, dict):
        yield _error(front, key, "metadata_not_map", "metadata must map keys to values", "Write key: value.")
        return
    nested = sorted(inner for inner, item in value.items() if not isinstance(item, str))
    if nested:
        message = f"metadata holds values that are no text: {', '.join(map(ascii, nested))[:200]}"
        yield _error(front, key, "metadata_nested", message, "Use text only.")


def _allowed_tools(front: FrontMatter) -> Iterator[Diagnostic]:
    key = "allowed-tools"
    value = front.values.get(key, "")
    if isinstance(value, list):
        yield _error(front, key, "tools_list", "allowed-tools must be one text, not a list", "Write: Read Write")
    elif not isinstance(value, str):
        yield _error(front, key, "not_text", "allowed-tools must be text", "Write: Read Write")
    elif has_comma_between_tools(value):
        message = "allowed-tools must be separated by spaces, not by commas"
        yield _error(front, key, "tools_commas", message, "Write: Read Write")
