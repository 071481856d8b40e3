"""Where the program of a tool server runs: its folder, its sandbox, and the words that start it there."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skill_actors.backends import confined_exec
from skill_actors.backends.call_environment import BASIC
from skill_actors.backends.output import OWN_FOLDER
from skill_actors.backends.resident import Nest
from skill_actors.backends.sandbox import Fence
from skill_actors.mcp.options import ServerOptions

__all__ = ["ServerPlace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlace:
    """One run of one server's program.

    Args:
        root: its own folder, which may be written to in a sandbox.
        nest: whose processes these are.

    """

    options: ServerOptions
    root: Path
    fence: Fence
    nest: Nest

    def make(self) -> None:
        """Make its folders. Blocks. Raises OSError."""
        for folder in (self.root, self.root / OWN_FOLDER, self.root / OWN_FOLDER / "tmp"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def argv(self) -> Sequence[str]:
        """The words that start the program in its sandbox."""
        root, fence, cwd = str(self.root), self.fence, self.options.cwd
        words = list(self.options.command if cwd is None else ("env", f"--chdir={cwd}", *self.options.command))
        inside = fence.argv(words, root, ())
        confine, scoped = fence.confine(root, ()), fence.scopes
        if confine is None and not scoped:
            return inside
        wanted = json.dumps({"confine": confine, "scoped": scoped}, default=list)
        return [sys.executable, "-I", "-S", "-E", confined_exec.__file__, wanted, *inside]

    def environment(self) -> dict[str, str]:
        """Variables that all programs of servers have."""
        temporary = self.fence.temporary(str(self.root / OWN_FOLDER / "tmp"))
        path = self.fence.path(self.options.path)
        return {"PATH": path, "HOME": str(self.root), "TMPDIR": temporary, **BASIC, **self.options.env}
