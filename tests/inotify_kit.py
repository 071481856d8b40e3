"""What this process has the kernel watch."""

import os
from collections.abc import Callable
from pathlib import Path

import trio


def inotify_counts() -> tuple[int, int]:
    """How many inotify descriptors this process has, and how many watches they hold."""
    descriptors, watches = 0, 0
    for path in Path("/proc/self/fdinfo").iterdir():
        try:
            kind, info = os.readlink(f"/proc/self/fd/{path.name}"), path.read_text()
        except OSError:
            continue
        if "inotify" in kind:
            descriptors += 1
            watches += info.count("inotify wd")
    return descriptors, watches


def nothing_is_watched() -> bool:
    """Whether all watches have come to their end, which they do in threads of their own."""
    return inotify_counts() == (0, 0)


async def until(condition: Callable[[], bool]) -> None:
    """Look again and again, for 20 seconds at most, for what is seen from outside only."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.02)
