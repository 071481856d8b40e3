"""Whose process is at the other end of a TCP connection on this host, by the kernel's table of sockets.

The table has the user of every socket that a process still holds. One whose process has closed it is shown as root's,
so that an entry without an inode says only that it was of this host. Another network namespace (a container) has
another table.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["OwnerGone", "groups_of", "owner_in", "tcp_owner"]

_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")

Address = tuple[str, int]


class OwnerGone(Exception):
    """It was a process's of this host, which has closed it: nobody can say any more whose."""


def tcp_owner(peer: Address, own: Address) -> int | None:
    """The uid of whom `peer` belongs to; None if the kernel does not know it. Raises OwnerGone.

    Blocks: a busy host has thousands of rows.
    """
    for table in _TABLES:
        try:
            with Path(table).open(encoding="ascii") as rows:
                uid = owner_in(rows, peer, own)
        except OSError:
            continue
        if uid is not None:
            return uid
    return None


def owner_in(rows: Iterable[str], peer: Address, own: Address) -> int | None:
    """The uid of the row from `peer` to `own`; None if there is none. Pure. Raises OwnerGone."""
    wanted = {(_spelled(peer, mapped), _spelled(own, mapped)) for mapped in (False, True)}
    for row in rows:
        fields = row.split(None, 10)
        if len(fields) > 9 and (fields[1], fields[2]) in wanted:
            if fields[9] == "0":
                raise OwnerGone
            return int(fields[7])
    return None


def _spelled(address: Address, mapped: bool) -> str:
    """As the table spells it: words of 32 bits in the host's order."""
    host = ipaddress.ip_address(address[0])
    packed = host.packed
    if mapped and host.version == 4:
        packed = ipaddress.IPv6Address(f"::ffff:{host}").packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"


def groups_of(uid: int) -> frozenset[int]:
    """The groups that the user data base gives a user; none for one that it does not know. Blocks."""
    try:
        account = pwd.getpwuid(uid)
        return frozenset(os.getgrouplist(account.pw_name, account.pw_gid))
    except (KeyError, OSError):
        return frozenset()
