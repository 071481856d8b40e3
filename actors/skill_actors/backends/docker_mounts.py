"""Which folders of the host no container may see, since whoever sees them has the host, the engine or the daemon.

Names are looked at when options are read; what is there, with its links, each time before a container is made.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from .base import BackendUnavailable

__all__ = ["given_away", "resolved_mounts"]

_OF_THE_HOST: Final = ("/dev", "/proc", "/run", "/sys", "/var/run")
_OF_ENGINES: Final = (
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/rancher",
)


def given_away(path: str, private: Sequence[str] = ()) -> str | None:
    """Why a folder must not be mounted, in words; None if it may be.

    Args:
        path: absolute.
        private: folders, and files, that nobody else may see; nor what lies above them.

    """
    place = PurePosixPath(path)
    for taken in (*_OF_THE_HOST, *_OF_ENGINES, *private):
        if place.is_relative_to(taken):
            return f"{path} is in {taken}"
        if PurePosixPath(taken).is_relative_to(place):
            return f"{taken} is in {path}"
    if place.name.endswith(".sock"):
        return f"{path} is a socket"
    return None


def resolved_mounts(mounts: Mapping[str, str], private: Sequence[str]) -> list[tuple[str, str]]:
    """Path on the host, with links resolved so that what was looked at is what is mounted, and path inside. Blocks.

    Raises:
        BackendUnavailable: one of them is not there, is neither folder nor file, or leads to what `given_away` refuses.

    """
    hidden = [os.path.realpath(path) for path in private]
    found = []
    for outside, inside in mounts.items():
        real = os.path.realpath(outside)
        try:
            mode = os.stat(real).st_mode
        except OSError as error:
            raise BackendUnavailable(f"the mount {outside} of the docker backend: {error.strerror}") from error
        reason = given_away(real, hidden)
        if reason is None and not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            reason = f"{real} is neither a folder nor a file"
        if reason is not None:
            raise BackendUnavailable(
                f"the mount {outside} of the docker backend would give the host away: {reason}; take it out"
            )
        found.append((real, inside))
    return found
