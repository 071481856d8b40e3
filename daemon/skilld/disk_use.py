"""What the state directory takes on the disk, by what it is. Measured by looking at every file, and so not often."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

__all__ = ["KINDS", "measure", "used_by"]

KINDS: Final = (
    *("audit", "backends", "journal", "monitor", "packages", "pushed", "quarantine", "skills", "workspaces", "other"),
)

_PAUSE_EVERY: Final = 1_000  # files: others want the processor and Python's lock too
_PAUSE_S: Final = 0.01


def measure(state_dir: Path) -> dict[str, int]:
    """Bytes on the disk of each of KINDS. Blocks; what comes or goes meanwhile counts or not."""
    found = dict.fromkeys(KINDS, 0)
    seen = 0
    for kind, entry in _entries(state_dir):
        seen += 1
        if seen % _PAUSE_EVERY == 0:
            time.sleep(_PAUSE_S)
        try:
            found[kind] += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue  # gone
    return found


def used_by(measured: dict[str, int] | None) -> dict[str, Any] | None:
    """As the status has it: each kind and the sum; None as long as it was not measured."""
    return None if measured is None else {**measured, "total": sum(measured.values())}


def _entries(state_dir: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything in the directory, at any depth, with its kind; links are not followed."""
    folders = [("", str(state_dir))]
    while folders:
        kind, folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    of = kind or _kind(entry.name)
                    yield of, entry
                    if entry.is_dir(follow_symlinks=False):
                        folders.append((of, entry.path))
        except OSError:
            continue  # gone, or not ours to read


def _kind(name: str) -> str:
    if name.startswith("journal."):
        return "journal"
    return name if name in KINDS else "other"
