"""NAME=URI|@FILE: something that tools may use under a name, as `send --artifact` takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from skilld.cli.failure import EXIT, Failure

__all__ = ["artifact_of"]

_MAX_BYTES: Final = 1 << 20  # the daemon takes no more of one


def artifact_of(text: str) -> dict[str, str]:
    """The artifact of a message: its name, and a URI or the text of a file of this host. Raises Failure."""
    name, equals, source = text.partition("=")
    if not (name and equals and source.removeprefix("@")):
        raise Failure(f"--artifact: {text[:80]!a} is not NAME=URI or NAME=@FILE", EXIT.USAGE)
    if not source.startswith("@"):
        return {"name": name, "uri": source}
    return {"name": name, "content": _content(Path(source[1:]))}


def _content(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise Failure(f"--artifact: {file}: {error.strerror}", EXIT.USAGE) from error
    if len(content) > _MAX_BYTES:
        way = "put it into the workspace with 'skillctl files put', and name it"
        raise Failure(f"--artifact: {file} holds more than {_MAX_BYTES} bytes; {way}", EXIT.USAGE)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Failure(
            f"--artifact: {file} is not UTF-8 at byte {error.start}; send it with --file", EXIT.USAGE
        ) from error
