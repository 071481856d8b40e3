"""Which sandboxes of the local backend this machine can build."""

from __future__ import annotations

import functools

from conftest import require
from skill_actors.backends import BackendUnavailable
from skill_actors.backends.sandbox import make_fence

SANDBOXES = ("landlock", "bwrap")


@functools.cache
def missing(kind: str) -> str | None:
    """What is missing for this one; None if it can be had."""
    try:
        make_fence("bwrap" if kind == "bwrap" else "landlock", None, (), ())
    except BackendUnavailable as error:
        return str(error)
    return None


def require_sandbox(name: str) -> None:
    """Go on if it can be had here, or is no sandbox at all; else skip, or fail in CI."""
    if name in SANDBOXES:
        reason = missing(name)
        require(reason is None, reason or "")
