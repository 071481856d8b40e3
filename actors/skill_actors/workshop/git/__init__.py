"""Git repositories as agents and their owners see them: how they stand, what has changed, worktrees."""

from skill_actors.workshop.git.context import GitContext
from skill_actors.workshop.git.run import Git, GitError
from skill_actors.workshop.git.worktrees import Worktrees

__all__ = ["Git", "GitContext", "GitError", "Worktrees"]
