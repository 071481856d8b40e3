"""Agents whose program crashes: resumed after a rest, given up after too many, the message to blame refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from desk_kit import UID, DeskKit, open_desk, refused, watched
from session_kit import ME, open_kit
from skill_actors.runtime.spec import Backoff
from skill_actors.testing import ScriptedModel
from skill_actors.testing.agents import Die, Fail, Hang, Say, ScriptedAgents
from skill_actors.workshop.agents.crashes import CrashRecord, CrashRules, is_crash
from support import run

QUICK = CrashRules(max_crashes=3, backoff=Backoff(initial_s=0.05, max_s=0.1))


def agents(*turns: Any) -> dict[str, Any]:
    backend = ScriptedAgents(turns)
    return {"around": {"agents": {backend.name: backend}}}


async def crash(kit: DeskKit, name: str, text: str) -> None:
    turn = await kit.ask(name, text)
    assert turn["status"] == "failed", turn
    assert turn["result"]["error"]["code"] == "agent_command_failed"


def test_after_a_crash_the_conversation_goes_on_by_its_id_when_it_has_rested(tmp_path: Path) -> None:
    """Nothing restarted it, and both programs could have resumed (G13)."""
    rules = CrashRules(backoff=Backoff(initial_s=0.5, max_s=1.0))
    backend = ScriptedAgents([[Say("one")], [Die()]])
    around = {"agents": {backend.name: backend}}

    async def main() -> None:
        async with open_desk(tmp_path, ScriptedModel(), rules=rules, around=around) as kit:
            await kit.define("a", backend="scripted")
            await kit.answer("a", "first")
            began = trio.current_time()  # it rests from its crash on, of which we hear later
            await crash(kit, "a", "second")
            assert await kit.answer("a", "third") == "You said: third"
            assert trio.current_time() - began >= 0.5
            session = str((await kit.view("a"))["session"])
            known = [event.data for event in await kit.kit.events(session) if event.type == "agent.session"]
            assert len({data["session_id"] for data in known}) == 1
            await kit.told("ask_complete", count=2)
            crashes = (await kit.view("a"))["crashes"]
            assert (crashes["recent"], crashes["in_a_row"]) == (1, 0)
            (error,) = await kit.told("error")
            assert error.data["error"]["code"] == "agent_command_failed"

    run(main)


def test_an_agent_that_crashes_too_often_is_given_up_and_its_queue_waits(tmp_path: Path) -> None:
    async def main() -> None:
        hang = Hang()
        turns = [[Die()], [Die()], [hang, Die()]]
        async with open_desk(tmp_path, ScriptedModel(), rules=QUICK, **agents(*turns)) as kit:
            made = await kit.define("a", backend="scripted", role="r")
            await crash(kit, "a", "one")
            await crash(kit, "a", "two")
            await kit.desk.cast(UID, "a", "three")
            with trio.fail_after(20):
                await hang.reached.wait()
            queued = await kit.desk.cast(UID, "a", "four")
            hang.until.set()
            (event,) = await kit.told("crashed")
            assert event.data["agent"] == "a"
            view = await kit.view("a")
            assert view["status"] == "crashed"
            assert "agent_command_failed" in view["crashes"]["why"]
            await refused("conflict", kit.ask("a", "five"), reason="agent_crashed")
            assert (await kit.desk.await_turn(UID, queued.turn, 0.3))["status"] == "queued"
            await refused("not_found", kit.desk.agents.revive(UID, "b"))
            revived = await kit.desk.agents.revive(UID, "a")
            assert (revived["status"], revived["session"]) == ("working", made["session"])
            turn = await kit.desk.await_turn(UID, queued.turn, 20)
            assert (turn["status"], turn["result"]["text"]) == ("finished", "You said: four")
            await refused("conflict", kit.desk.agents.revive(UID, "a"))

    run(main)


def test_a_crashed_agent_is_still_crashed_after_a_restart_and_a_reset_begins_anew(tmp_path: Path) -> None:
    async def main() -> None:
        more = agents([Die()], [Die()], [Die()])
        async with open_desk(tmp_path, ScriptedModel(), rules=QUICK, **more) as kit:
            await kit.define("a", backend="scripted", role="r", options={"mood": "good"})
            for text in ("one", "two", "three"):
                await crash(kit, "a", text)
            await kit.told("crashed")
        async with open_kit(tmp_path, ScriptedModel(), caps=(), **agents()) as again, watched(again, QUICK) as desk:
            await refused("conflict", desk.ask(UID, "a", "x"), reason="agent_crashed")
            view = await desk.reset(UID, "a")
            assert (view["status"], view["crashes"]["recent"]) == ("idle", 0)
            assert (await desk.agents.get(UID, "a"))["settings"]["options"] == {"mood": "good"}
            assert (await desk.ask(UID, "a", "x"))["status"] == "finished"

    run(main)


def test_a_message_under_which_the_program_crashed_twice_is_refused_unless_it_is_forced(tmp_path: Path) -> None:
    rules = CrashRules(max_crashes=10, backoff=QUICK.backoff)

    async def main() -> None:
        from skill_actors.workshop.agents.asking import Message

        async with open_desk(tmp_path, ScriptedModel(), rules=rules, **agents([Die()], [Die()])) as kit:
            await kit.define("a", backend="scripted")
            await crash(kit, "a", "poison")
            await crash(kit, "a", "poison")
            await kit.told("error", count=2)
            await refused("conflict", kit.ask("a", "poison"), reason="poison")
            assert await kit.answer("a", "something else") == "You said: something else"
            await refused("conflict", kit.ask("a", "poison"), reason="poison")
            forced = await kit.desk.asking.ask(UID, "a", Message(text="poison", force=True))
            assert forced["status"] == "finished"
            await kit.told("ask_complete", count=2)
            assert await kit.answer("a", "poison") == "You said: poison"

    run(main)


def test_what_a_program_refuses_in_words_is_no_crash(tmp_path: Path) -> None:
    rules = CrashRules(max_crashes=1)

    async def main() -> None:
        more = agents([Fail("auth", "no key")], [Die("auth", "no key")], [Die("max_turns_exceeded", "enough")])
        async with open_desk(tmp_path, ScriptedModel(), rules=rules, **more) as kit:
            await kit.define("a", backend="scripted")
            for _ in range(3):
                assert (await kit.ask("a", "x"))["status"] == "failed"
            await kit.told("error", count=3)
            view = await kit.view("a")
            assert (view["status"], view["crashes"]["recent"]) == ("idle", 0)

    run(main)


def test_a_reset_leaves_no_false_crash_and_later_ones_are_seen(tmp_path: Path) -> None:
    """The one before is not watched as the agent's any more, and the new one is (G11)."""

    async def main() -> None:
        hang = Hang()
        async with open_desk(tmp_path, ScriptedModel(), rules=QUICK, **agents([hang], [Die()])) as kit:
            await kit.define("a", backend="scripted")
            sent = await kit.desk.cast(UID, "a", "long")
            with trio.fail_after(20):
                await hang.reached.wait()
            await kit.desk.reset(UID, "a")
            assert (await kit.desk.await_turn(UID, sent.turn, 20))["status"] == "cancelled"
            await kit.told("error")
            view = await kit.view("a")
            assert (view["status"], view["crashes"]["recent"], view["turns"]) == ("idle", 0, 1)
            await crash(kit, "a", "x")
            await kit.told("error", count=2)
            assert (await kit.view("a"))["crashes"]["recent"] == 1

    run(main)


def test_each_agent_keeps_to_its_own_backend(tmp_path: Path) -> None:
    """An agent's backend and its options are its own (G3)."""
    one, two = ScriptedAgents(name="one"), ScriptedAgents(name="two", options=("size",))

    async def main() -> None:
        async with open_desk(tmp_path, ScriptedModel(), around={"agents": {"one": one, "two": two}}) as kit:
            await kit.define("a", backend="one", options={"mood": "good"}, role="r")
            await kit.define("b", backend="two", options={"size": 3})
            await refused("bad_request", kit.define("c", backend="two", options={"mood": "good"}))
            for name in "ab":
                await kit.answer(name, "x")
            assert [dict(spec.options) for spec in one.specs] == [{"mood": "good"}]
            assert [dict(spec.options) for spec in two.specs] == [{"size": 3}]
            assert "r" in one.specs[0].system
            assert (await kit.kit.manager.get((await kit.view("a"))["session"], ME))["backends"] == [
                {"backend": "one", "options": {"mood": "good"}}
            ]

    run(main)


def test_crashes_are_forgotten_with_time_and_the_rest_grows_with_each_in_a_row() -> None:
    rules = CrashRules(max_crashes=3, period_s=100, backoff=Backoff(initial_s=1, max_s=8))
    record = CrashRecord()
    assert record.rest_s(rules) == 0
    for now, rest_s in ((0.0, 1), (10.0, 2), (150.0, 4)):
        record = record.crashed(rules, now, f"d{now}", "why")
        assert record.rest_s(rules) == rest_s
        assert not record.gives_up(rules)
    assert record.times == (150.0,)
    for now in (200.0, 240.0):
        record = record.crashed(rules, now, "d", "why")
    assert record.gives_up(rules)
    assert record.is_poison(rules, "d")
    assert not record.is_poison(rules, "d0.0")
    survived = record.survived("d")
    assert (survived.in_a_row, survived.is_poison(rules, "d")) == (0, False)
    assert CrashRecord.of(record.to_json()) == record


def test_the_messages_that_are_remembered_are_bounded() -> None:
    record, rules = CrashRecord(), CrashRules()
    for number in range(1000):
        record = record.crashed(rules, float(number), str(number), "x" * 10_000)
    assert len(record.prompts) == 100
    assert "999" in record.prompts
    assert (len(record.times), len(record.why)) == (5, 500)


@pytest.mark.parametrize(
    ("code", "crashed"),
    [("agent_command_failed", True), ("agent_io", True), ("agent_protocol", True), ("agent_session_lost", True),
     ("agent_auth", False), ("turn_timeout", False), ("budget_exceeded", False), ("cancelled", False), ("", False),
     (None, False), ("agent_max_turns_exceeded", False)],
)  # fmt: skip
def test_which_codes_are_crashes(code: str | None, crashed: bool) -> None:
    assert is_crash(code) is crashed
