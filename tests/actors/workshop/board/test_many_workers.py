"""Twenty hands, five hundred items, and hands that are killed at random: nothing is done twice, nothing is stuck."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from board_agents_kit import PlayedAgents, PlayedCommands, answer_ok
from board_kit import ME, BoardKit, open_board
from skill_actors.workshop.board.board import utc_now
from skill_actors.workshop.board.hand import Hand
from skill_actors.workshop.board.worker import Worker
from support import run

ITEMS = 500
HANDS = 20
LEASE_S = 1.0


class Killer:
    """Keeps so many hands at work, and kills one after the other."""

    def __init__(self, kit: BoardKit, agents: PlayedAgents, nursery: trio.Nursery, dice: random.Random) -> None:
        self._kit = kit
        self._agents = agents
        self._nursery = nursery
        self._dice = dice
        self._worker = Worker(owner_uid=ME, name="w", types=("custom",), lease_s=LEASE_S)
        self._scopes: dict[int, trio.CancelScope] = {}
        self._next = HANDS + 1
        self.kills = 0
        for number in range(1, HANDS + 1):
            self._hire(number)

    def _hire(self, number: int) -> None:
        hand = Hand(
            self._worker,
            number,
            board=self._kit.board,
            agents=self._agents,
            commands=PlayedCommands(),
            accepts=lambda: True,
            now=utc_now,
        )
        scope = self._scopes[number] = trio.CancelScope()

        async def work() -> None:
            with scope:
                await hand.run()

        self._nursery.start_soon(work)

    async def run(self) -> None:
        """Kill; half of them come back under their name, the others are heard of no more."""
        while True:
            await trio.sleep(self._dice.uniform(0.001, 0.02))
            number = self._dice.choice(list(self._scopes))
            self._scopes.pop(number).cancel()
            self.kills += 1
            if self._dice.random() < 0.5:
                number, self._next = self._next, self._next + 1
            self._hire(number)


def drafts(dice: random.Random) -> list[dict[str, Any]]:
    """Items of which some depend on earlier ones."""
    found = []
    for number in range(ITEMS):
        before = dice.sample(range(number), min(number, dice.choice([0, 0, 0, 1, 2])))
        depends_on = [f"i{other}" for other in before]
        found.append({"id": f"i{number}", "title": "x", "depends_on": depends_on, "priority": dice.randint(1, 5)})
    return found


@pytest.mark.parametrize("seed", [7])
def test_hands_that_die_at_random_do_every_item_once_or_fail_it_with_a_reason(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)

    async def play(agent: str, text: str) -> Mapping[str, Any]:
        await trio.sleep(dice.uniform(0, 0.01))
        if dice.random() < 0.15:
            return {"text": "half", "stop_reason": "max_tokens"}
        return await answer_ok(agent, text)

    async def main() -> None:
        async with open_board(tmp_path, running=True) as kit, trio.open_nursery() as nursery:
            await kit.board.add(ME, drafts(dice))
            killer = Killer(kit, PlayedAgents(nursery, play), nursery, dice)
            nursery.start_soon(killer.run)
            await settled(kit)
            nursery.cancel_scope.cancel()
        assert killer.kills > 20
        async with open_board(tmp_path) as kit:
            await check(kit)

    run(main)


async def settled(kit: BoardKit) -> None:
    while True:
        changed = kit.board.changed(ME)
        counts = (await kit.board.summary(ME))["by_status"]
        if not (counts["new"] or counts["ready"] or counts["claimed"] or counts["in_progress"]):
            return
        await changed.wait()


async def check(kit: BoardKit) -> None:
    items = {item.id: item for item in await kit.board.list(ME)}
    assert len(items) == ITEMS
    ends: Counter[str] = Counter()
    after = 0
    while events := await kit.journal.documents.events(after=after, topics=["work"], names=["completed", "failed"]):
        ends.update(f"{event.name} {event.data['item']}" for event in events)
        after = events[-1].seq
    for item in items.values():
        broken = any(items[id].status in ("failed", "blocked") for id in item.depends_on)
        if item.status == "blocked":
            assert broken
            continue
        assert not broken
        assert item.status in ("done", "failed")
        name = "completed" if item.status == "done" else "failed"
        assert ends[f"{name} {item.id}"] == 1
        assert item.attempts <= item.max_attempts
        assert item.error if item.status == "failed" else item.result
    assert sum(ends.values()) == sum(item.status in ("done", "failed") for item in items.values())
    assert sum(item.status == "done" for item in items.values()) > ITEMS / 2
