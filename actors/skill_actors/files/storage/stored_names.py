"""What this machine has stored of each workspace: which files, and how the workspace was when all of it was stored.

Only files that were stored from here may be removed from the storage when they are gone here. A workspace that was
lost, or came back from a backup without its files, is another folder than the one whose files were stored; what the
storage has of it is then all there is, and nothing of it is removed. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from skill_actors.files.snapshot import Snapshot, scan

__all__ = ["StoredNames", "state_of"]


@dataclass(frozen=True, slots=True)
class _Record:
    """The inode of the folder, the names, and its state when all were stored; empty if they never were."""

    inode: int = 0
    names: frozenset[str] = frozenset()
    state: str = ""


def state_of(snapshot: Snapshot) -> str:
    """Another one whenever a file of the workspace is another."""
    digest = hashlib.sha256(str(snapshot.inode).encode())
    for name, mark in sorted(snapshot.marks.items()):
        digest.update(f"\0{name}\0{tuple(mark)}".encode())
    return digest.hexdigest()


class StoredNames:
    """A record of each workspace, in a file of its own.

    Args:
        folder: of these files, made if it is missing.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, workspace: Path) -> frozenset[str]:
        """What was stored of this very folder; nothing if that is not known for sure."""
        record = self._load(workspace)
        with contextlib.suppress(OSError):
            if record.inode == os.stat(workspace).st_ino:
                return record.names
        return frozenset()

    def write(self, workspace: Path, names: Collection[str], state: str = "") -> None:
        """Remember them. What cannot be written is removed from the storage later, or never.

        Args:
            state: if all of it is stored, how it was when that began.

        """
        with contextlib.suppress(OSError):
            data = {"inode": os.stat(workspace).st_ino, "names": sorted(names), "state": state}
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            target = self._folder / workspace.name
            partial = target.with_name(f".{target.name}")  # what no workspace is called
            partial.write_text(json.dumps(data), "utf-8")
            os.replace(partial, target)

    def lags(self, workspace: Path) -> bool:
        """Whether the workspace holds, or held, what may not be stored."""
        snapshot, record = scan(workspace), self._load(workspace)
        if not snapshot.inode or not (snapshot.marks or record.names):
            return False
        return record.state != state_of(snapshot)

    def follow(self, workspace: Path) -> None:
        """The folder was removed on purpose: a new and empty one takes its place. Raises OSError."""
        names = self._load(workspace).names
        workspace.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.write(workspace, names)

    def forget(self, name: str) -> None:
        """The workspace of this name is going, or gone."""
        with contextlib.suppress(OSError):
            (self._folder / name).unlink(missing_ok=True)

    def forget_missing(self, workspaces: Path) -> None:
        """Forget those whose workspaces are not there."""
        with contextlib.suppress(OSError):
            for entry in list(self._folder.iterdir()):
                if not (workspaces / entry.name).is_dir():
                    entry.unlink()

    def _load(self, workspace: Path) -> _Record:
        try:
            data = json.loads((self._folder / workspace.name).read_bytes())
            return _Record(int(data["inode"]), frozenset(data["names"]), str(data["state"]))
        except (OSError, ValueError, KeyError, TypeError):
            return _Record()
