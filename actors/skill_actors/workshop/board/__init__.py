"""The board: items of work, claims with leases, and the workers that do them."""

from skill_actors.workshop.board.board import DEFAULT_LEASE_S, Board
from skill_actors.workshop.board.item import DEFAULT_TYPES, ENDED, HELD, STATUSES, Item, Status
from skill_actors.workshop.board.outcome import Outcome
from skill_actors.workshop.board.workers import Workers

__all__ = [
    "DEFAULT_LEASE_S",
    "DEFAULT_TYPES",
    "ENDED",
    "HELD",
    "STATUSES",
    "Board",
    "Item",
    "Outcome",
    "Status",
    "Workers",
]
