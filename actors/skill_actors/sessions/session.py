"""The Session actor: runs one conversation's turns, one after another.

A message is durable before the actor hears of it (`Intake.submit`), so the actor's mailbox holds only the ids of
turns. What the actor and the manager share is a `LiveSession`; both live on the trio thread. A turn stays among the
pending ones until it has its slot, so that whatever ends the actor before leaves it waiting.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from skill_actors.backends.tool_source import SourceUser
from skill_actors.runtime import ExitReason, TrioActor, TrioActorRef
from skill_actors.sessions.events import utc_now
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.pause import is_paused
from skill_actors.sessions.places import Places
from skill_actors.sessions.poison import POISONED, POISONED_WHY, try_again
from skill_actors.sessions.session_files import SessionFiles
from skill_actors.sessions.sources import SessionSources
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.turn import Turn
from skill_actors.sessions.turn_options import NO_OPTIONS, TurnOptions
from skill_actors.sessions.views import ending_view, sum_totals, tell_turn_stop
from skill_actors.store.base import JournalClosed, SessionMissing, SessionRecord, StorageFull, StoreError, TurnRecord
from skill_actors.store.faults import DamagedRow

__all__ = ["LiveSession", "QueuedTurn", "RunTurn", "Session"]

_log = logging.getLogger(__name__)
_STORE_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class QueuedTurn:
    """A durable message that waits for its turn.

    Args:
        schema: the JSON schema that the answer has to keep to, if the message asks for one.
        again: it waited already when this daemon was started.
        options: what differs in this turn from the rest of its session.
        compact: the turn makes the conversation shorter, and says nothing.
        first: it goes before those that wait already.
        resumed: it was started before this daemon was, and goes on.

    """

    record: TurnRecord
    text: str
    schema: Mapping[str, Any] | None = None
    again: bool = False
    options: TurnOptions = NO_OPTIONS
    compact: bool = False
    first: bool = False
    resumed: bool = False

    @property
    def place(self) -> tuple[bool, int]:
        """To sort those that wait by: as they came; before them, the latest first, those that go before all."""
        return (False, -self.record.seq) if self.first else (True, self.record.seq)

    @classmethod
    def of(cls, record: TurnRecord, data: Mapping[str, Any], *, again: bool = False) -> QueuedTurn:
        """From the data of its turn.queued event."""
        return cls(
            record,
            str(data["text"]),
            data.get("schema"),
            again=again,
            options=TurnOptions.of(data.get("options")),
            compact=bool(data.get("compact")),
            first=data.get("mode") == "interrupt",
        )


@dataclass(frozen=True, slots=True)
class RunTurn:
    """Run the turn that is next, as this one waits now."""

    turn: str


class LiveSession:
    """A conversation in memory: its log, its actor if one runs, and the turns that wait.

    Args:
        log: of the session.
        restarted: whether the conversation goes on from before this daemon was started, and does not know it yet.

    """

    __slots__ = (
        "_turn_ended",
        "closing",
        "deleting",
        "files",
        "holders",
        "log",
        "pending",
        "ref",
        "restarted",
        "steered",
        "submitting",
        "turn",
        "used_at",
    )

    def __init__(self, log: SessionLog, *, restarted: bool = False) -> None:
        self.log = log
        self.restarted = restarted
        self.ref: TrioActorRef[Any] | None = None
        self.files: SessionFiles | None = None  # made only while somebody asks for files or a turn runs
        self.turn: Turn | None = None
        self.closing: tuple[str, ...] = ()  # turns that waited and are just being ended: nobody can cancel them
        self.pending: dict[str, QueuedTurn] = {}  # by turn id, in the order in which they are to run
        self.steered = 0  # messages that the running turn was given
        self.holders = 0  # requests that use this session now
        self.used_at = trio.current_time()
        self.deleting = False
        self.submitting: trio.Lock | None = None
        self._turn_ended: trio.Event | None = None

    @property
    def id(self) -> str:
        return self.log.record.id

    @property
    def status(self) -> str:
        """ "paused", "waiting" (for people), "running", "queued" or "idle"."""
        if self.paused:
            return "paused"
        if self.turn is not None:
            return "waiting" if self.turn.waits else "running"
        return "queued" if self.pending else "idle"

    @property
    def paused(self) -> bool:
        """Whether nothing of it goes on until somebody says so."""
        return is_paused(self.log.record)

    @property
    def stands_still(self) -> bool:
        """Whether it is paused, and what waits is all that keeps it in memory."""
        return self.paused and self.turn is None and self.holders == 0 and not (self.closing or self.deleting)

    @contextmanager
    def written_off(self, queued: QueuedTurn) -> Iterator[None]:
        """While the block lasts a turn that waits is being ended; if that fails it waits again, where it did."""
        turn = queued.record.id
        del self.pending[turn]
        self.closing = (*self.closing, turn)
        try:
            yield
        except BaseException:
            waiting = {**self.pending, turn: queued}
            self.pending = dict(sorted(waiting.items(), key=lambda item: item[1].place))
            raise
        finally:
            self.closing = tuple(other for other in self.closing if other != turn)
        self.tell_turn_ended()

    def put(self, queued: QueuedTurn) -> None:
        """Have a turn wait; in front of the others if it is to be the first."""
        if queued.first:
            self.pending = {queued.record.id: queued, **self.pending}
        else:
            self.pending[queued.record.id] = queued

    @property
    def busy(self) -> bool:
        """Whether somebody needs this in memory."""
        return self.turn is not None or bool(self.pending or self.closing) or self.holders > 0 or self.deleting

    @property
    def unused(self) -> bool:
        """Whether nobody would miss it, and it has no actor."""
        return not self.busy and self.ref is None

    def rest(self) -> None:
        """Somebody is done with it: what nobody uses, and another one of would do as well, takes no memory any more."""
        if not self.busy and self.files is not None and self.files.is_untouched:
            self.files = None

    def is_open(self, turn: str) -> bool:
        """Whether the turn waits or runs."""
        return turn in self.pending or turn in self.closing or (self.turn is not None and self.turn.id == turn)

    @asynccontextmanager
    async def taking_in(self) -> AsyncIterator[None]:
        """One at a time takes a message in, or deletes the session. The lock exists only while somebody needs it."""
        if self.submitting is None:
            self.submitting = trio.Lock()
        lock = self.submitting
        async with lock:
            try:
                yield
            finally:
                if lock.statistics().tasks_waiting == 0:
                    self.submitting = None

    async def wait_turn_ended(self) -> None:
        """Wait until some turn of this session ends."""
        if self._turn_ended is None:
            self._turn_ended = trio.Event()
        await self._turn_ended.wait()

    def tell_turn_ended(self) -> None:
        self.used_at = trio.current_time()
        if self._turn_ended is not None:
            self._turn_ended.set()
            self._turn_ended = None


class Session(TrioActor):
    """Runs the turns of one conversation. TEMPORARY: made again when a message asks for it.

    Args:
        begin_at: when its first turn may begin, on trio's clock: after a crash it rests.
        survived: called after each turn that did not crash it.

    """

    def __init__(
        self,
        live: LiveSession,
        env: Surroundings,
        *,
        begin_at: float = 0.0,
        survived: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__()
        self._begin_at = begin_at
        self._resting = False
        self._survived = survived
        self._live = live
        self._env = env
        self._places = Places(live.id, live.log.record.settings.get("backends") or env.default_backends, env)
        self._sources = _sources_of(live.log.record, self._places, env)
        self._ranks = env.skill_uses.ranks()  # kept, so that use changes no prompt that a provider has in its cache

    async def on_receive(self, message: object) -> None:
        match message:
            case RunTurn() if self._rests_until > trio.current_time():
                self._rest_once()
            case RunTurn():
                await self._run()
            case _:
                raise TypeError(f"a session takes RunTurn, not {type(message).__name__}")

    async def teardown(self, reason: ExitReason) -> None:
        await self._places.close()
        if self._sources is not None:
            await self._sources.close()

    @property
    def _rests_until(self) -> float:
        return max(self._begin_at, self._env.resting.get(self._live.id, 0.0))

    def _rest_once(self) -> None:
        """Come back to what waits when the rest is over; beside the messages, so that a stop need not wait for it."""
        if not self._resting:
            self._resting = True
            self.spawn(self._rest)

    async def _rest(self) -> None:
        await trio.sleep_until(self._rests_until)
        self._resting = False  # where it rests on, the next message says so
        for turn in tuple(self._live.pending):
            self.actor_ref.tell(RunTurn(turn))

    async def _run(self) -> None:
        """Run the turn that is next, once there is a slot; again if the disk was too full to begin it.

        Nothing runs in a paused session: whoever lets it go on tells of all turns that wait.
        """
        live = self._live
        while live.pending and not live.paused:
            async with self._env.slots.taken(live.log.record.owner_uid):
                queued = next(iter(live.pending.values()), None)
                if queued is None or live.paused:
                    return
                if await self._perform(queued):
                    self._survived()
                    return
            await trio.sleep(_STORE_RETRY_S)

    async def _perform(self, queued: QueuedTurn) -> bool:
        """Whether the turn has ended; else it waits again, since nothing of it could be stored."""
        live = self._live
        # If this fails, it waits.
        files = live.files = live.files or SessionFiles(live.log, self._env)
        turn = Turn(
            live.log,
            queued.record,
            queued.text,
            env=self._env,
            places=self._places,
            sources=self._sources,
            files=files,
            ranks=self._ranks,
            schema=queued.schema,
            options=queued.options,
            compact=queued.compact,
            resumed=queued.resumed,
        )
        del live.pending[turn.id]
        live.turn, live.steered = turn, 0
        try:
            if queued.again:
                if not await try_again(live.log, turn.id):
                    await self._fail(turn, queued.record, POISONED, POISONED_WHY)
                    return True
                queued = replace(queued, again=False)  # waiting for room on the disk is no further attempt
            await turn.run()
        except Exception as error:
            if _only(StorageFull, error) and not (turn.started or turn.cancelled):
                _log.warning("turn %s cannot begin: %s", turn.id, error)
                live.pending = {turn.id: queued, **live.pending}
                return False
            await self._give_up(turn, queued.record, error)
        finally:
            live.turn = None
            live.rest()
            live.tell_turn_ended()
        return True

    async def _give_up(self, turn: Turn, record: TurnRecord, error: Exception) -> None:
        """The turn could not write its own ending. A full disk is waited out; a bug ends the actor."""
        if _only(StoreError, error):
            _log.error("turn %s stopped: %s", record.id, error)
            codes = ((StorageFull, "storage_full"), (DamagedRow, "session_damaged"), (StoreError, "internal"))
            code = next(code for kind, code in codes if _only(kind, error))
            await self._fail(turn, record, code, f"the turn's events could not be stored or read: {error}")
            return
        why = "an internal error ended the turn; the daemon's log has the details"
        await self._fail(turn, record, "internal", why)
        raise error

    async def _fail(self, turn: Turn, record: TurnRecord, code: str, why: str) -> None:
        """Write the failure, as soon as the store takes it."""
        log, bill = self._live.log, turn.bill
        data = ending_view(
            stop_reason=code, usage=bill.usage, cost_usd=bill.cost_usd, error={"code": code, "message": why}
        )
        failed = replace(record, status="failed", updated=utc_now(), result=data)
        while True:
            try:
                await log.close_block()
                totals = sum_totals(log.record.totals, bill.usage, bill.known_usd)
                await log.append([Draft("turn.failed", record.id, data)], turns=[failed], totals=totals)
            except (SessionMissing, JournalClosed):
                return
            except StoreError as error:
                _log.warning("turn %s: its failure cannot be stored yet: %s", record.id, error)
                await trio.sleep(_STORE_RETRY_S)
            else:
                tell_turn_stop(self._env.bus, failed, data)
                return


def _sources_of(record: SessionRecord, places: Places, env: Surroundings) -> SessionSources | None:
    """The sources of a session's further tools; None where nobody offers any."""
    if not env.tool_sources:
        return None
    user = SourceUser(session=record.id, owner_uid=record.owner_uid, settings=record.settings, workspace=places.folder)
    return SessionSources(user, env)


def _only(kind: type[StoreError], error: BaseException) -> bool:
    """Whether the error is nothing but errors of that kind."""
    if isinstance(error, BaseExceptionGroup):
        return all(_only(kind, inner) for inner in error.exceptions)
    return isinstance(error, kind)
