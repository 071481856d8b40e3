"""NAME=URI|@FILE: something that tools may use under a name, as `send --artifact` takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from skilld.cli.failure import EXIT, Failure
from skilld.cli.sent_file import content_of

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
        return content_of(file, _MAX_BYTES, "--artifact").decode("utf-8")
    except UnicodeDecodeError as error:
        raise Failure(
            f"--artifact: {file} is not UTF-8 at byte {error.start}; send it with --file", EXIT.USAGE
        ) from error
