"""Files that came with messages, read in the workspace where they lie by now. Everything here blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from skill_actors.errors import Refused
from skill_actors.files.content import open_file
from skilld.monitor.inspection.file_text import MAX_FILE_BYTES, MAX_MESSAGE_BYTES, text_of
from skilld_monitor.scanning import Direction

__all__ = ["texts_in"]


def texts_in(workspace: Path, names: Sequence[Any]) -> Iterator[tuple[Direction, str]]:
    """The texts of those that are text, within the bounds. One that is gone, or no file any more, is left out."""
    left = MAX_MESSAGE_BYTES
    for name in names:
        most = min(left, MAX_FILE_BYTES)
        content = _content(workspace, name, most + 1) if isinstance(name, str) else b""
        found = text_of(content, most)
        if found is not None:
            left = max(0, left - len(content) + len(found.rest))  # its mark may be more than what was left
            yield "input", found.text


def _content(workspace: Path, name: str, max_bytes: int) -> bytes:
    try:
        with open_file(workspace, name) as file:
            return file.read_at(0, max_bytes)
    except (Refused, OSError):
        return b""
