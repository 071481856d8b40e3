"""A conversation with hosted execution, its scripted model, and what was told of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from hosted_kit import FakeHosted
from session_kit import ME, Kit, open_kit
from skill_actors.testing import (
    CodeExecution,
    Reply,
    ScriptedModel,
    Text,
)
from support import run

__all__ = ["Play", "made", "play"]


class Play:
    """A session with a hosted place, and the model that it talks to."""

    def __init__(self, kit: Kit, model: ScriptedModel, hosted: FakeHosted, folder: Path) -> None:
        self.kit = kit
        self.model = model
        self.hosted = hosted
        self.folder = folder

    async def turn(self, session: str, *replies: Reply, text: str = "go", files: Sequence[Any] = ()) -> dict[str, Any]:
        """Send, with these answers to come; the turn, which must have finished."""
        self.model.enqueue(*replies)
        accepted = await self.kit.manager.submit(session, ME, text, files)
        turn = await self.kit.manager.get_turn(accepted.turn, ME, wait_s=20)
        assert turn["status"] == "finished", turn
        return turn

    async def data(self, session: str, type: str) -> list[Any]:
        return [event.data for event in await self.kit.events(session) if event.type == type]

    @property
    def last(self) -> Any:
        """The model's latest request, as JSON would have it."""
        request = self.model.requests[-1]
        return {"messages": request.messages, "tools": request.tools, "system": request.system, **request.extra}


def play(tmp_path: Path, story: Callable[[Play], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        model = ScriptedModel()
        hosted = FakeHosted(model.hosted.files)
        async with open_kit(tmp_path, model, around={"hosted": hosted}, **more) as kit:
            await story(Play(kit, model, hosted, tmp_path / "workspaces"))

    run(main)


def made(name: str = "report.xlsx", content: bytes = b"PK", said: str = "done") -> Reply:
    return Reply([CodeExecution("python make.py", files={name: content}), Text(said)])
