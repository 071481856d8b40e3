"""The daemon's policy between two runs of a program, in a file that its user alone may write."""

from __future__ import annotations

import json
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["forget_policy", "keep_policy", "read_own", "read_policy"]

_MAX_BYTES = 4 << 20


def read_policy(path: str) -> dict[str, object] | None:
    """What is kept there; None if nothing that can be trusted and read."""
    try:
        return _read(path, follow=False)
    except (OSError, ValueError, RecursionError):  # of JSON with more levels than it can have
        return None


def read_own(path: str) -> dict[str, object]:
    """A policy that the user wrote.

    Raises:
        PolicyError: if there is none, if others could have written it, or if it is no JSON object.

    """
    from skilld_monitor.policy.policies import PolicyError

    try:
        return _read(path, follow=True)
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(f"policy_file {path}: {error}") from error


def keep_policy(path: str, said: Mapping[str, object]) -> None:
    """Put it there, mode 0600, as a whole. Raises OSError."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    new = f"{path}.{os.getpid()}"
    forget_policy(new)  # of a process of that number that was killed: in a container the next one has it too
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(said, file)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise


def forget_policy(path: str) -> None:
    """Nothing is to be kept. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _read(path: str, *, follow: bool) -> dict[str, object]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    with open(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in (0, os.geteuid()):
            raise OSError("it is not a file of this user's")
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OSError("others may write it")
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
    said = json.loads(raw)
    if not isinstance(said, dict):
        raise ValueError("it is no JSON object")
    return said
