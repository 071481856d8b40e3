"""Schedules as they are kept and run: over restarts, crashes, busy agents and changes meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from schedule_kit import Agents, Clock, opened, settings
from skill_actors.errors import Refused
from support import run


def test_a_schedule_runs_at_its_times_and_counts(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            await kit.schedules.define(1000, "often", settings())
            assert await kit.after(59) == 1.0
            assert kit.agents.told == []
            await kit.after(1)
            await kit.after(0)
            assert kit.agents.told == [(1000, "coder", "look")]
            await kit.after(60)
            progress = kit.schedules.get(1000, "often").progress
            assert (progress.runs, progress.last_turn, progress.last_run) == (2, "trn_1", kit.clock.time)
            assert await kit.events() == ["defined", "tick", "tick"]

    run(main)


def test_a_busy_agent_is_left_alone_and_the_time_is_counted_apart(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            await kit.schedules.define(1000, "often", settings())
            await kit.schedules.define(1000, "patient", settings(when_busy="queue", prompt="wait"))
            kit.agents.busy = True
            await kit.after(60)
            assert kit.agents.told == [(1000, "coder", "wait")]
            progress = kit.schedules.get(1000, "often").progress
            assert (progress.runs, progress.missed) == (0, {"busy": 1})

    run(main)


def test_one_agent_may_have_several_and_owners_never_meet(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            for owner in (1000, 1001):
                for name in ("a", "b"):
                    await kit.schedules.define(owner, name, settings(prompt=f"{owner} {name}"))
            assert [each.name for each in kit.schedules.of(1000)] == ["a", "b"]
            await kit.schedules.remove(1001, "a")
            await kit.after(60)
            assert sorted(text for _, _, text in kit.agents.told) == ["1000 a", "1000 b", "1001 b"]

    run(main)


def test_times_of_a_daemon_that_was_away_are_caught_up_as_asked(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Clock()
        async with opened(tmp_path, clock=clock) as kit:
            for policy in ("skip", "once", "all"):
                await kit.schedules.define(1000, policy, settings(catch_up=policy, prompt=policy))
        clock.pass_s(60 * 5 + 59)
        agents = Agents()
        async with opened(tmp_path, clock=clock, agents=agents) as kit:
            clock.pass_s(1.5)  # past the sixth
            await kit.scheduler.run_due()
            told = [text for _, _, text in agents.told]
            assert {policy: told.count(policy) for policy in ("skip", "once", "all")} == {
                "skip": 1,
                "once": 1,
                "all": 6,
            }
            missed = {each.name: each.progress.missed for each in kit.schedules}
            assert missed == {"skip": {"late": 5}, "once": {"late": 5}, "all": {}}

    run(main)


def test_a_daemon_that_dies_between_message_and_note_does_not_send_it_twice(tmp_path: Path) -> None:
    async def main() -> None:
        clock, agents = Clock(), Agents()
        async with opened(tmp_path, clock=clock, agents=agents) as kit:
            await kit.schedules.define(1000, "often", settings())
            clock.pass_s(60)
            seen = kit.schedules.get(1000, "often")
            key = f"schedule/often/{seen.to_json()['made']}/{seen.to_json()['next_due']}"
            await agents.cast_due(1000, "coder", "look", key=key, only_idle=True)  # and nothing was noted
        async with opened(tmp_path, clock=clock, agents=agents) as kit:
            agents.busy = True  # with just that turn
            await kit.scheduler.run_due()
            assert len(agents.told) == 1
            assert kit.schedules.get(1000, "often").progress.runs == 1

    run(main)


def test_what_the_agent_refuses_is_told_and_what_passes_is_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            await kit.schedules.define(1000, "often", settings())
            kit.agents.refusal = Refused("draining", "stopping")
            assert await kit.after(60) == 5.0
            kit.agents.refusal = None
            await kit.after(5)
            assert kit.schedules.get(1000, "often").progress.runs == 1, "it was waited for"
            kit.agents.refusal = Refused("not_found", "there is no agent 'coder'")
            await kit.after(55)
            progress = kit.schedules.get(1000, "often").progress
            assert progress.missed == {"failed": 1}
            assert progress.last_error == "not_found: there is no agent 'coder'"
            kit.agents.refusal = None
            await kit.after(60)
            assert kit.schedules.get(1000, "often").progress.last_error is None

    run(main)


def test_run_now_changes_no_time_and_a_repeated_request_runs_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            made = await kit.schedules.define(1000, "often", settings())
            assert await kit.scheduler.run_now(1000, "often", key="k") == "trn_0"
            assert await kit.scheduler.run_now(1000, "often", key="k") == "trn_0"
            assert await kit.scheduler.run_now(1000, "often", key="other") == "trn_1"
            assert kit.schedules.get(1000, "often").progress.next_due == made.progress.next_due
            with pytest.raises(Refused, match="did you mean 'often'"):
                await kit.scheduler.run_now(1000, "oftn", key="k")

    run(main)


def test_disabled_is_never_run_and_enabled_again_goes_on_from_now(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            await kit.schedules.define(1000, "often", settings(catch_up="all"))
            await kit.schedules.enable(1000, "often", False)
            await kit.after(600)
            assert kit.agents.told == []
            await kit.schedules.enable(1000, "often", True)
            await kit.after(59)
            await kit.after(2)
            assert len(kit.agents.told) == 1

    run(main)


def test_a_name_is_taken_once_and_replaced_only_where_that_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            await kit.schedules.define(1000, "often", settings())
            await kit.after(60)
            with pytest.raises(Refused, match="already"):
                await kit.schedules.define(1000, "often", settings(every_s=5))
            changed = await kit.schedules.define(1000, "often", settings(every_s=5), replace_it=True)
            assert changed.progress.runs == 1
            await kit.after(5)
            assert len(kit.agents.told) == 2
            for name in ("", "A", "../x", "x" * 65, "a/b", "a\0"):
                with pytest.raises(Refused, match="schedule"):
                    await kit.schedules.define(1000, name, settings())

    run(main)


def test_one_that_is_removed_while_it_runs_stays_removed(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as kit:
            seen = await kit.schedules.define(1000, "often", settings())
            await kit.schedules.remove(1000, "often")
            assert not await kit.schedules.note(seen, seen.progress, "tick", {})
            with pytest.raises(Refused, match="no schedule"):
                kit.schedules.get(1000, "often")
        async with opened(tmp_path) as kit:
            assert list(kit.schedules) == []

    run(main)


def test_the_loop_wakes_for_a_schedule_that_is_made_while_it_waits(tmp_path: Path) -> None:
    async def main() -> None:
        clock, agents = Clock(), Agents()
        async with opened(tmp_path, clock=clock, agents=agents) as kit, trio.open_nursery() as nursery:
            nursery.start_soon(kit.scheduler.run)
            await trio.testing.wait_all_tasks_blocked()
            made = await kit.schedules.define(1000, "late", settings(every_s=3600))
            clock.pass_s(3600)
            await kit.schedules.define(1000, "wakes", settings(every_s=3600))
            with trio.fail_after(10):
                while kit.schedules.get(1000, "late").version == made.version:
                    await kit.schedules.wait_changed()
            assert agents.told == [(1000, "coder", "look")]
            nursery.cancel_scope.cancel()

    run(main)
