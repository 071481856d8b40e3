"""A StorageReport while it is being made: one file that fails is noted, and keeps no other from its turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from skill_actors.errors import Refused
from skill_actors.files.storage.base import StorageReport
from skill_actors.files.storage.errors import StorageError

__all__ = ["ReportMaker"]

_GONE = frozenset({"not_found", "file_not_found"})


class ReportMaker:
    """Collects what becomes of each file."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._bytes = 0
        self._unchanged = 0
        self._failed: dict[str, str] = {}
        self._retryable = False

    def add(self, path: str, size: int | None) -> None:
        """It was copied, so many bytes; None: it was up to date."""
        if size is None:
            self._unchanged += 1
            return
        self._done.append(path)
        self._bytes += size

    def fail(self, path: str, why: str, *, retryable: bool = False) -> None:
        """It was not copied, and this is why."""
        self._failed[path] = why
        self._retryable |= retryable

    @contextmanager
    def of(self, path: str) -> Iterator[None]:
        """What goes wrong with the file in the block is noted. One that has gone meanwhile has not failed."""
        try:
            yield
        except (StorageError, Refused) as error:
            if error.code not in _GONE:
                self.fail(path, error.message, retryable=error.retryable)
        except OSError as error:
            self.fail(path, f"{path}: {error.strerror or type(error).__name__}", retryable=True)

    def made(self, here: Iterable[str] = ()) -> StorageReport:
        """The report; `here`: the files of the folder that was to be stored, by name."""
        return StorageReport(
            done=sorted(self._done),
            unchanged=self._unchanged,
            bytes=self._bytes,
            failed=self._failed,
            retryable=self._retryable,
            stored=frozenset(here) - self._failed.keys(),
        )
