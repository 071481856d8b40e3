"""The files of the pages: read once, from the package, so that no request names a path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["INDEX", "Asset", "load_assets"]

INDEX: Final = "index.html"

_FOLDER: Final = Path(__file__).with_name("static")
_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file, as it is sent."""

    content: bytes
    media_type: str


def load_assets() -> Mapping[str, Asset]:
    """Every file of the pages, by its name. Raises OSError if one cannot be read."""
    return {
        path.name: Asset(content=path.read_bytes(), media_type=_TYPES[path.suffix])
        for path in sorted(_FOLDER.iterdir())
        if path.suffix in _TYPES
    }
