"""One hand of a board worker: an agent that takes items, one after the other, and sees each to its end.

    look -> claim -> a conversation anew -> message -> start -> wait for the turn -> verify -> complete or fail

The message has the claim's token as its idempotency key, and the turn's id is stored with the start, so that a hand
that is made again after a crash goes on where the one before was: an item that was started is waited for by its turn,
one that was only claimed is begun anew in a conversation anew, which ends whatever the old one was about to do.
While it works it renews its lease; whoever takes the item away (cancels it) cancels the turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Protocol

import trio

from skill_actors.errors import Refused
from skill_actors.runtime.spec import Backoff
from skill_actors.store.base import StoreError
from skill_actors.workshop.board.assignment import NotDone, assignment_text, outcome_of_turn
from skill_actors.workshop.board.board import Board
from skill_actors.workshop.board.item import Item
from skill_actors.workshop.board.item_trees import KeepsTrees, Unmerged
from skill_actors.workshop.board.outcome import Outcome
from skill_actors.workshop.board.worker import Worker

__all__ = ["CommandResult", "Hand", "HandState", "RunsCommands", "WorkerAgents"]

_LOOK_AGAIN_S: Final = 1.0
_BEATS: Final = 3  # in the time of a lease
_BACKOFF: Final = Backoff(initial_s=1.0, max_s=60.0)

_log = logging.getLogger(__name__)


class WorkerAgents(Protocol):
    """The agents of workers. Errors are Refused."""

    async def prepare(self, owner_uid: int, name: str, settings: Mapping[str, Any], *, worker: str) -> None:
        """See that there is an agent of this name; one that the worker has had before is left as it is."""

    async def begin(
        self,
        owner_uid: int,
        name: str,
        text: str,
        *,
        key: str,
        schema: Mapping[str, Any] | None,
        folder: str | None = None,
    ) -> str:
        """Give the agent a conversation anew, which ends the one before, and a message in it; the turn's id.

        Args:
            folder: where it works; None for its own.

        """

    async def ended(self, owner_uid: int, turn: str) -> Mapping[str, Any]:
        """The turn, once it has ended."""

    async def cancel(self, owner_uid: int, turn: str) -> None:
        """End a turn; one that has ended stays as it is."""

    async def dismiss(self, owner_uid: int, name: str) -> None:
        """Let the agent go; there may be none."""

    async def last_result(self, owner_uid: int, name: str) -> tuple[str, str]:
        """The text of the turn that ended last with an agent, and its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a verification ended: what it has printed, or why it was not run, in `told`."""

    passed: bool
    told: str = ""


class RunsCommands(Protocol):
    """Runs the commands of verifications."""

    async def run(self, owner_uid: int, session: str, argv: Sequence[str], timeout_s: float) -> CommandResult:
        """Run one where the conversation works, if the policy permits it. Raises Refused."""


@dataclass(slots=True, kw_only=True)
class HandState:
    """What a hand does, for lists. `turn`: of the item it works on."""

    agent: str
    item: str | None = None
    turn: str | None = None
    since: str | None = None
    done: int = 0
    failed: int = 0
    why: str = ""  # nothing can be done at the moment

    def view(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "agent": self.agent,
            "item": self.item,
            "turn": self.turn,
            "since": self.since,
            "done": self.done,
            "failed": self.failed,
            "error": self.why or None,
        }


class Hand:
    """Works until it is told to stop. Belongs to the trio thread; `run` may be called once.

    Args:
        worker: whose hand it is.
        number: from 1 on; its agent is called after it.
        accepts: whether anything new may be begun.
        now: the time, as documents have it.
        trees: worktrees of items, for workers whose items have some.

    """

    def __init__(
        self,
        worker: Worker,
        number: int,
        *,
        board: Board,
        agents: WorkerAgents,
        commands: RunsCommands,
        accepts: Callable[[], bool],
        now: Callable[[], str],
        trees: KeepsTrees | None = None,
    ) -> None:
        self.state = HandState(agent=worker.agent(number))
        self._worker = worker
        self._owner_uid = worker.owner_uid
        self._board = board
        self._agents = agents
        self._commands = commands
        self._trees = trees if worker.worktree else None
        self._accepts = accepts
        self._now = now
        self._stopping = trio.Event()
        self._working: trio.CancelScope | None = None

    def stop(self) -> None:
        """Take nothing more; `run` returns when the item at hand has ended."""
        self._stopping.set()

    def give_back(self) -> None:
        """Stop, and let go of the item at hand: its turn is cancelled, and it can be taken by somebody else."""
        self.stop()
        if self._working is not None:
            self._working.cancel()

    async def run(self) -> None:
        """Work. If it is cancelled, everything stays as it is, for a hand of the same name to go on."""
        failures = 0
        while not self._stopping.is_set():
            try:
                await self._prepare()
                await self._take_up()
                while not self._stopping.is_set():
                    await self._next()
                    failures = 0
            except (Refused, StoreError) as error:
                self.state.why = str(error)
                _log.warning("worker %s rests: %s", self.state.agent, error)
                await self._rest(_BACKOFF.delay_s(failures))
                failures += 1

    async def _prepare(self) -> None:
        settings, worker = self._worker.agent_settings, self._worker.name
        await self._agents.prepare(self._owner_uid, self.state.agent, settings, worker=worker)

    async def _take_up(self) -> None:
        """Go on with what the hand before had, also with cleaning up."""
        if self._trees is not None and self._worker.merge is not None:
            for item in await self._board.list(
                self._owner_uid, lambda item: item.status == "done" and bool(item.worktree)
            ):
                await self._trees.clean(self._owner_uid, item)
        for item in await self._board.held_by_worker(self._owner_uid, self.state.agent):
            await self._see_to(item)

    async def _next(self) -> None:
        """Do one item, or wait until there may be one."""
        if not self._accepts():
            await self._rest(_LOOK_AGAIN_S)
            return
        work = self._board.work(self._owner_uid)
        item = await self._board.claim(
            self._owner_uid,
            self.state.agent,
            types=self._worker.types,
            names={self.state.agent, *self._worker.names},
            lease_s=self._worker.lease_s,
            worker=True,
        )
        self.state.why = ""
        if item is not None:
            await self._see_to(item)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_first_of, work, nursery.cancel_scope)
            nursery.start_soon(_first_of, self._stopping, nursery.cancel_scope)

    async def _rest(self, pause_s: float) -> None:
        with trio.move_on_after(pause_s):
            await self._stopping.wait()

    # -- one item ------------------------------------------------------------------------------------------------

    async def _see_to(self, item: Item) -> None:
        """Work on an item that is held, until it has ended, was given back or was taken away.

        Raises Refused where nothing can be done at the moment, and the item was given back for it.
        """
        assert item.lease is not None
        token = item.lease.token
        self.state.item, self.state.since, self.state.turn = item.id, self._now(), item.turn
        hindered: Refused | None = None
        try:
            with trio.CancelScope() as scope:
                self._working = scope
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keep, item.id, token)
                    hindered = await self._work(item, token)
                    nursery.cancel_scope.cancel()
            if scope.cancelled_caught:
                await self._let_go(item.id, token)
        finally:
            self._working = None
            self.state.item = self.state.turn = self.state.since = None
        if hindered is not None:
            raise hindered

    async def _work(self, item: Item, token: str) -> Refused | None:
        """See an item to its end; what hindered it, if it was given back for that."""
        try:
            outcome = await self._attempt(item, token)
            done = await self._bring_home(item)
            await self._complete(item.id, token, outcome)
            self.state.done += 1
            if done is not None and self._trees is not None and self._worker.merge is not None:
                await self._trees.clean(self._owner_uid, done)
        except NotDone as why:
            await self._failed(item, token, str(why))
        except Unmerged as why:  # another attempt would do the same work again, and not find it any easier
            await self._failed(item, token, str(why), final=True)
        except Refused as refused:
            if refused.details.get("reason") == "lease_lost":
                await self._cancel_turn()
            elif refused.retryable:  # not the item's fault
                await self._let_go(item.id, token)
                return refused
            else:
                await self._failed(item, token, f"{refused.code}: {refused.message}")
        except StoreError as error:
            return Refused("storage_full", f"the state cannot be read: {error}")
        except Exception:  # a hand outlives what one item does to it
            _log.exception("worker %s failed at the item %s", self.state.agent, item.id)
            await self._failed(item, token, "internal: the worker failed; the daemon's log says how")
        return None

    async def _complete(self, id: str, token: str, outcome: Outcome) -> None:
        """The work is done: a disk that is full for a while must not undo it. Raises Refused."""
        for failures in count():
            try:
                await self._board.complete(self._owner_uid, id, token, outcome)
                return
            except Refused as refused:
                if not refused.retryable:
                    raise
                self.state.why = str(refused)
            await trio.sleep(_BACKOFF.delay_s(failures))

    async def _attempt(self, item: Item, token: str) -> Outcome:
        """Have the agent do it, and verify. Raises NotDone, Refused."""
        if item.turn is None:
            folder = None if self._trees is None else await self._fresh(self._trees, item)
            turn = await self._begin(item, token, folder)
            await self._board.start(self._owner_uid, item.id, token, turn=turn, worktree=folder)
        else:
            turn = item.turn
        self.state.turn = turn
        ended = await self._agents.ended(self._owner_uid, turn)
        outcome = outcome_of_turn(item, ended)
        if item.verify is not None and item.verify.argv:
            await self._verify(item.verify.argv, item.verify.timeout_s, str(ended["session"]))
            return Outcome(result=outcome.result, structured=outcome.structured, command_passed=True)
        return outcome

    async def _fresh(self, trees: KeepsTrees, item: Item) -> str:
        await self._prepare()
        return await trees.fresh(self._owner_uid, self.state.agent, item)

    async def _bring_home(self, item: Item) -> Item | None:
        """Commit what the agent has made in the item's worktree, and merge it if that is wanted; None without one."""
        if self._trees is None:
            return None
        now = await self._board.get(self._owner_uid, item.id)
        if now.worktree is None:
            return None
        await self._trees.bring_home(self._owner_uid, now, merge=self._worker.merge is not None)
        return now

    async def _begin(self, item: Item, token: str, folder: str | None) -> str:
        await self._prepare()  # somebody may have dismissed it
        inputs = [await self._board.get(self._owner_uid, id) for id in item.depends_on]
        schema = None if item.verify is None else item.verify.schema
        text, key = assignment_text(item, inputs), f"board/{token}"
        return await self._agents.begin(self._owner_uid, self.state.agent, text, key=key, schema=schema, folder=folder)

    async def _verify(self, argv: Sequence[str], timeout_s: float, session: str) -> None:
        found = await self._commands.run(self._owner_uid, session, argv, timeout_s)
        if not found.passed:
            raise NotDone(f"the command {list(argv)} did not pass: {found.told}")

    async def _failed(self, item: Item, token: str, why: str, *, final: bool = False) -> None:
        self.state.failed += 1
        with suppress(Refused):  # it was taken away meanwhile, which is an answer too
            await self._board.fail(self._owner_uid, item.id, token, why, final=final)

    async def _let_go(self, id: str, token: str) -> None:
        await self._cancel_turn()
        with suppress(Refused):
            await self._board.release(self._owner_uid, id, token, f"given back by {self.state.agent}")

    async def _cancel_turn(self) -> None:
        if self.state.turn is not None:
            with suppress(Refused):
                await self._agents.cancel(self._owner_uid, self.state.turn)

    async def _keep(self, id: str, token: str) -> None:
        """Renew the lease, and end the turn if the item is taken away."""
        while True:
            changed = self._board.changed(self._owner_uid)
            try:
                await self._board.heartbeat(self._owner_uid, id, token)
            except Refused:
                await self._cancel_turn()
                return
            except StoreError as error:  # the lease goes on running
                _log.warning("worker %s cannot look at the board: %s", self.state.agent, error)
            with trio.move_on_after(self._worker.lease_s / _BEATS):
                await changed.wait()


async def _first_of(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
