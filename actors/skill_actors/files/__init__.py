"""Files of a workspace: which there are, what has changed, how much they may be, and where else they are kept."""

from __future__ import annotations

from skill_actors.files.changes import FileChange, known_files
from skill_actors.files.quota import Quota
from skill_actors.files.watch import Usage, WorkspaceWatch

__all__ = ["FileChange", "Quota", "Usage", "WorkspaceWatch", "known_files"]
