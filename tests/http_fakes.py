"""A small session manager in memory, so that the socket can be tested without a tree behind it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import trio

from skill_actors.errors import Refused
from skill_actors.files.content import NewFile, OpenFile, delete_file, open_file
from skill_actors.files.ref import FileRef
from skill_actors.files.snapshot import scan
from skill_actors.ids import new_id
from skill_actors.sessions.events import TURN_ENDINGS, Event, Position, utc_now
from skill_actors.sessions.intake import Mode
from skill_actors.sessions.table import Viewer
from skill_actors.sessions.wanted import Wanted
from skill_actors.skills.base import SkillSnapshot


@dataclass(frozen=True)
class FakeAccepted:
    turn: str
    session: str
    seq: int
    status: str = "queued"

    def to_dict(self) -> dict[str, Any]:
        return {"turn": self.turn, "session": self.session, "seq": self.seq, "status": self.status, "duplicate": False}


@dataclass
class FakeSession:
    view: dict[str, Any]
    events: list[Event] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)


class FakeSessions:
    """Keeps sessions in a dict. A message is answered at once unless its text is "slow"."""

    def __init__(self) -> None:
        self.sessions: dict[str, FakeSession] = {}
        self.cancelled: list[str] = []
        self.keys: list[str | None] = []
        self.files: list[tuple[str, bytes]] = []
        self.followers = 0
        self.failure: Exception | None = None
        self.wanted: Wanted | None = None
        self.asked: list[tuple[Any, ...]] = []

    def publish(self, session: str, type: str, turn: str | None = None, **data: Any) -> Event:
        kept = self.sessions[session]
        event = Event(seq=len(kept.events) + 1, type=type, time=utc_now(), session=session, turn=turn, data=data)
        kept.events.append(event)
        kept.news.set()
        kept.news = trio.Event()
        return event

    def _find(self, session: str, viewer: Viewer) -> FakeSession:
        kept = self.sessions.get(session)
        if kept is None or not (viewer.admin or kept.view["owner_uid"] == viewer.uid):
            raise Refused("not_found", f"no session {session}")
        return kept

    async def create(
        self, owner_uid: int, settings: Mapping[str, Any], idempotency_key: str | None = None
    ) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        self.keys.append(idempotency_key)
        view = {"id": new_id("ses"), "owner_uid": owner_uid, **settings}
        self.sessions[view["id"]] = FakeSession(view)
        return view

    async def get(self, session: str, viewer: Viewer) -> dict[str, Any]:
        return self._find(session, viewer).view

    async def list(
        self, viewer: Viewer, *, limit: int, cursor: str | None, wanted: Wanted | None = None
    ) -> dict[str, Any]:
        self.wanted = wanted
        items = [s.view for s in self.sessions.values() if viewer.admin or s.view["owner_uid"] == viewer.uid]
        return {"items": items[:limit], "next": None}

    async def skills(self, session: str, viewer: Viewer) -> SkillSnapshot:
        self._find(session, viewer)
        return SkillSnapshot()

    async def update(self, session: str, viewer: Viewer, changes: Mapping[str, Any]) -> dict[str, Any]:
        kept = self._find(session, viewer)
        kept.view.update(changes)
        return kept.view

    async def fork(
        self,
        session: str,
        viewer: Viewer,
        *,
        after: int | None = None,
        title: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        self._find(session, viewer)
        self.asked.append(("fork", session, after, title, idempotency_key))
        return await self.create(viewer.uid, {"title": title})

    async def hand_over(self, session: str, viewer: Viewer, asked: dict[str, Any]) -> dict[str, Any]:
        self._find(session, viewer)
        self.asked.append(("hand_over", session, asked))
        return {"name": asked["name"], "place": asked["to"], "size": 1, "checksum": "sha256:0"}

    async def reset(self, session: str, viewer: Viewer, *, workspace: bool = False) -> dict[str, Any]:
        self.asked.append(("reset", session, workspace))
        return self._find(session, viewer).view

    @asynccontextmanager
    async def export(self, session: str, viewer: Viewer) -> AsyncIterator[AsyncIterator[str]]:
        kept = self._find(session, viewer)

        async def lines() -> AsyncIterator[str]:
            for event in kept.events:
                await trio.lowlevel.checkpoint()
                yield event.to_json()

        yield lines()

    async def import_session(self, owner_uid: int, raw: bytes, idempotency_key: str | None = None) -> dict[str, Any]:
        self.asked.append(("import", raw, idempotency_key))
        return await self.create(owner_uid, {"title": "imported"})

    async def delete(self, session: str, viewer: Viewer) -> None:
        self._find(session, viewer)
        del self.sessions[session]

    async def submit(
        self,
        session: str,
        viewer: Viewer,
        text: str,
        files: Sequence[tuple[str, bytes]] = (),
        idempotency_key: str | None = None,
        artifacts: Sequence[Mapping[str, Any]] = (),
        schema: Mapping[str, Any] | Literal[False] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        mode: Mode = "follow_up",
        compact: bool = False,
        pinned: bool = False,
    ) -> FakeAccepted:
        self._find(session, viewer)
        self.keys.append(idempotency_key)
        self.files += files
        self.asked.append(("submit", mode, options, schema, pinned, compact))
        if mode == "steer":
            return FakeAccepted(new_id("trn"), session, 7, "steered")
        turn = new_id("trn")
        queued = self.publish(session, "turn.queued", turn, text=text)
        if text != "slow":
            self.publish(session, "turn.finished", turn, text=f"you said {text}")
        return FakeAccepted(turn, session, queued.seq)

    async def cancel(self, session: str, viewer: Viewer, *, queued: bool = False) -> dict[str, Any]:
        self._find(session, viewer)
        return {"cancelled": ["all"] if queued else []}

    async def pause(self, session: str, viewer: Viewer) -> dict[str, Any]:
        return self._find(session, viewer).view | {"status": "paused"}

    async def resume(self, session: str, viewer: Viewer) -> dict[str, Any]:
        return self._find(session, viewer).view | {"status": "idle"}

    async def get_turn(self, turn: str, viewer: Viewer, *, wait_s: float = 0.0) -> dict[str, Any]:
        return {"turn": turn, "waited": wait_s}

    async def cancel_turn(self, turn: str, viewer: Viewer) -> dict[str, Any]:
        self.cancelled.append(turn)
        return {"cancelled": [turn]}

    @asynccontextmanager
    async def follow(
        self, session: str, viewer: Viewer, *, after: Position, turn: str | None = None, live: bool = True
    ) -> AsyncIterator[AsyncIterator[Event]]:
        kept = self._find(session, viewer)
        self.followers += 1
        events = self._events(kept, after, turn, live)
        try:
            yield events
        finally:
            self.followers -= 1
            await events.aclose()  # type: ignore[attr-defined]

    async def _events(self, kept: FakeSession, after: Position, turn: str | None, live: bool) -> AsyncIterator[Event]:
        place = after.seq
        while True:
            news = kept.news
            for event in kept.events[place:]:
                place = event.seq
                if turn in (None, event.turn):
                    yield event
                    if turn is not None and event.type in TURN_ENDINGS:
                        return
            if not live:
                return
            await news.wait()


class FolderFiles:
    """The files of every session in one real folder; names and links are judged as ever."""

    def __init__(self, root: Path) -> None:
        self.root = root

    async def listing(self, session: str, viewer: Viewer, *, limit: int, cursor: str | None) -> dict[str, Any]:
        items = [FileRef(path=name, size=mark.size).to_dict() for name, mark in scan(self.root).marks.items()]
        return {"items": items[:limit], "next": cursor}

    async def open(
        self, session: str, viewer: Viewer, name: str, *, source: str | None = None
    ) -> tuple[FileRef, OpenFile]:
        file = open_file(self.root, name)
        return FileRef(path=name, size=file.mark.size, source=source or "local"), file

    async def put(
        self,
        session: str,
        viewer: Viewer,
        name: str,
        content: AsyncIterable[bytes],
        *,
        size: int | None = None,
        replace: bool = True,
        source: str | None = None,
    ) -> tuple[FileRef, bool]:
        with NewFile(self.root, name) as new:
            async for piece in content:
                new.write(piece)
            _, created = new.commit(replace=replace)
            return FileRef(path=name, size=new.size, checksum=new.checksum), created

    async def delete(self, session: str, viewer: Viewer, name: str, *, source: str | None = None) -> None:
        delete_file(self.root, name)

    async def fetch(self, session: str, viewer: Viewer, stored: str | None = None) -> dict[str, Any]:
        return {"files": [stored], "unchanged": 0, "bytes": 0, "failed": {}}

    async def purge(self, session: str, viewer: Viewer) -> dict[str, Any]:
        return {"files": [], "unchanged": 0, "bytes": 0, "failed": {}}

    async def presigned_url(self, session: str, viewer: Viewer, name: str, expires_s: int) -> dict[str, Any]:
        return {"url": f"https://storage/{name}", "expires_s": expires_s}
