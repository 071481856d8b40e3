"""Whether a process was started by this one, by somebody it had started, and so on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from skill_actors.errors import Refused
from skilld.http.peer import Peer

__all__ = ["may_descend", "refuse_own"]

_MAX_DEPTH: Final = 4_096


def may_descend(pid: int, ancestor: int, proc: Path = Path("/proc")) -> bool:
    """Whether the process descends from `ancestor`, or that cannot be told since it is gone by now.

    Args:
        pid: as the kernel names it here; 0 is a process of a namespace above ours, which cannot be of our making.
        ancestor: its own descendant, too.

    """
    for _ in range(_MAX_DEPTH):
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
        above = _parent(pid, proc)
        if above is None:
            return True
        pid = above
    return True


def _parent(pid: int, proc: Path) -> int | None:
    """None if there is no such process. The name may hold anything: what counts is behind its last parenthesis."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def refuse_own(peer: Peer, what: str) -> None:
    """Refuse `what` to a process that the daemon has started: no tool loosens what binds it, whoever it runs as.

    Raises:
        Refused: forbidden.

    """
    if may_descend(peer.pid, os.getpid()):
        raise Refused("forbidden", f"process {peer.pid} was started by the daemon, or is gone: it does not {what}")
