"""What a server answers to a call, made into what the model reads. Pure but for base64, and bounded by the message."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from skill_actors.backends.base import Image, ToolResult
from skill_actors.backends.images import recognise, why_not

__all__ = ["read_result"]

_MAX_IMAGES: Final = 10  # of one answer
_MAX_BLOCKS: Final = 1_000


def read_result(answer: Mapping[str, Any]) -> ToolResult:
    """The answer as text and pictures.

    Args:
        answer: `content`, and perhaps `structuredContent` and `isError`, as the protocol has them.

    """
    texts: list[str] = []
    images: list[Image] = []
    blocks: Sequence[Any] = answer.get("content") or ()
    for block in blocks[:_MAX_BLOCKS]:
        text, image = _read(block if isinstance(block, Mapping) else {})
        if image is not None and len(images) >= _MAX_IMAGES:
            text, image = f"[a picture that is left out: more than {_MAX_IMAGES}]", None
        if image is not None:
            images.append(image)
        if text:
            texts.append(text)
    if len(blocks) > _MAX_BLOCKS:
        texts.append(f"[{len(blocks) - _MAX_BLOCKS} further parts are left out]")
    structured = answer.get("structuredContent")
    if structured is not None and not _says_the_same(texts, structured):
        texts.append(json.dumps(structured, ensure_ascii=False, indent=1))
    outcome: Any = "error" if answer.get("isError") else "ok"
    shown = "\n".join(texts) or (f"[{len(images)} pictures]" if images else "")
    return ToolResult(content=shown, outcome=outcome, images=images)


def _read(block: Mapping[str, Any]) -> tuple[str, Image | None]:
    match block.get("type"):
        case "text":
            return str(block.get("text", "")), None
        case "image":
            return _picture(str(block.get("data", "")))
        case "audio":
            return f"[a sound, {str(block.get('mimeType', ''))[:60]}, that cannot be played here]", None
        case "resource":
            return _resource(block.get("resource") or {})
        case "resource_link":
            described = str(block.get("description") or "")[:500]
            named = f"{str(block.get('name', ''))[:200]} at {str(block.get('uri', ''))[:1000]}"
            return f"[a resource: {named}{': ' if described else ''}{described}]", None
        case other:
            return f"[a part of the kind {str(other)[:60]!r}, which is not known here]", None


def _picture(data: str) -> tuple[str, Image | None]:
    try:
        raw = base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        return "[a picture that is no base64, and not shown]", None
    found = recognise(raw)
    if found is None:
        return f"[a picture of {len(raw)} bytes, of a kind that cannot be shown]", None
    kind, sides = found
    wrong = why_not(raw, kind, sides)
    if wrong is not None:
        return f"[a picture, {kind}, {len(raw)} bytes: {wrong}]", None
    return "", Image(media_type=kind, data=raw)


def _resource(resource: Mapping[str, Any]) -> tuple[str, Image | None]:
    head = f"[the resource {str(resource.get('uri', ''))[:1000]}]"
    if "text" in resource:
        return f"{head}\n{resource['text']}", None
    _text, image = _picture(str(resource.get("blob", "")))
    if image is not None:
        return head, image
    size = len(str(resource.get("blob", ""))) * 3 // 4
    return f"{head[:-1]}: {size} bytes that are no text and cannot be shown]", None


def _says_the_same(texts: Sequence[str], structured: Any) -> bool:
    """Whether one of the texts is the structured answer, which servers send twice for clients that know one form."""
    for text in texts:
        try:
            if json.loads(text) == structured:
                return True
        except (ValueError, RecursionError):
            continue
    return False
