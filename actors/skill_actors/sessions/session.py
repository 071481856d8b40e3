"""The Session actor: runs one conversation's turns, one after another.

A message is durable before the actor hears of it (`SessionManager.submit`), so the actor's mailbox holds only the
ids of turns. What the actor and the manager share is a `LiveSession`; both live on the trio thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from skill_actors.backends.base import Executor, Workspace, WorkspaceSpec
from skill_actors.runtime import ExitReason, TrioActor, TrioActorRef
from skill_actors.sessions.events import utc_now
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.turn import Turn
from skill_actors.store.base import JournalClosed, SessionMissing, StoreError, TurnRecord

__all__ = ["LiveSession", "QueuedTurn", "RunTurn", "Session"]

_log = logging.getLogger(__name__)
_STORE_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class QueuedTurn:
    """A durable message that waits for its turn."""

    record: TurnRecord
    text: str


@dataclass(frozen=True, slots=True)
class RunTurn:
    """Run this turn, if it still waits."""

    turn: str


class LiveSession:
    """A conversation in memory: its log, its actor if one runs, and the turns that wait."""

    __slots__ = ("_turn_ended", "deleting", "followers", "log", "pending", "ref", "submitting", "turn", "used_at")

    def __init__(self, log: SessionLog) -> None:
        self.log = log
        self.ref: TrioActorRef[Any] | None = None
        self.turn: Turn | None = None
        self.pending: dict[str, QueuedTurn] = {}  # by turn id, in the order of the messages
        self.followers = 0
        self.used_at = trio.current_time()
        self.deleting = False
        self.submitting: trio.Lock | None = None
        self._turn_ended: trio.Event | None = None

    @property
    def id(self) -> str:
        return self.log.record.id

    @property
    def status(self) -> str:
        """ "running", "queued" or "idle"."""
        if self.turn is not None:
            return "running"
        return "queued" if self.pending else "idle"

    @property
    def busy(self) -> bool:
        """Whether somebody needs this in memory."""
        return self.turn is not None or bool(self.pending) or self.followers > 0 or self.deleting

    def is_open(self, turn: str) -> bool:
        """Whether the turn waits or runs."""
        return turn in self.pending or (self.turn is not None and self.turn.id == turn)

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
        live: shared with the manager.
        on_exit: told when the actor ends, whatever the reason.

    """

    def __init__(
        self, live: LiveSession, env: Surroundings, on_exit: Callable[[LiveSession, ExitReason], None]
    ) -> None:
        super().__init__()
        self._live = live
        self._env = env
        self._on_exit = on_exit
        self._workspace: Workspace | None = None
        self._opened_by: Executor | None = None

    async def on_receive(self, message: object) -> None:
        match message:
            case RunTurn(turn):
                await self._run(turn)
            case _:
                raise TypeError(f"a session takes RunTurn, not {type(message).__name__}")

    async def teardown(self, reason: ExitReason) -> None:
        await self._close_workspace()
        self._on_exit(self._live, reason)

    async def _run(self, turn: str) -> None:
        queued = self._live.pending.pop(turn, None)
        if queued is None:
            return  # cancelled while it waited
        live = self._live
        try:
            # Between here and the first await nothing else runs: the turn is always either pending or current.
            live.turn = self._make_turn(queued)
            await live.turn.run()
        except Exception as error:
            await self._give_up(queued.record, error)
        finally:
            live.turn = None
            live.tell_turn_ended()

    def _make_turn(self, queued: QueuedTurn) -> Turn:
        return Turn(
            self._live.log,
            queued.record,
            queued.text,
            env=self._env,
            executor=self._executor(),
            open_workspace=self._open_workspace,
        )

    def _executor(self) -> Executor:
        names: Sequence[str] = self._live.log.record.settings.get("backends") or self._env.default_backends
        return self._env.executors[names[0]]

    async def _open_workspace(self) -> Workspace:
        """The conversation's workspace; opened anew if its backend was restarted meanwhile."""
        executor = self._executor()
        if self._workspace is not None and self._opened_by is not executor:
            await self._close_workspace()
        if self._workspace is None:
            root = self._env.workspaces / self._live.id
            self._workspace = await executor.open(WorkspaceSpec(session=self._live.id, root=root))
            self._opened_by = executor
            self._tell_workspace("executor.init")
        return self._workspace

    async def _close_workspace(self) -> None:
        workspace, self._workspace = self._workspace, None
        if workspace is not None:
            await workspace.aclose()
            self._tell_workspace("executor.cleanup")

    def _tell_workspace(self, event: str) -> None:
        name = "" if self._opened_by is None else self._opened_by.name
        self._env.bus.emit(event, {"system_time": time.time()}, {"executor": name, "session": self._live.id})

    async def _give_up(self, record: TurnRecord, error: Exception) -> None:
        """The turn could not write its own ending. A full disk is waited out; a bug ends the actor."""
        if _only_store_errors(error):
            _log.error("turn %s stopped: %s", record.id, error)
            await self._fail(record, "storage_full", f"the turn's events could not be stored: {error}")
            return
        await self._fail(record, "internal", "an internal error ended the turn; the daemon's log has the details")
        raise error

    async def _fail(self, record: TurnRecord, code: str, why: str) -> None:
        """Write the failure, as soon as the store takes it."""
        log = self._live.log
        data = {
            "text": "",
            "stop_reason": code,
            "usage": None,
            "cost_usd": None,
            "duration_ms": None,
            "error": {"code": code, "message": why},
        }
        failed = replace(record, status="failed", updated=utc_now(), result=data)
        while True:
            try:
                await log.close_block()
                await log.append([Draft("turn.failed", record.id, data)], turns=[failed])
            except (SessionMissing, JournalClosed):
                return
            except StoreError as error:
                _log.warning("turn %s: its failure cannot be stored yet: %s", record.id, error)
                await trio.sleep(_STORE_RETRY_S)
            else:
                self._env.bus.emit("turn.stop", {"duration": 0.0}, {"outcome": "failed", "stop_reason": code})
                return


def _only_store_errors(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_only_store_errors(inner) for inner in error.exceptions)
    return isinstance(error, StoreError)
