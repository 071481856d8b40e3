"""A board over a real journal, on trio's own clock or a virtual one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from skill_actors.store import SqliteJournal
from skill_actors.workshop.board import Board, Item, Outcome

ME = 1000
OTHER = 1001


@dataclass(frozen=True)
class BoardKit:
    """A board, and the journal it is kept in."""

    journal: SqliteJournal
    board: Board

    async def add(self, id: str, *depends_on: str, **fields: Any) -> Item:
        """One item, with its id as its title."""
        draft = {"id": id, "title": id, "depends_on": list(depends_on), **fields}
        (item,) = await self.board.add(ME, [draft])
        return item

    async def take(self, id: str, *, holder: str = "me", **claim: Any) -> str:
        """Claim and start an item; the token."""
        item = await self.board.claim(ME, holder, id=id, **claim)
        assert item is not None
        assert item.lease is not None
        await self.board.start(ME, id, item.lease.token)
        return item.lease.token

    async def do(self, id: str, result: str = "done") -> Item:
        """Claim, start and complete an item."""
        return await self.board.complete(ME, id, await self.take(id), Outcome(result=result))

    async def statuses(self) -> dict[str, str]:
        return {item.id: item.status for item in await self.board.list(ME)}

    async def stored(self) -> dict[str, str]:
        """The statuses as the documents have them."""
        documents = await self.journal.documents.list("item", owner_uid=ME)
        return {document.name: document.data["status"] for document in documents}

    async def events(self, *, after: int = 0) -> list[tuple[str, str]]:
        """Names of the events and their items."""
        found = await self.journal.documents.events(after=after, owner_uid=ME, topics=["work"])
        return [(event.name, str(event.data["item"])) for event in found]


@asynccontextmanager
async def open_board(folder: Path, *, running: bool = False, **options: Any) -> AsyncIterator[BoardKit]:
    """A board; with `running` it takes back leases."""
    async with (
        await SqliteJournal.open(folder / "journal.db", reserve_bytes=0) as journal,
        trio.open_nursery() as nursery,
    ):
        board = Board(journal.documents, journal.documents.apply, **options)
        if running:
            await nursery.start(board.run)
        yield BoardKit(journal, board)
        nursery.cancel_scope.cancel()
