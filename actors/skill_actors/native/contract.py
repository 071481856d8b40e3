"""The contract of a native skill: a class with `skill_info` and up to four callbacks, and what they are given.

    class Notes(NativeSkill):
        skill_info = SkillInfo(name="notes", description="Keeps notes.", allowed_tools=("read", "write"))

        def read(self, path: str, context: Context, offset: int = 0, limit: int = 100) -> str: ...
        def write(self, path: str, content: str, context: Context) -> str: ...

`execute(command, context)`, `read(path, context, offset, limit)`, `write(path, content, context)` and
`modify(path, old, new, context)` are all optional, and plain functions: each call has a process to itself and may
block. What one returns is what the model reads (text, or a JSON value); what it raises is an error result.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

__all__ = ["KINDS", "Context", "NativeSkill", "SkillInfo"]

KINDS: Final = ("execute", "read", "write", "modify")
"""The callbacks, in the order in which their tools are offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillInfo:
    """What a native skill says of itself.

    Args:
        name: that of its SKILL.md.
        description: what it does; the model reads it with each tool.
        allowed_tools: names of callbacks; exactly these become tools.

    """

    name: str
    description: str
    allowed_tools: Sequence[str]


class NativeSkill:
    """Base of native skills; any class with a `skill_info` will do. It is made without arguments, once a process."""

    skill_info: ClassVar[SkillInfo]


def _say_nothing(_text: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What holds for one call. The working directory of the call is `workspace`.

    Args:
        session: id of the conversation.
        workspace: its folder: what the other tools see and keep between messages.
        skill_dir: the skill's own folder, in the version that this conversation uses. Not to be written.
        allowed_paths: folders that the model may read: the workspace and those of the conversation's skills.
        deadline: of `time.monotonic()`, in seconds; after it the process is killed.
        emit: shows a piece of output to whoever watches, while the call runs. No part of the result.

    """

    session: str
    workspace: Path
    skill_dir: Path
    allowed_paths: tuple[Path, ...]
    deadline: float
    emit: Callable[[str], None] = field(default=_say_nothing, repr=False)

    def remaining_s(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def resolve(self, path: str, *, write: bool = False) -> Path:
        """The real path of what the model calls `path`, relative to the workspace, links followed.

        It is judged as it is now: open it at once, and follow no link in it that came later.

        Args:
            write: only the workspace will do.

        Raises:
            PermissionError: if it lies outside of the allowed folders.

        """
        folders = (self.workspace,) if write else self.allowed_paths
        real = Path(os.path.realpath(self.workspace / path))
        if any(real.is_relative_to(os.path.realpath(folder)) for folder in folders):
            return real
        shown = ", ".join(map(str, folders))
        raise PermissionError(f"{path} is outside of what this tool may use: {shown}")
