"""What tests of the codex backend share: the stand-in as a program, a watch that remembers, a backend over it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import trio

import stand_in_codex
from real_programs import real_program
from skill_actors.backends.agents.base import (
    AgentEvent,
    AgentSession,
    AgentSpec,
    PermissionAnswer,
    PermissionQuestion,
    Permitted,
    Refusal,
)
from skill_actors.backends.agents.codex import CodexBackend, open_codex
from skill_actors.backends.workers import Host
from skill_actors.testing.responses_api import FakeResponsesApi

__all__ = ["DENY", "Remembers", "open_real", "open_stand_in", "real_codex", "session_of", "stand_in", "survivors"]

E = TypeVar("E")


class Remembers:
    """A watch: keeps what it was told and asked, and answers with `answer`, or what was asked for."""

    def __init__(self, answer: PermissionAnswer | None = None, *, hold: bool = False) -> None:
        self.events: list[AgentEvent] = []
        self.questions: list[PermissionQuestion] = []
        self.heard = trio.Event()  # anything was said or asked
        self._answer = answer
        self._hold = hold

    async def event(self, event: AgentEvent) -> None:
        self.events.append(event)
        if type(event).__name__ in ("TextDelta", "Raw"):
            self.heard.set()

    async def permit(self, question: PermissionQuestion) -> PermissionAnswer:
        self.questions.append(question)
        self.heard.set()
        if self._hold:
            await trio.sleep_forever()
        return self._answer or Permitted(question.input)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


DENY = Refusal("not today")


def stand_in(folder: Path) -> str:
    """The stand-in as a program of its own."""
    path = folder / "codex"
    if not path.exists():
        source = Path(stand_in_codex.__file__).read_text(encoding="utf-8")
        path.write_text(f"#!{sys.executable} -IS\n{source}", encoding="utf-8")
        path.chmod(0o755)
    return str(path)


def survivors(folder: Path) -> list[str]:
    """What still runs of programs whose folder is below this one, also if nobody is its parent any more."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                if f"CODEX_HOME={folder}/".encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def real_codex() -> str:
    """The real program, as `scripts/agent-clis` installs it; the test is skipped where there is none."""
    return real_program("codex")


@asynccontextmanager
async def open_real(folder: Path, api: FakeResponsesApi, **options: Any) -> AsyncIterator[CodexBackend]:
    """A backend over the real program, whose models are the fake API's; nothing may be left running after it."""
    given = {"program": real_codex(), "api_key": "not-a-key", "base_url": api.base_url, "model": "gpt-test", **options}
    async with open_codex({"retries": 0, **_approval(options), **given}, Host(folder=folder)) as backend:
        yield backend
    assert survivors(folder) == []


@asynccontextmanager
async def open_stand_in(folder: Path, **options: Any) -> AsyncIterator[CodexBackend]:
    """A backend over the stand-in, with its folder `folder/codex_cli`; nothing may be left running after it."""
    given = {"program": stand_in(folder), "api_key": "not-a-key", **_approval(options), **options}
    async with open_codex(given, Host(folder=folder)) as backend:
        yield backend
    assert survivors(folder) == []


def _approval(options: Mapping[str, Any]) -> dict[str, Any]:
    """Conversations may choose; where turns are single there is no choice."""
    return {"unasked": True, "approval": "untrusted" if options.get("warm", True) else "never"}


async def session_of(backend: CodexBackend, folder: Path, **spec: Any) -> AgentSession:
    """A session that works in `folder/work`."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return await backend.start_session(AgentSpec(**{"agent": "ses_test", "folder": work, **spec}))
