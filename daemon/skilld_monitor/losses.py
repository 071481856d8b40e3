"""What earlier programs of the user left in the spool, and this run tried in vain to deliver: it is nobody else's to
count. Found by run, since who finds it and who tells of it share nothing else, as long as the run is there.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

__all__ = ["Losses", "losses_of"]

_MAX_NAMED = 10
_MAX_WHY_CHARS = 200

_of_runs: WeakValueDictionary[str, Losses] = WeakValueDictionary()


class Losses:
    """Of other programs, as far as one run knows. Written by the thread that sends, read by any."""

    def __init__(self) -> None:
        self._refused: dict[str, int] = {}
        self._unreadable: dict[str, None] = {}
        self._why: dict[str, str] = {}

    def begin(self, path: str) -> None:
        """The file is sent from its beginning: what was refused of it before comes again."""
        self._refused.pop(path, None)
        self._unreadable.pop(path, None)
        self._why.pop(path, None)

    def refuse(self, path: str, events: int, why: str) -> None:
        """The daemon will never have so many events of the file."""
        self._refused[path] = self._refused.get(path, 0) + events
        self._why[path] = why[:_MAX_WHY_CHARS]

    def pass_over(self, path: str, why: str) -> None:
        """The file cannot be sent, and stays."""
        self._unreadable[path] = None
        self._why[path] = why[:_MAX_WHY_CHARS]

    @property
    def refused(self) -> int:
        """Events that the daemon refused for good; they are gone."""
        return sum(self._refused.copy().values())

    @property
    def unreadable(self) -> int:
        """Files that stay where they are."""
        return len(self._unreadable)

    def named(self) -> list[str]:
        """The first of the files, each with why."""
        return [f"{path}: {why}" for path, why in list(self._why.copy().items())[:_MAX_NAMED]]


def losses_of(run: str) -> Losses:
    """Those of the run of this process that has this id."""
    return _of_runs.setdefault(run, Losses())
