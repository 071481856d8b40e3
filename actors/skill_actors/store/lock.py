"""One program at a time in a state directory: flock on its file `lock`, which names the holder's pid.

The kernel drops the lock with the process, however that ends, so there is nothing stale to clean up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Self

from skill_actors.store.base import StoreError

__all__ = ["StateLock", "StateLocked"]


class StateLocked(StoreError):
    """Another process works in this state directory. `pid` is its id, or None if it could not be read."""

    def __init__(self, directory: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"state directory {directory} is in use by {holder}; stop that one first, or choose another state directory"
        )
        self.directory = directory
        self.pid = pid


class StateLock:
    """A held lock. Release it by `release()` or by leaving the `with` block."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    @classmethod
    def take(cls, directory: Path) -> StateLock:
        """Lock `directory`, creating it (0700) where it is missing. Does not wait.

        Raises:
            StateLocked: if another holder has it.
            OSError: if the directory or the file cannot be made.

        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_pid(fd)
        except BlockingIOError:
            pid = _read_pid(fd)
            os.close(fd)
            raise StateLocked(directory, pid) from None
        except BaseException:
            os.close(fd)
            raise
        return cls(fd)

    def release(self) -> None:
        """Let the next one in. Releasing twice is allowed and does nothing."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


def _write_pid(fd: int) -> None:
    # The pid is for people only: a full disk must not keep the daemon, which can still serve reads, from starting.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
