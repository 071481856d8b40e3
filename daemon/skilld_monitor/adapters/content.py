"""What was said, as SDKs and programs pass it: mappings, lists and objects of the SDK in each other, and files in them.

Text stays text. A picture or a document in base64 is kept while it is short, else it is said what it was and how long:
cut in the middle it would be of no use, and whole it would leave no room for the text.
"""

from __future__ import annotations

from itertools import islice

from skilld_monitor.values import MAX_ITEMS, MAX_TEXT_CHARS, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MAX_FILE_CHARS", "as_values", "content"]

MAX_FILE_CHARS = MAX_TEXT_CHARS
_MAX_DEPTH = 8  # a list of messages, a message, its blocks, a block, a tool's result, its blocks, a source
_PAYLOADS = ("data", "file_data", "b64_json", "image_url", "url")
_BASE64_START = 64


def content(value: object) -> object:
    """What was said, as plain values. Never raises."""
    return plain(as_values(value))


def as_values(value: object) -> object:
    """Objects of SDKs as the mappings that they stand for, wherever they are in it; files in base64 by what they are.

    Nothing that can be read only once, such as a generator, is touched.
    """
    return _values(value, _MAX_DEPTH)


def _values(value: object, depth: int) -> object:
    if type(value) is str or depth <= 0:
        return value
    try:
        return _opened(value, depth)
    except Exception as error:  # somebody's class
        return f"<{type(value).__name__}, unreadable: {type(error).__name__}>"


def _opened(value: object, depth: int) -> object:
    if isinstance(value, dict):
        return {name: _member(name, item, value, depth) for name, item in list(islice(value.items(), MAX_ITEMS + 1))}
    if isinstance(value, (list, tuple)):
        if len(value) > MAX_ITEMS:
            return [_values(item, depth - 1) for item in value[:MAX_ITEMS]] + [f"... {len(value) - MAX_ITEMS} more"]
        return [_values(item, depth - 1) for item in value]
    dumped = _dumped(value)
    return value if dumped is None else _values(dumped, depth)


def _dumped(value: Any) -> dict[str, object] | None:
    """A pydantic object as a mapping; None of anything else. It says nothing on the program's stderr."""
    if not hasattr(type(value), "model_dump"):
        return None
    try:
        found = value.model_dump(exclude_none=True, warnings=False)
    except TypeError:
        found = value.model_dump(exclude_none=True)
    return found if isinstance(found, dict) else None


def _member(name: object, item: object, around: dict[Any, object], depth: int) -> object:
    if isinstance(item, str):
        if len(item) > MAX_FILE_CHARS and name in _PAYLOADS and _is_file(item, around):
            return _described(item, around)
        return item
    return _values(item, depth - 1)


def _is_file(text: str, around: dict[Any, object]) -> bool:
    if text.startswith("data:"):
        return True
    if "media_type" in around or "format" in around or around.get("type") == "base64":
        return True
    start = text[:_BASE64_START]
    return all(char.isalnum() or char in "+/=-_" for char in start)


def _described(text: str, around: dict[Any, object]) -> str:
    kind = around.get("media_type") or around.get("format")
    if text.startswith("data:"):
        kind = text[5:].split(";", 1)[0].split(",", 1)[0][:64] or kind
    return f"<{str(kind)[:64] if kind else 'file'}, {len(text)} characters of base64>"
