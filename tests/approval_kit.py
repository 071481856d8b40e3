"""Approvals in tests: a desk with a real journal and one log, and conversations whose calls need an approval."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import trio

from session_kit import ME, Kit, open_kit
from skill_actors.ids import new_id
from skill_actors.sessions.approvals import ApprovalDesk, ApprovalRequest, Approver, DeskLimits
from skill_actors.sessions.events import Event, Position
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.policy import RuleSet, parse_rules
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.store import SessionRecord, SqliteJournal, TurnRecord
from skill_actors.telemetry import Bus
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse

NOW = "2026-01-01T00:00:00.000Z"


@dataclass
class Clock:
    """The time of the day, which only the test moves."""

    now: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class News:
    """Waits for what the bus tells of."""

    def __init__(self, bus: Bus) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self._something = trio.Event()
        bus.attach(f"news_{id(self)}", ["*"], self._hear)

    def _hear(self, name: str, numbers: Mapping[str, float], meta: Mapping[str, object]) -> None:
        self.told.append((name, dict(meta)))
        self._something.set()
        self._something = trio.Event()

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """Look whenever there is news; 20 s at most."""
        with trio.fail_after(20):
            while True:
                something = self._something
                if await check():
                    return
                await something.wait()


@dataclass
class Desk:
    """What a test may look into and turn."""

    journal: SqliteJournal
    log: SessionLog
    desk: ApprovalDesk
    bus: Bus
    clock: Clock
    news: News

    @property
    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """What was on the bus: names, and metadata."""
        return self.news.told

    @property
    def session(self) -> str:
        return self.log.record.id

    async def begin(self, turn: str | None = None) -> str:
        """A turn that runs; its id."""
        id = turn or new_id("trn")
        record = TurnRecord(id=id, session=self.session, seq=0, status="running", created=NOW, updated=NOW)
        await self.log.queue(Draft("turn.queued", id, {"text": "x"}), record)
        return id

    def request(self, turn: str, call: str = "toolu_1", **changes: Any) -> ApprovalRequest:
        made: dict[str, Any] = {
            "session": self.session,
            "turn": turn,
            "call": call,
            "tool": "bash_tool",
            "place": "local",
            "backend": "local",
            "input": {"command": "rm -r build", "description": "d"},
            "cwd": "/w",
        }
        return ApprovalRequest(**{**made, **changes})

    async def pending(self) -> list[dict[str, Any]]:
        return list((await self.desk.list(None))["items"])

    async def waiting(self, count: int = 1) -> list[str]:
        """Ids of those that are pending, as soon as there are so many that somebody waits for, the oldest first."""
        await self.news.until(partial(self._are_pending, count))
        with trio.fail_after(20):
            while len(self.desk._waiters) < count:  # noqa: ASYNC110  # who asks comes to wait behind the storing
                await trio.sleep(0.001)
        return [item["id"] for item in reversed(await self.pending())]

    async def _are_pending(self, count: int) -> bool:
        return len(await self.pending()) >= count

    async def events(self) -> list[Event]:
        async with self.log.follow(Position(), live=False) as events:
            return [event async for event in events if event.type.startswith("approval.")]


@asynccontextmanager
async def open_desk(
    folder: Path,
    *,
    session: str = "ses_" + "a" * 26,
    clock: Clock | None = None,
    limits: DeskLimits | None = None,
    can_approve: Callable[[], bool] = lambda: True,
    wrap: Callable[[SqliteJournal], Any] = lambda journal: journal,
    **settings: Any,
) -> AsyncIterator[Desk]:
    """A desk, as after a start of the daemon; the session is made if it is not there."""
    clock, bus = clock or Clock(), Bus()
    async with await SqliteJournal.open(folder / "journal.db", reserve_bytes=0) as journal:
        record = await journal.get_session(session)
        if record is None:
            record = SessionRecord(id=session, owner_uid=1000, created=NOW, updated=NOW, settings=settings)
            await journal.create_session(record)
        log = SessionLog(wrap(journal), record)
        desk = ApprovalDesk(journal, bus, limits=limits, can_approve=can_approve, now=clock)
        log.approvals = desk

        @asynccontextmanager
        async def open_log(id: str) -> AsyncIterator[SessionLog]:
            assert id == session
            yield log

        desk.open_log = open_log
        yield Desk(journal, log, desk, bus, clock, News(bus))


ANN = Approver(1001, "ann")
ASK_ALL = [{"effect": "ask", "tool": tool} for tool in ("bash_tool", "create_file", "str_replace")]


def bash(command: str) -> ToolUse:
    return ToolUse("bash_tool", {"command": command, "description": "d"})


def defaults(rules: Sequence[Mapping[str, Any]] = ASK_ALL, **more: Any) -> SessionDefaults:
    return SessionDefaults(policy=RuleSet(rules=parse_rules(list(rules))), **more)


class Conversation:
    """A session whose message is being answered."""

    def __init__(self, kit: Kit, session: str, folder: Path) -> None:
        self.kit = kit
        self.session = session
        self.folder = folder
        desk = kit.manager.approvals
        assert desk is not None
        self.desk: ApprovalDesk = desk
        self.news = News(kit.bus)

    async def send(self, text: str = "go") -> str:
        return (await self.kit.manager.submit(self.session, ME, text)).turn

    async def asked(self, count: int = 1) -> list[dict[str, Any]]:
        """What is pending, the oldest first, as soon as there is so much."""

        async def are_asked() -> bool:
            return len((await self.desk.list(None))["items"]) >= count

        await self.news.until(are_asked)
        return list(reversed((await self.desk.list(None))["items"]))

    async def until_finished(self, calls: int) -> None:
        """Wait until so many calls have a result."""
        with trio.fail_after(20):
            async with self.kit.manager.follow(self.session, ME, after=Position()) as events:
                async for event in events:
                    calls -= event.type == "tool.finished"
                    if not calls:
                        return

    async def allow(self, id: str, **more: Any) -> dict[str, Any]:
        return await self.desk.decide(id, ANN, {"decision": "allow", **more})

    async def end(self, turn: str) -> dict[str, Any]:
        ended = await self.kit.manager.get_turn(turn, ME, wait_s=20)
        assert ended["status"] not in ("queued", "running")
        return ended

    async def results(self) -> list[str]:
        events = await self.kit.events(self.session)
        return [event.data["content"] for event in events if event.type == "tool.finished"]

    async def started(self) -> list[dict[str, Any]]:
        return [dict(event.data) for event in await self.kit.events(self.session) if event.type == "tool.started"]


@asynccontextmanager
async def conversation(
    folder: Path,
    *calls: Sequence[ToolUse],
    settings: Mapping[str, Any] | None = None,
    model: ScriptedModel | None = None,
    session: str | None = None,
    **more: Any,
) -> AsyncIterator[Conversation]:
    """A session, a new one if none is named, with a model that makes these calls, message by message; then "done"."""
    if model is None:
        model = ScriptedModel(
            [*(Reply(list(message)) for message in calls), *(Reply([Text("done")]) for _ in range(4))]
        )
    given = {"defaults": defaults(), "desk": ApprovalDesk, **more}
    async with open_kit(folder, model, **given) as kit:
        session = session or await kit.session(**(settings or {}))
        yield Conversation(kit, session, folder / "workspaces" / session)
