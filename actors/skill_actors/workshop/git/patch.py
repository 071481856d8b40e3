"""What a working tree has that a commit has not, as a patch: files that git does not know yet are in it too.

Git shows those only once it was told of them, which would change the repository's index under its user's hands. So it
is told in a copy of the index, which is thrown away.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

import trio

from skill_actors.workshop.git.run import Git, GitError, GitOutput

__all__ = ["patch_since"]

_DIFF: Final = ("diff", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty")
_NEW: Final = ("ls-files", "--others", "--exclude-standard", "-z")


async def patch_since(git: Git, folder: Path, commit: str) -> GitOutput:
    """The patch from a commit to all that is in the working tree that `folder` is in, but for ignored files.

    Raises:
        GitError: there is no such commit, or no repository.

    """
    top = Path((await git.run(folder, "rev-parse", "--show-toplevel")).text.removesuffix("\n"))
    index = (await git.run(folder, "rev-parse", "--path-format=absolute", "--git-path", "index")).text.removesuffix(
        "\n"
    )
    new = (await git.run(top, *_NEW)).out
    place = Path(tempfile.mkdtemp(prefix="skilld-index-"))
    try:
        await trio.to_thread.run_sync(_prepare, place, top, Path(index), new)
        environment = {"GIT_INDEX_FILE": str(place / "index")}
        told = (f"--pathspec-from-file={place / 'new'}", "--pathspec-file-nul")
        await git.run(top, "--literal-pathspecs", "add", "--intent-to-add", *told, environment=environment)
        return await git.run(top, *_DIFF, commit, environment=environment)
    except (GitError, OSError):  # it took too long, the disk is full, a file has changed meanwhile: what git knows
        return await git.run(top, *_DIFF, commit)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: shutil.rmtree(place, ignore_errors=True))


def _prepare(place: Path, top: Path, index: Path, new: bytes) -> None:
    """Put a copy of the index into a folder, and the names of those new files that git could read."""
    if index.is_file():  # there is none before the first file
        # With its time: what was changed in the second that the index was written in is only seen by that.
        shutil.copy2(index, place / "index")
    names = [name for name in new.split(b"\0") if name and _can_be_read(os.path.join(os.fsencode(top), name))]
    (place / "new").write_bytes(b"".join(name + b"\0" for name in names))


def _can_be_read(path: bytes) -> bool:
    """Whether it is a link or a file that may be read; a pipe, or a repository in this one, is neither."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and os.access(path, os.R_OK))
