"""Schedules where something is in the way: clocks, full queues, disks, zones that are gone, hostile texts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from schedule_kit import Agents, Clock, opened, settings
from skill_actors.errors import Refused
from skill_actors.store.documents import Change
from skill_actors.workshop.schedules import RuleFault
from support import run


def test_a_time_that_was_left_out_is_none_of_its_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            await kit.schedules.define(1000, "once", settings(max_runs=1))
            kit.agents.busy = True
            await kit.after(60)
            progress = kit.schedules.get(1000, "once").progress
            assert (progress.runs, dict(progress.missed)) == (0, {"busy": 1})
            kit.agents.busy = False
            await kit.after(60)
            progress = kit.schedules.get(1000, "once").progress
            assert (progress.runs, progress.next_due) == (1, None)

    run(main)


def test_a_clock_that_was_wrong_for_a_while_silences_no_schedule(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Clock()
        async with opened(tmp_path, clock=clock) as kit:
            await kit.schedules.define(1000, "often", settings())
            await kit.after(5 * 365 * 86_400)
            clock.time -= timedelta(days=5 * 365)
            await kit.after(0)
            told = len(kit.agents.told)
            await kit.after(60)
            assert len(kit.agents.told) == told + 1

    run(main)


class Choosy(Agents):
    """One agent's document is damaged."""

    async def cast_due(self, owner_uid: int, agent: str, text: str, *, key: str, only_idle: bool) -> str | None:
        if agent == "damaged":
            raise Refused("internal", "it is damaged on disk")
        return await super().cast_due(owner_uid, agent, text, key=key, only_idle=only_idle)


def test_one_that_waits_for_something_to_pass_holds_up_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, agents=Choosy()) as kit:
            await kit.schedules.define(1000, "damaged", settings(agent="damaged", every_s=10))
            await kit.schedules.define(1000, "good", settings(every_s=1))
            pause_s = 0.0
            for _ in range(12):
                pause_s = await kit.after(1)
                assert 0 < pause_s <= 1
            assert kit.schedules.get(1000, "good").progress.runs == 12
            assert kit.schedules.get(1000, "damaged").progress.runs == 0

    run(main)


def test_a_repeated_request_to_run_now_is_counted_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            await kit.schedules.define(1000, "often", settings(max_runs=5))
            first = await kit.scheduler.run_now(1000, "often", key="k")
            assert await kit.scheduler.run_now(1000, "often", key="k") == first
            assert kit.schedules.get(1000, "often").progress.runs == 1

    run(main)


def test_one_whose_zone_is_gone_stops_nothing_and_can_be_defined_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            await kit.schedules.define(1000, "good", settings())
            made = await kit.schedules.define(1000, "old", settings(every_s=None, cron="0 7 * * *"))
            data = {**made.to_json(), "timezone": "Atlantis/Capital"}
            change = Change(kind="schedule", id=made.key, owner_uid=1000, data=data, expected=made.version)
            await kit.journal.documents.apply([change])
        async with opened(tmp_path) as kit:
            assert [each.name for each in kit.schedules] == ["good"]
            await kit.schedules.define(1000, "old", settings())
            assert [each.name for each in kit.schedules.of(1000)] == ["good", "old"]
        async with opened(tmp_path) as kit:
            assert [each.name for each in kit.schedules.of(1000)] == ["good", "old"]

    run(main)


@pytest.mark.parametrize("until", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "", "2026-13-01T00:00Z"])
def test_a_time_that_there_is_not_is_no_end(until: str) -> None:
    with pytest.raises(RuleFault):
        settings(until=until)


def test_what_can_be_no_agent_is_refused_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            with pytest.raises(Refused, match="agent"):
                await kit.schedules.define(1000, "often", settings(agent="../x"))

    run(main)


@pytest.mark.parametrize("prompt", ["\0" * 200_000, "\ud800", " \n", "x" * 200_001])
def test_what_no_document_can_hold_is_no_prompt(prompt: str) -> None:
    with pytest.raises(RuleFault, match="prompt"):
        settings(prompt=prompt)
