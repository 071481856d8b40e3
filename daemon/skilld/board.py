"""The board of one daemon: what it is made of, and the actors that keep it in order and have its items done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skill_actors.runtime import ChildSpec, TrioActor
from skill_actors.workshop.agents import AgentDesk
from skill_actors.workshop.board import DEFAULT_TYPES, Board, Workers
from skill_actors.workshop.board.crew import Crew
from skill_actors.workshop.board.item_trees import ItemTrees
from skill_actors.workshop.board.verifying import Verifier
from skill_actors.workshop.events import Feed
from skill_actors.workshop.git.run import Git
from skilld.conversations import executors_of

if TYPE_CHECKING:
    from skilld.parts import Parts

__all__ = ["board_children", "open_board", "open_workers"]


def open_board(parts: Parts, feed: Feed) -> Board:
    """The board over the journal that is open now."""
    config = parts.config.workshop
    types = dict.fromkeys((*DEFAULT_TYPES, *config.item_types))
    return Board(parts.journal.get().documents, feed.apply, types=tuple(types), max_items=config.board_items)


def open_workers(parts: Parts, feed: Feed, board: Board, desk: AgentDesk) -> Workers:
    """Its workers; they begin nothing while the daemon stops."""
    sessions, documents = parts.sessions.get(), parts.journal.get().documents
    commands = Verifier(
        sessions,
        executors_of(parts),
        parts.config.daemon.state_dir / "workspaces",
        lambda: parts.defaults.policy,
        parts.agents,
    )
    return Workers(
        board,
        Crew(desk),
        commands,
        documents,
        feed.apply,
        accepts=lambda: not (parts.stopping or sessions.draining),
        trees=ItemTrees(Git(program=parts.config.workshop.git), desk.folders.project_of),
    )


class BoardKeeper(TrioActor):
    """Takes back the leases of those who are heard of no more."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board

    async def setup(self) -> None:
        self.spawn(self._board.run)


class WorkersKeeper(TrioActor):
    """Has the workers work."""

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers

    async def setup(self) -> None:
        self.spawn(self._workers.run)


def board_children(parts: Parts) -> list[ChildSpec]:
    """What the branch of the workshop has for the board."""
    return [
        ChildSpec(id="board", factory=lambda: BoardKeeper(parts.workshop.get().board), isolated=True),
        ChildSpec(id="workers", factory=lambda: WorkersKeeper(parts.workshop.get().workers), isolated=True),
    ]
