"""Files that come with a message, into the workspace; and the end of a workspace."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio

from skill_actors.errors import Refused
from skill_actors.ids import is_id
from skill_actors.sessions.place_folders import folders_of_session

__all__ = ["check_files", "remove_workspace", "write_files"]

_log = logging.getLogger(__name__)
_MAX_FILES: Final = 100
_TEMPORARY: Final = ".upload-"
_MAX_NAME_BYTES: Final = 200


def check_files(files: Sequence[tuple[str, bytes]]) -> None:
    """Refuse names that are not plain file names, doubles, and too many.

    Raises:
        Refused: bad_request naming the file.

    """
    if len(files) > _MAX_FILES:
        raise Refused("bad_request", f"files: {len(files)} in one message; at most {_MAX_FILES}")
    names = [name for name, _ in files]
    for name in names:
        plain = name == Path(name).name and name not in (".", "..") and name.isprintable()
        if name.startswith((".skilld", _TEMPORARY)):
            raise Refused("bad_request", f"files: {name[:80]!r}: names beginning so are the daemon's own; rename it")
        if not plain or "\\" in name or not 0 < len(name.encode("utf-8", "surrogatepass")) <= _MAX_NAME_BYTES:
            raise Refused("bad_request", f"files: {name[:80]!r} is not a plain file name of at most 200 bytes")
    if len(set(names)) != len(names):
        raise Refused("bad_request", "files: two files have the same name")


async def write_files(root: Path, files: Sequence[tuple[str, bytes]]) -> None:
    """Put the files into the folder, durably, replacing older ones of the same name whole.

    Raises:
        Refused: storage_full.

    """
    try:
        await trio.to_thread.run_sync(_write_all, root, list(files))
    except OSError as error:
        code = "storage_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "bad_request"
        name = os.path.basename(str(error.filename2 or error.filename or ""))
        raise Refused(code, f"files: {name or 'a file'} cannot be stored in the workspace: {error.strerror}") from error


def _write_all(root: Path, files: Sequence[tuple[str, bytes]]) -> None:
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, content in files:
        temporary = root / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, root / name)  # replaces a link rather than following it
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


async def remove_workspace(workspaces: Path, session: str) -> None:
    """Remove a session's files, those of all its places. Links are removed, not followed."""
    if not is_id(session, "ses"):
        raise ValueError(f"{session!r} is not a session id")
    await trio.to_thread.run_sync(_remove_folders, workspaces, session)


def _remove_folders(workspaces: Path, session: str) -> None:
    for folder in folders_of_session(workspaces, session):
        _remove_tree(folder)


def _remove_tree(root: Path) -> None:
    def mend(remove: Callable[[str], object], path: str, _error: object) -> None:
        """A tool may have taken our rights to a folder; what still cannot be removed is said, not hidden."""
        try:
            os.chmod(os.path.dirname(path), 0o700)
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, 0o700)
                shutil.rmtree(path)
            else:
                remove(path)
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("%s is left behind: %s", path, error.strerror)

    if root.exists():
        shutil.rmtree(root, onerror=mend)
