"""Who has started a process: the daemon, for an agent or otherwise, or somebody else.

The kernel is asked once, when a connection is accepted, and nobody is believed anything. Numbers of processes are used
again, so what is read of a chain of parents counts only if all of it still holds once it was read, and if the process
that connected has lived all the while: its own descriptor, which the kernel took at connect, tells that. Whatever
cannot be told is refused.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from skill_actors.backends.programs import Programs
from skill_actors.backends.survivors import is_stray
from skill_actors.errors import Refused
from skilld.http.peer import Peer, PeerRefused

__all__ = ["Ancestor", "Ancestry", "chain_of", "may_descend", "refuse_own"]

_MAX_DEPTH: Final = 4_096
_TRIES: Final = 5
_SO_PEERPIDFD: Final = 77  # Linux 6.5; no constant in the socket module


class _Socket(Protocol):
    """A socket of the standard library or of trio."""

    def getsockopt(self, level: int, optname: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A process, its parent, and when it started, in ticks since the machine did."""

    pid: int
    parent: int
    started: int


class Ancestry:
    """Says of each connection for whom it was made.

    Args:
        programs: whose launchers there are.
        own_pid: of the daemon.
        own_uid: its user, as whom all that it starts runs. Root's processes can become anybody.

    """

    def __init__(self, programs: Programs, own_pid: int, own_uid: int, proc: Path = Path("/proc")) -> None:
        self._programs = programs
        self._own_pid = own_pid
        self._own_uid = own_uid
        self._proc = proc

    def told_of(self, peer: Peer, connection: _Socket) -> Peer:
        """The peer with `agent` and `own`.

        Raises:
            PeerRefused: it has ended already, so that nobody can tell any more who it was; or it has outlived what
                the daemon has started, so that nobody can tell for whom it was.

        """
        if peer.pid == 0 or self._own_uid not in (0, peer.uid):
            return peer  # of a namespace above ours, or of another user: not of our making
        handle = _handle_of(connection)
        try:
            chain = chain_of(peer.pid, self._proc)
            if chain is None or (handle is not None and _has_ended(handle)):
                raise PeerRefused(f"process {peer.pid} has ended: stay until you have your answer")
            told = self._judged(peer, chain)
            if told.agent is None and self._is_left(chain):
                raise PeerRefused(f"process {peer.pid} was left by a program that the daemon had started: not served")
            return told
        finally:
            if handle is not None:
                os.close(handle)

    def _judged(self, peer: Peer, chain: Sequence[Ancestor]) -> Peer:
        agent: str | None = None
        for ancestor in chain:
            agent = self._programs.agent_of(ancestor.pid, ancestor.started)
            if agent is not None:
                break
        own = any(ancestor.pid == self._own_pid for ancestor in chain[1:])
        return replace(peer, agent=agent, own=own or agent is not None)

    def _is_left(self, chain: Sequence[Ancestor]) -> bool:
        """Whether the daemon has adopted it, or what it descends from: what stood between them was killed."""
        below = [each for each in chain if each.parent == self._own_pid]
        return any(
            is_stray(each.pid, self._own_pid, self._proc) or _ancestor(each.pid, self._proc) != each for each in below
        )


def chain_of(pid: int, proc: Path = Path("/proc")) -> Sequence[Ancestor] | None:
    """The process and those above it, up to one whose parent cannot be seen; None if it is gone."""
    for _ in range(_TRIES):
        chain = _climb(pid, proc)
        if chain and all(_ancestor(each.pid, proc) == each for each in chain):
            return chain
    return None


def _climb(pid: int, proc: Path) -> Sequence[Ancestor]:
    """A chain as it was read.

    It ends where a process is gone, or hidden from us, as none is that runs as our own user. Which of both, its child
    tells when it is read again: that has another parent by then, or the same.
    """
    chain: list[Ancestor] = []
    while pid > 0 and (found := _ancestor(pid, proc)) is not None:
        chain.append(found)
        pid = found.parent
        if len(chain) == _MAX_DEPTH:
            return ()
    return chain


def _ancestor(pid: int, proc: Path) -> Ancestor | None:
    """None if there is no such process. The name may hold anything: what counts is behind its last parenthesis."""
    try:
        fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return Ancestor(pid, int(fields[1]), int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None


def _handle_of(connection: _Socket) -> int | None:
    """A descriptor of the process that connected; None where the kernel is too old to give one.

    Raises:
        PeerRefused: the process is gone.

    """
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except ProcessLookupError as error:
        raise PeerRefused("the process that connected has ended: stay until you have your answer") from error
    except OSError:
        return None


def _has_ended(handle: int) -> bool:
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    return bool(poller.poll(0))


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
    if peer.own or peer.agent is not None or may_descend(peer.pid, os.getpid()):
        raise Refused("forbidden", f"process {peer.pid} was started by the daemon, or is gone: it does not {what}")
