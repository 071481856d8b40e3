"""A whole workshop over real conversations, without a daemon around it, for setup files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from board_agents_kit import PlayedCommands
from desk_kit import UID, DeskKit, open_desk
from skill_actors.testing import Reply, ScriptedModel, Text
from skill_actors.workshop.board import Board, Workers
from skill_actors.workshop.board.crew import Crew
from skill_actors.workshop.entries import Entries
from skill_actors.workshop.events import Feed
from skill_actors.workshop.schedules import Schedules
from skill_actors.workshop.setup_file.setups import SetupFiles, Shop, WhatToDo
from skill_actors.workshop.workflows.runs import Runs

__all__ = ["UID", "SetupKit", "open_shop"]


@dataclass
class SetupKit:
    """Setup files, and the workshop that they make."""

    desk: DeskKit
    shop: Shop
    files: SetupFiles

    async def apply(self, given: Mapping[str, Any], *, owner_uid: int = UID, **how: Any) -> dict[str, Any]:
        return await self.files.apply(owner_uid, given, WhatToDo(**how))

    async def done(self, given: Mapping[str, Any], **how: Any) -> list[str]:
        """What was done, or with `dry_run` would be, in short."""
        found = await self.apply(given, **how)
        return [f"{step['do']} {step['kind']} {step['name']}".strip() for step in found["steps"]]

    async def exported(self, *, owner_uid: int = UID, **what: Any) -> dict[str, Any]:
        """What there is, of which nothing is left out."""
        found = await self.files.export(owner_uid, **what)
        assert found["left_out"] == []
        return dict(found["file"])


@asynccontextmanager
async def open_shop(folder: Path) -> AsyncIterator[SetupKit]:
    """A workshop whose workers look for items."""
    model = ScriptedModel(respond=lambda _: Reply([Text("fine")]))
    async with open_desk(folder, model) as desk:
        documents = desk.kit.journal.documents
        feed = Feed(documents, desk.kit.bus)
        board = Board(documents, feed.apply)
        workers = Workers(board, Crew(desk.desk), PlayedCommands(), documents, feed.apply)
        schedules, runs = Schedules(documents, feed), Runs(documents, feed)
        await schedules.open()
        await runs.open()
        shop = Shop(
            documents=documents,
            feed=feed,
            desk=desk.desk,
            board=board,
            workers=workers,
            schedules=schedules,
            runs=runs,
            entries=Entries(documents, feed),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(workers.run)
            yield SetupKit(desk, shop, SetupFiles(shop))
            nursery.cancel_scope.cancel()
