"""A file of this host that goes along with a message."""

from __future__ import annotations

from pathlib import Path

from skilld.cli.failure import EXIT, Failure

__all__ = ["content_of"]


def content_of(path: Path, most_bytes: int, option: str) -> bytes:
    """What it holds. Raises Failure, with the option that named it, if it cannot be read or holds more."""
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise Failure(f"{option}: {path}: {error.strerror}", EXIT.USAGE) from error
    if len(content) > most_bytes:
        way = "put it into the workspace with 'skillctl files put', and name it"
        raise Failure(f"{option}: {path} holds more than {most_bytes} bytes; {way}", EXIT.USAGE)
    return content
