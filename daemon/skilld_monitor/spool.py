"""A file per process in which records wait while the daemon is away, sent by it or by a later process of the user.

The first line is the head of its batches, each other one a record. Whoever writes or sends a file holds its lock, so a
file without one belongs to a process that has ended.
"""

from __future__ import annotations

import fcntl
import json
import os
from functools import partial

from skilld_monitor.delivery import MAX_BATCH_BYTES, MAX_BATCH_RECORDS, ForeignHead
from skilld_monitor.losses import losses_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Spool", "batches", "left_behind"]

_SUFFIX = ".jsonl"
_MAX_LEFT_BEHIND = 100  # files that one process looks at
_NO_HEAD = "it does not begin with the head of a spool file"


class Spool:
    """The file of one run. It is made when it is first needed, mode 0600, and removed when all in it is sent.

    Args:
        folder: made with mode 0700 if it is missing.
        head: the head of its batches; `run` is its name.
        max_bytes: of the file; more is not taken.

    """

    def __init__(self, folder: str, head: dict[str, object], max_bytes: int) -> None:
        self._folder = folder
        self._head = head
        self._max_bytes = max_bytes
        self.path = os.path.join(folder, f"{head['run']}{_SUFFIX}")
        self._fd = -1
        self._size = 0
        self._sent = 0  # how far the daemon has it

    def __len__(self) -> int:
        """Bytes in it."""
        return self._size

    def add(self, records: list[bytes]) -> int:
        """Keep the first of the records, as far as there is room; how many. Raises OSError if the disk takes none."""
        if self._fd < 0:
            self._open()
        room = self._max_bytes - self._size
        kept = 0
        for record in records:
            room -= len(record) + 1
            if room < 0:
                break
            kept += 1
        before = self._size
        try:
            self._write(b"".join(record + b"\n" for record in records[:kept]))
        except OSError:
            kept = self._keep_whole(before, records)
            if not kept:
                raise
        return kept

    def _keep_whole(self, before: int, records: list[bytes]) -> int:
        """Cut off the half of a record; how many are whole behind the first so many bytes."""
        end, kept = before, 0
        while end + len(records[kept]) < self._size:
            end += len(records[kept]) + 1
            kept += 1
        os.ftruncate(self._fd, end)
        self._size = end
        return kept

    def batches(self) -> Iterator[list[bytes]]:
        """What is in it, in the order it came."""
        if self._fd < 0:
            return iter(())
        return batches(self._fd, self._sent)

    def sent(self, batch: list[bytes]) -> None:
        """The daemon has the first batch of what is left: it need not come again."""
        self._sent += sum(len(record) + 1 for record in batch)

    def clear(self) -> None:
        """All of it is sent: remove the file."""
        if self._fd >= 0:
            os.unlink(self.path)
            self.close()

    def close(self) -> None:
        """Let go of the file; what is in it stays for another process."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._size = 0

    def _open(self) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(json.dumps(self._head).encode() + b"\n")
        except OSError:
            self.clear()  # records without a head would be nobody's
            raise
        self._sent = self._size

    def _write(self, raw: bytes) -> None:
        view = memoryview(raw)
        while view:
            written = os.write(self._fd, view)
            self._size += written
            view = view[written:]


def batches(fd: int, start: int = 0) -> Iterator[list[bytes]]:
    """The records of a spool file, so many at a time as one batch may have; what was cut off in the middle is left.

    Args:
        start: where they begin, in bytes; 0 for behind the head.

    """
    with open(os.dup(fd), "rb") as file:
        file.seek(start)
        if not start:
            file.readline()
        found: list[bytes] = []
        size = 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            if found and (len(found) >= MAX_BATCH_RECORDS or size + len(line) > MAX_BATCH_BYTES):
                yield found
                found, size = [], 0
            found.append(line[:-1])
            size += len(line)
        if found:
            yield found


def left_behind(folder: str, own: str) -> Iterator[tuple[str, int, dict[str, object]]]:
    """Files of processes that have ended: path, descriptor (locked; closed when the iteration goes on) and head.

    What of them is refused for good, and which cannot be read, is noted in the losses of the run whose file `own` is.
    """
    losses = losses_of(os.path.basename(own)[: -len(_SUFFIX)])
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(_SUFFIX))[:_MAX_LEFT_BEHIND]
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if path == own:
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:  # somebody has sent it
            continue
        except OSError as error:
            losses.pass_over(path, str(error.strerror))
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.exists(path) or not os.fstat(fd).st_size:  # sent meanwhile, or begun just now
                continue
            losses.begin(path)
            yield path, fd, ForeignHead(_head_in(fd), partial(losses.refuse, path))
        except BlockingIOError:  # of a process that runs
            continue
        except (OSError, ValueError, RecursionError) as error:
            losses.pass_over(path, _NO_HEAD if isinstance(error, ValueError) else str(error))
        finally:
            os.close(fd)


def _head_in(fd: int) -> dict[str, object]:
    """Raises ValueError for what is none, and RecursionError for what is too deep to be one."""
    with open(os.dup(fd), "rb") as file:
        head = json.loads(file.readline())
    if not isinstance(head, dict):
        raise ValueError
    return head
