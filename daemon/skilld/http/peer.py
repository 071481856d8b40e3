"""Who is at the other end of a connection, and what that user may do."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from skilld.config import RolesConfig

__all__ = ["Authority", "Peer", "PeerRefused", "Permission", "overflow_uid", "read_peer"]

Permission = Literal["any", "read", "send", "approve", "admin"]

_SO_PEERGROUPS: Final = 59  # no constant in the socket module
_MAX_GROUPS: Final = 65_536  # NGROUPS_MAX
_IMPLIED: Final[Mapping[Permission, frozenset[Permission]]] = {
    "any": frozenset({"any"}),
    "read": frozenset({"any", "read"}),
    "send": frozenset({"any", "read", "send"}),
    "approve": frozenset({"any", "read", "approve"}),
    "admin": frozenset({"any", "read", "send", "approve", "admin"}),
}


class _Socket(Protocol):
    """A socket of the standard library or of trio."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


class PeerRefused(Exception):
    """The kernel does not say who the peer is, so nothing can be allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The process that connected, as the kernel recorded it at connect. Decide by uid and groups, never by pid.

    Args:
        agent: the conversation of the agent for which it acts, since the daemon has started it as that agent's
            program, or something above it. It then has none of the rights of the user that it runs as.
        own: the daemon has started it, or something above it.

    """

    uid: int
    gid: int
    pid: int
    groups: frozenset[int] = frozenset()
    agent: str | None = None
    own: bool = False


def overflow_uid() -> int:
    """The uid that stands for everybody whom this user namespace does not know."""
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
    except (OSError, ValueError):
        return 65_534


def read_peer(connection: _Socket, unknown_uid: int) -> Peer:
    """The peer of a connected Unix socket.

    Raises:
        PeerRefused: if the peer is `unknown_uid`, or the kernel gives no credentials.

    """
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError as error:
        raise PeerRefused(f"no peer credentials: {error.strerror}") from error
    pid, uid, gid = struct.unpack("iII", raw)
    if uid in (unknown_uid, 0xFFFFFFFF):
        raise PeerRefused(
            f"your user is unknown here (it appears as uid {uid}): connect from the daemon's own user namespace"
        )
    return Peer(uid=uid, gid=gid, pid=pid, groups=_groups(connection) | {gid})


def _groups(connection: _Socket) -> frozenset[int]:
    """Supplementary groups; none on a kernel older than 4.13."""
    for room in (64, _MAX_GROUPS):
        try:
            raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, room * 4)
        except OSError:
            continue
        return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))
    return frozenset()


class Authority:
    """What each peer may do.

    An agent's program may read and send in the name of the agent's owner, whoever it runs as, and no more.
    Until roles are configured: root and the daemon's own user may do all, everybody else nothing. Once they are,
    root and those named: the daemon's own user, under which local tools run, is then a peer like any other.
    """

    def __init__(self, roles: RolesConfig, own_uid: int) -> None:
        self._roles = roles
        self._own_uid = own_uid

    def permissions(self, peer: Peer) -> frozenset[Permission]:
        """All that the peer may do; empty for a stranger."""
        if peer.agent is not None:
            return _IMPLIED["send"]
        if peer.uid == 0 or (not self._roles.configured and peer.uid == self._own_uid):
            return _IMPLIED["admin"]
        granted: frozenset[Permission] = frozenset()
        named: tuple[Permission, ...] = ("read", "send", "approve", "admin")
        for name in named:
            role = getattr(self._roles, name)
            if peer.uid in role.uids or not peer.groups.isdisjoint(role.gids):
                granted |= _IMPLIED[name]
        return granted
