"""The board workers of all owners: kept as documents, working in one nursery, stopped with grace.

A worker that was stopped is gone at once for the store, so that no restart brings it back; its hands finish what they
have, or give it back when the time they were given is over. When the daemon stops, hands are left as they are: what
they had is taken up again after the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio

from skill_actors.errors import Refused
from skill_actors.store.documents import Change, Document, NewEvent
from skill_actors.workshop.board.board import Board, utc_now
from skill_actors.workshop.board.changing import WORKER_TOPIC, Apply
from skill_actors.workshop.board.hand import Hand, RunsCommands, WorkerAgents
from skill_actors.workshop.board.item import Item
from skill_actors.workshop.board.item_trees import KeepsTrees
from skill_actors.workshop.board.worker import WORKER_KIND, Worker
from skill_actors.workshop.names import check_name, document_id
from skill_actors.workshop.refusals import refusing

__all__ = ["Workers"]

_PAGE: Final = 500
_MAX_WORKERS: Final = 100  # of one owner
_GIVE_BACK_S: Final = 15.0  # for turns that are cancelled to end


class ListsDocuments(Protocol):
    """What workers read of the documents."""

    async def list(
        self, kind: str, *, owner_uid: int | None = None, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[Document]: ...


@dataclass(slots=True)
class _Crew:
    """A worker and its hands."""

    worker: Worker
    hands: Sequence[Hand]
    left: int
    ended: trio.Event


class Workers:
    """Belongs to the trio thread. `run` has to be running for anything to be done; errors are Refused.

    Args:
        documents: where workers are kept.
        apply: stores them, with the events that tell of them.
        trees: worktrees of items; None where there are none.
        accepts: whether anything new may be begun.
        now: the time, as documents have it.

    """

    def __init__(
        self,
        board: Board,
        agents: WorkerAgents,
        commands: RunsCommands,
        documents: ListsDocuments,
        apply: Apply,
        *,
        accepts: Callable[[], bool] = lambda: True,
        now: Callable[[], str] = utc_now,
        trees: KeepsTrees | None = None,
    ) -> None:
        self._board = board
        self._agents = agents
        self._commands = commands
        self._documents = documents
        self._apply = apply
        self._accepts = accepts
        self._now = now
        self._trees = trees
        self._crews: dict[tuple[int, str], _Crew] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Have all stored workers work, until this is cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for worker in await self.stored():
                    self._employ(worker)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._crews.clear()

    # -- what clients ask for ------------------------------------------------------------------------------------

    async def start(self, owner_uid: int, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Make a worker; its JSON form. Raises Refused: bad_request, conflict, storage_full, draining."""
        worker = Worker.read(owner_uid, name, given, self._board.types)
        if (owner_uid, name) in self._crews:
            raise Refused("conflict", f"there is a worker {name!r} already; stop it first")
        if sum(owner == owner_uid for owner, _ in self._crews) >= _MAX_WORKERS:
            raise Refused("overloaded", f"you have {_MAX_WORKERS} workers already; stop some")
        self._running()
        for number in range(1, worker.count + 1):  # what is wrong with them is told now
            await self._agents.prepare(owner_uid, worker.agent(number), worker.agent_settings, worker=name)
        if worker.worktree and self._trees is not None:
            await self._trees.check(owner_uid, worker.agent(1))
        await self._store(worker.change(), "added", worker)
        return self._view(self._employ(worker))

    async def stop(self, owner_uid: int, name: str, *, drain_s: float = 30.0) -> dict[str, Any]:
        """Stop a worker: nothing more is taken, and what its agents have is finished, or given back after `drain_s`.

        Returns its JSON form of then. Its agents are dismissed. Raises Refused: not_found, storage_full, draining.
        """
        crew = self._crew(owner_uid, name)
        gone = Change(kind=WORKER_KIND, id=document_id(owner_uid, name), owner_uid=owner_uid, data=None, expected=None)
        await self._store(gone, "removed", crew.worker)
        for hand in crew.hands:
            hand.stop()
        with trio.move_on_after(drain_s):
            await crew.ended.wait()
        for hand in crew.hands:
            hand.give_back()
        with trio.move_on_after(_GIVE_BACK_S):
            await crew.ended.wait()
        self._crews.pop((owner_uid, name), None)
        for hand in crew.hands:
            with suppress(Refused):
                await self._agents.dismiss(owner_uid, hand.state.agent)
        return self._view(crew)

    def get(self, owner_uid: int, name: str) -> dict[str, Any]:
        """One worker and what its agents do. Raises Refused("not_found")."""
        return self._view(self._crew(owner_uid, name))

    def list(self, owner_uid: int) -> Sequence[dict[str, Any]]:
        """All of an owner, by name."""
        return [self._view(crew) for (owner, _), crew in sorted(self._crews.items()) if owner == owner_uid]

    async def worktrees(self, owner_uid: int) -> Sequence[dict[str, Any]]:
        """The worktrees of an owner's items that are there, in the items' order."""
        if self._trees is None:
            return []
        items = await self._board.list(owner_uid, lambda item: item.worktree is not None)
        found = [await self._trees.shown(owner_uid, item) for item in items]
        return [tree for tree in found if tree is not None]

    async def item_from_result(self, owner_uid: int, agent: str, draft: Mapping[str, Any]) -> Item:
        """Put what an agent answered last on the board, as the specification of an item."""
        text, turn = await self._agents.last_result(owner_uid, check_name(agent, "agent"))
        spec = "\n\n".join(filter(None, (str(draft.get("spec") or ""), text)))
        meta = {**(draft.get("meta") or {}), "from_agent": agent, "from_turn": turn}
        (item,) = await self._board.add(owner_uid, [{**draft, "spec": spec, "meta": meta}])
        return item

    # -- helpers -------------------------------------------------------------------------------------------------

    async def stored(self, owner_uid: int | None = None) -> Sequence[Worker]:
        """The workers that there are to be, of one owner or of all: right after a start they do not work yet."""
        found: list[Worker] = []
        after = ""
        while documents := await self._documents.list(WORKER_KIND, owner_uid=owner_uid, after=after, limit=_PAGE):
            found.extend(map(Worker.of, documents))
            after = documents[-1].id
        return found

    def _running(self) -> trio.Nursery:
        if self._nursery is None:
            raise Refused("draining", "the workers are being started or stopped; try again in a moment")
        return self._nursery

    def _employ(self, worker: Worker) -> _Crew:
        hands = [
            Hand(
                worker,
                number,
                board=self._board,
                agents=self._agents,
                commands=self._commands,
                accepts=self._accepts,
                now=self._now,
                trees=self._trees,
            )
            for number in range(1, worker.count + 1)
        ]
        crew = _Crew(worker, hands, len(hands), trio.Event())
        self._crews[worker.owner_uid, worker.name] = crew
        for hand in hands:
            self._running().start_soon(self._work, crew, hand, name=f"board worker {hand.state.agent}")
        return crew

    async def _work(self, crew: _Crew, hand: Hand) -> None:
        await hand.run()
        crew.left -= 1
        if not crew.left:
            crew.ended.set()

    def _crew(self, owner_uid: int, name: str) -> _Crew:
        crew = self._crews.get((owner_uid, name))
        if crew is None:
            raise Refused("not_found", f"there is no worker {name[:80]!r}")
        return crew

    def _view(self, crew: _Crew) -> dict[str, Any]:
        hands = [hand.state.view() for hand in crew.hands]
        state = "stopped" if crew.ended.is_set() else "working"
        return {**crew.worker.view(), "state": state, "agents": hands}

    async def _store(self, change: Change, name: str, worker: Worker) -> None:
        told = {"worker": worker.name, "types": list(worker.types), "count": worker.count}
        event = NewEvent(owner_uid=worker.owner_uid, topic=WORKER_TOPIC, name=name, data=told)
        with refusing():
            await self._apply([change], [event])
