"""What tests of the claude backend share: the stand-in as a program, the real one, and a backend over either."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import stand_in_claude
from proc_kit import lives
from real_programs import real_program
from skill_actors.backends.agents.base import AgentSession, AgentSpec
from skill_actors.backends.agents.claude import ClaudeBackend, open_claude
from skill_actors.backends.agents.claude.arguments import FLAGS
from skill_actors.backends.workers import Host

__all__ = ["log", "open_real_claude", "open_stand_in", "real_claude", "session_of", "stand_in"]

HELP = "\n".join(sorted(FLAGS))


def stand_in(folder: Path) -> str:
    """The stand-in as a program of its own."""
    path = folder / "claude"
    if not path.exists():
        source = Path(stand_in_claude.__file__).read_text(encoding="utf-8")
        path.write_text(f"#!{sys.executable} -IS\n{source}", encoding="utf-8")
        path.chmod(0o755)
    return str(path)


def real_claude() -> str:
    """The real program, as `scripts/agent-clis` installs it; the test is skipped where there is none."""
    return real_program("claude")


def running_below(folder: Path) -> list[str]:
    """What still runs of programs whose configuration is below this folder, also if nobody is its parent any more."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and lives(int(process.name)):
            with suppress(OSError):
                if f"CLAUDE_CONFIG_DIR={folder}/".encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def log(folder: Path) -> list[dict[str, Any]]:
    """What the stand-ins of this folder were started with and told, the oldest first."""
    path = folder / "config" / "stand-in.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@asynccontextmanager
async def open_stand_in(folder: Path, **options: Any) -> AsyncIterator[ClaudeBackend]:
    """A backend over the stand-in, in `folder`; nothing may be left running after it."""
    given = {"program": stand_in(folder), "api_key": "not-a-key", **options}
    given["environment"] = {"STAND_IN_HELP": HELP, **options.get("environment", {})}
    async with open_claude(given, Host(folder=folder)) as backend:
        yield backend
    assert running_below(folder) == []


@asynccontextmanager
async def open_real_claude(folder: Path, base_url: str, **options: Any) -> AsyncIterator[ClaudeBackend]:
    """A backend over the real program, whose model is at `base_url`; nothing may be left running after it."""
    given = {"program": real_claude(), "api_key": "not-a-key", "base_url": base_url, "max_retries": 0, **options}
    async with open_claude(given, Host(folder=folder)) as backend:
        yield backend
    assert running_below(folder) == []


async def session_of(backend: ClaudeBackend, folder: Path, *, work: str = "work", **spec: Any) -> AgentSession:
    """A session that works in a folder below `folder`."""
    place = folder / work
    place.mkdir(exist_ok=True)
    options = backend.check_options(spec.pop("options", {}))
    return await backend.start_session(AgentSpec(**{"agent": "ses_test", **spec}, folder=place, options=options))
