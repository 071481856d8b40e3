"""Files of a message that the model is shown as they are: pictures and PDF documents. Pure.

They are recognised by what they hold, never by their name, and shown only if they are known to be such as the API
takes: what it refuses, it would refuse with every later request of the conversation. All other files are only named.
"""

from __future__ import annotations

import binascii
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final

from skill_actors.backends.images import recognise, why_not
from skill_actors.models.base import Block
from skill_actors.sessions.shown_images import document_block, image_block

__all__ = ["MAX_PDF_BYTES", "MAX_PDF_PAGES", "MAX_SHOWN", "file_blocks", "is_document", "pdf_pages", "shown_files"]

MAX_SHOWN: Final = 20  # files of one message
MAX_PDF_BYTES: Final = 6 << 20
MAX_PDF_PAGES: Final = 100
_PDF: Final = "application/pdf"
_MAX_UNPACKED: Final = 16 << 20  # bytes of a document's packed objects
_MAX_PACKED: Final = 500
_MAX_NODES: Final = 2 * MAX_PDF_PAGES  # of the tree of pages: a document with more has too many pages, or is a trap
_HEAD: Final = 1024  # bytes at either end of a document
_PAGES: Final = re.compile(rb"/Type\s*/Pages\b")
_PAGE: Final = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_COUNT: Final = re.compile(rb"/Count\s+(\d{1,7})")
_AROUND: Final = 512  # bytes on either side of /Type /Pages in which its /Count is looked for
_PACKED: Final = re.compile(rb"/Type\s*/ObjStm\b[^>]{0,400}>>\s{0,9}stream\r?\n")


def shown_files(files: Sequence[tuple[str, bytes]]) -> dict[str, list[dict[str, str]]]:
    """Fields of a turn.queued event for those that the model is to see. Takes its time: call it in a worker thread.

    Returns:
        `images` and `documents`, each a list of {"name", "media_type", "base64"}; a field without any is absent.

    """
    shown: dict[str, list[dict[str, str]]] = {}
    for name, data in files:
        media_type = _kind_of(data)
        if media_type is None or sum(map(len, shown.values())) == MAX_SHOWN:
            continue
        field = "documents" if media_type == _PDF else "images"
        told = {"name": name, "media_type": media_type, "base64": b64encode(data).decode()}
        shown.setdefault(field, []).append(told)
    return shown


def file_blocks(data: Mapping[str, Any]) -> list[Block]:
    """What a message with these fields shows, in the model's shapes; each has its name before it, or with it."""
    blocks: list[Block] = []
    for image in data.get("images", ()):
        blocks.append({"type": "text", "text": f"[{image['name']}:]"})
        blocks.append(image_block(str(image["media_type"]), str(image["base64"])))
    for document in data.get("documents", ()):
        blocks.append(document_block(str(document["name"]), str(document["base64"])))
    return blocks


def is_document(value: object) -> bool:
    """Whether this is a document as events hold them, which the API takes."""
    if not isinstance(value, dict) or value.get("media_type") != _PDF or not isinstance(value.get("base64"), str):
        return False
    try:
        data = b64decode(value["base64"], validate=True)
    except (binascii.Error, ValueError):
        return False
    return _kind_of(data) == _PDF


def pdf_pages(data: bytes) -> int | None:
    """How many pages a PDF document has; None where that cannot be told. Of many it is told that they are many."""
    most = 0
    for part in chain((data,), _unpacked(data)):
        most = max(most, sum(1 for _ in islice(_PAGE.finditer(part), _MAX_NODES)))
        nodes = list(islice(_PAGES.finditer(part), _MAX_NODES))
        most = max(most, len(nodes))  # each has a page at least
        for found in nodes:
            around = part[max(0, found.start() - _AROUND) : found.end() + _AROUND]
            most = max([most, *map(int, _COUNT.findall(around))])
        if most > MAX_PDF_PAGES:
            break
    return most or None


def _kind_of(data: bytes) -> str | None:
    """The media type of what can be shown; None for all else."""
    found = recognise(data)
    if found is not None:
        return found[0] if why_not(data, *found) is None else None
    return _PDF if _is_good_pdf(data) else None


def _is_good_pdf(data: bytes) -> bool:
    if not data.startswith(b"%PDF-") or len(data) > MAX_PDF_BYTES:
        return False
    if b"%%EOF" not in data[-_HEAD:] or b"/Encrypt" in data:
        return False
    return 0 < (pdf_pages(data) or 0) <= MAX_PDF_PAGES


def _unpacked(data: bytes) -> Iterator[bytes]:
    """Objects that a document has packed together."""
    room = _MAX_UNPACKED
    for found in islice(_PACKED.finditer(data), _MAX_PACKED):
        end = data.find(b"endstream", found.end())
        if end < 0:
            return
        try:
            part = zlib.decompressobj().decompress(data[found.end() : end], room)
        except zlib.error:
            continue
        yield part
        room -= len(part)
        if room <= 0:
            return
