"""What a backend keeps on disk for its processes: their home, their sessions, and files for one of them. Blocks."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["Papers"]

_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9]")


class Papers:
    """The folder of one backend. Only its owner may look into it.

    Args:
        folder: made if it is missing; what earlier processes were to read goes.

    Raises:
        OSError: it cannot be made.

    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.config = folder / "config"
        self.temporary = folder / "tmp"
        self._notes = folder / "notes"
        shutil.rmtree(self._notes, ignore_errors=True)
        for each in (folder, self.home, self.config, self.temporary, self._notes):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
            each.chmod(0o700)

    @property
    def has_login(self) -> bool:
        """Whether somebody has logged in with this configuration."""
        return (self.config / ".credentials.json").exists()

    def write(self, content: str | Mapping[str, Any]) -> Path:
        """A file for a process to read: text, or an object as JSON. Raises OSError."""
        path = self._notes / secrets.token_hex(16)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        return path

    def bring(self, session_id: str, folder: Path) -> bool:
        """Have the program find a session from another folder than the one it was begun in. False if there is none.

        The program looks for a session by the folder it works in: a copy of a conversation works in another one.
        """
        try:
            name = f"{uuid.UUID(session_id)}.jsonl"
        except ValueError:
            return False
        here = self.config / "projects" / _NOT_IN_NAMES.sub("-", str(folder)) / name
        if here.exists():
            return True
        found = next(iter(sorted((self.config / "projects").glob(f"*/{name}"))), None)
        if found is None:
            return False
        here.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = here.with_suffix(".part")
        shutil.copyfile(found, part)
        part.replace(here)
        return True
