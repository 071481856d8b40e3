"""Where everybody may write: what lies there is nobody's, and trusted by nobody."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["OpenPlaces"]


class OpenPlaces:
    """Answers through which place every user of this machine could change something. Looks at each place once.

    A sticky folder such as /tmp lets others add, but replace nothing. That is enough to be open inside the folders
    where skills are looked for, and not above them.

    Args:
        tops: the folders where skills are looked for.

    """

    def __init__(self, *tops: Path) -> None:
        self._tops = {os.path.realpath(top) for top in tops}
        self._known: dict[str, str] = {}  # the answer for what lies in a folder, "" for none

    def nearest(self, place: Path) -> Path | None:
        """The nearest of `place`, a real path, and the folders above it that is open. Raises OSError. Blocks."""
        real = os.fspath(place)
        found = real if _mode(real) & stat.S_IWOTH else self._above(os.path.dirname(real))
        return Path(found) if found else None

    def _above(self, folder: str) -> str:
        if folder in self._known:
            return self._known[folder]
        parent = os.path.dirname(folder)
        mode = _mode(folder)
        is_open = mode & stat.S_IWOTH and (self._is_inside(folder) or not mode & stat.S_ISVTX)
        found = folder if is_open else "" if parent == folder else self._above(parent)
        self._known[folder] = found
        return found

    def _is_inside(self, folder: str) -> bool:
        return any(folder == top or folder.startswith(top.rstrip(os.sep) + os.sep) for top in self._tops)


def _mode(path: str) -> int:
    return os.stat(path).st_mode
