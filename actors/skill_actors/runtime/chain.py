"""Who waits for whom: a call that could only wait for itself is refused at once.

`enter` marks the task in which an actor runs something async (setup, a handler, teardown): what is called there, and in
nurseries opened there, is called by the actor. Jobs of `spawn` and tasks in other nurseries are not the actor, which
does not wait for them. While it waits for a call, a start or an end, its cell names the cells it waits for; a call to
an actor that waits, directly or not, for the caller is a cycle. The mark is a context variable that is taken away
again, so that idle actors do not pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Final

import trio

from skill_actors.runtime.errors import AskCycle

if TYPE_CHECKING:
    from skill_actors.runtime.cell import Cell

__all__ = ["caller", "enter", "forget", "is_within", "leave", "refuse_cycle", "waiting_for"]

_Mark = tuple["Cell", trio.lowlevel.Task] | None

_mark: Final[ContextVar[_Mark]] = ContextVar("skill_actors.serving", default=None)


def enter(cell: Cell) -> Token[_Mark]:
    """The actor of `cell` runs something async in this task, until `leave`."""
    return _mark.set((cell, trio.lowlevel.current_task()))


def leave(token: Token[_Mark]) -> None:
    """Take `enter` back."""
    _mark.reset(token)


def forget() -> None:
    """What this task does from now on, it does not do as the actor."""
    if _mark.get() is not None:
        _mark.set(None)


def caller() -> Cell | None:
    """The actor in whose handler or hook this runs; None outside of actors."""
    mark = _mark.get()
    if mark is None:
        return None
    cell, task = mark
    # A task started into somebody else's nursery, or a job's, inherits the mark, but no handler waits for it.
    return cell if is_within(task, but_not=cell.job_nursery) else None


def is_within(task: trio.lowlevel.Task, *, but_not: trio.Nursery | None = None) -> bool:
    """Whether this is `task`, or one in a nursery below it, other than `but_not`."""
    here: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    while here is not None:
        if here is task:
            return True
        nursery = here.parent_nursery
        here = None if nursery is None or nursery is but_not else nursery.parent_task
    return False


def refuse_cycle(calling: Cell, callee: Cell) -> None:
    """Raise AskCycle, naming the chain, if `callee` waits for `calling`, directly or not."""
    if calling is not callee and callee.waits_for is None:
        return
    came_from: dict[Cell, Cell | None] = {callee: None}
    pending = [callee]
    while pending:
        cell = pending.pop()
        if cell is calling:
            raise AskCycle(f"this call would wait for itself: {_chain(calling, came_from)}; tell, or call from a job")
        for other in cell.waits_for or ():
            if other not in came_from:
                came_from[other] = cell
                pending.append(other)


def _chain(calling: Cell, came_from: dict[Cell, Cell | None]) -> str:
    names, cell = [calling.mailbox.owner], came_from[calling]
    while cell is not None:
        names.append(cell.mailbox.owner)
        cell = came_from[cell]
    return " -> ".join([calling.mailbox.owner, *reversed(names)])


@contextmanager
def waiting_for(calling: Cell, other: Cell) -> Iterator[None]:
    """`calling` waits for `other` for the length of the block."""
    waits_for = calling.waits_for = [] if calling.waits_for is None else calling.waits_for
    waits_for.append(other)
    try:
        yield
    finally:
        waits_for.remove(other)
        if not waits_for:
            calling.waits_for = None
