"""What the kernel says of a process."""

from __future__ import annotations

from pathlib import Path


def state_of(pid: int) -> str | None:
    """What it does, as the letter in proc(5): "S" sleeps, "Z" has ended and is not reaped; None if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends between the opening and the reading
        return None


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def lives(pid: int) -> bool:
    """Whether it has not ended; one that has and is not reaped yet lives no more."""
    return state_of(pid) not in (None, "Z", "X")
