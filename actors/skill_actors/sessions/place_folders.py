"""Where the files of a conversation's places lie: names of folders below STATE/workspaces. Pure, but for the listing.

The first place has the folder of the session itself, which is also where files sent with a message go. Each further
one has its own beside it, since what is in a workspace belongs to the tools that work there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from skill_actors.ids import is_id

__all__ = ["folder_of_place", "folders_of_session", "session_of_folder"]

_BETWEEN = "."  # no id and no name of a place has it


def folder_of_place(workspaces: Path, session: str, place: str | None) -> Path:
    """The folder of one place; None for the first."""
    return workspaces / (session if place is None else f"{session}{_BETWEEN}{place}")


def session_of_folder(name: str) -> str | None:
    """The session that a folder of this name belongs to; None if it is none of ours."""
    session, _, _ = name.partition(_BETWEEN)
    return session if is_id(session, "ses") else None


def folders_of_session(workspaces: Path, session: str) -> list[Path]:
    """The folders there are of this session, its own first. Blocks."""
    return [workspaces / name for name in sorted(_named(workspaces)) if session_of_folder(name) == session]


def _named(root: Path) -> Iterable[str]:
    try:
        return [entry.name for entry in root.iterdir()]
    except FileNotFoundError:
        return []
