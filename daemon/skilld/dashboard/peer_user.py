"""Whose program is at the other end of a connection over loopback, as the kernel lists its sockets."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Final

__all__ = ["peer_uid"]

Address = tuple[str, int]

_LIST: Final = Path("/proc/net/tcp")


def peer_uid(ours: Address, theirs: Address, listed: Path = _LIST) -> int | None:
    """The user id of the peer's socket; None if no program holds it any more, or it is not listed.

    Args:
        ours: address and port of our end.
        theirs: of the other end.

    Raises:
        OSError: if there is no list.

    """
    wanted = (_written(theirs), _written(ours))
    with listed.open(encoding="ascii", errors="replace") as lines:
        next(lines, None)
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and (fields[1], fields[2]) == wanted:
                # What nobody holds any more has no inode, and is listed as root's, whoever's it was.
                return None if fields[9] == "0" else int(fields[7])
    return None


def _written(address: Address) -> str:
    """As the list has it: the four bytes as one number of this machine, then the port."""
    host, port = address
    return f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}:{port:04X}"
