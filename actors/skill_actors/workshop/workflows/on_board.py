"""Stages that go to the board: an item is added, and whoever of its type is free performs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import trio

from skill_actors.errors import Refused
from skill_actors.workshop.board.item import ENDED, Item
from skill_actors.workshop.workflows.definition import Stage
from skill_actors.workshop.workflows.room import MAX_ERROR_BYTES, kept, result_bytes
from skill_actors.workshop.workflows.run import Run, StageState
from skill_actors.workshop.workflows.steps import stage_text

__all__ = ["KnowsTurns", "WorksBoard", "item_of", "perform_on_board", "take_back"]


class WorksBoard(Protocol):
    """The board, as a run needs it. All raise Refused."""

    async def add(self, owner_uid: int, drafts: Sequence[Mapping[str, Any]]) -> Sequence[Item]: ...

    async def get(self, owner_uid: int, id: str) -> Item: ...

    async def cancel(self, owner_uid: int, id: str, reason: str = "") -> Item: ...

    def changed(self, owner_uid: int) -> trio.Event: ...


class KnowsTurns(Protocol):
    """Whoever can say what a turn has cost."""

    async def await_turn(self, owner_uid: int, turn: str, wait_s: float) -> Mapping[str, Any]: ...


async def perform_on_board(board: WorksBoard, turns: KnowsTurns, run: Run, stage: Stage) -> StageState:
    """Have the stage performed as an item of the board; what became of it. The item is the same after a restart.

    Raises:
        Refused: what the board refuses, such as a type that there is not.

    """
    state = run.stages[stage.name]
    name = item_of(run, stage)
    item = await _item(board, run, stage, name)
    with trio.move_on_after(float("inf") if stage.timeout_s is None else stage.timeout_s) as time:
        item = await _settled(board, run.owner_uid, name)
    if time.cancelled_caught or item.status == "blocked":
        item = await take_back(board, run.owner_uid, name, "its workflow waits no longer")
    if item.status == "done":  # also if that was at the last moment
        cost_usd = await _cost(turns, run.owner_uid, item)
        result = kept(item.result or "", result_bytes(len(run.stages)))
        return replace(state.spend(cost_usd), status="done", turn=item.turn, result=result)
    why = f"the item {name} is {item.status}: {item.error or 'no reason was given'}"
    if time.cancelled_caught:
        why = f"timeout: no worker did it within {stage.timeout_s:g} s"
    state = replace(state.spend(await _cost(turns, run.owner_uid, item)), turn=item.turn)
    return replace(state, status="failed", error=kept(why, MAX_ERROR_BYTES))


async def take_back(board: WorksBoard, owner_uid: int, name: str, why: str) -> Item:
    """Cancel an item unless it has ended; as it is then. Raises Refused."""
    try:
        return await board.cancel(owner_uid, name, why)
    except Refused as error:
        if error.code != "conflict":
            raise
    return await board.get(owner_uid, name)


async def _settled(board: WorksBoard, owner_uid: int, name: str) -> Item:
    """The item once nobody is going to do any more about it."""
    while True:
        changed = board.changed(owner_uid)
        item = await board.get(owner_uid, name)
        if item.status in ENDED or item.status == "blocked":
            return item
        await changed.wait()


def item_of(run: Run, stage: Stage) -> str:
    """The name of a stage's item."""
    return f"{run.id[:14]}-{stage.name}"


async def _item(board: WorksBoard, run: Run, stage: Stage, name: str) -> Item:
    try:
        return await board.get(run.owner_uid, name)  # it was added before a restart
    except Refused as error:
        if error.code != "not_found":
            raise
    draft = {
        "id": name,
        "title": stage.title or f"{run.workflow}: {stage.name}",
        "spec": stage_text(run, stage.name),
        "type": stage.type,
        "priority": stage.priority,
        "max_attempts": stage.retries + 1,
        "meta": {"workflow": run.workflow, "run": run.id, "stage": stage.name},
    }
    (item,) = await board.add(run.owner_uid, [draft])
    return item


async def _cost(turns: KnowsTurns, owner_uid: int, item: Item) -> float | None:
    """What the turn of its last attempt has cost, nothing without one; None where that is not known."""
    if item.turn is None:
        return 0.0
    try:
        result = (await turns.await_turn(owner_uid, item.turn, 0.0)).get("result") or {}
    except Refused as error:
        if error.code != "not_found":
            raise
        return None  # its conversation was deleted
    cost: float | None = result.get("cost_usd")
    return cost
