"""Agents: defined, replaced, reset and dismissed; what they keep over it, and what they never forget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from desk_kit import OTHER_UID, UID, open_desk, refused, watched
from session_kit import ME, open_kit
from skill_actors.errors import Refused
from skill_actors.testing import Reply, ScriptedModel, Text
from skill_actors.testing.replies import Answer
from skill_actors.workshop.agents.composing import system_prompt
from skill_actors.workshop.agents.settings import checked_fields, laid_over
from skill_actors.workshop.event_names import is_known
from support import run

SKILL = "---\nname: greeting\ndescription: Says hello when it is asked to.\n---\nAlways say hello first.\n"


def echo(request: Mapping[str, Any]) -> Answer:
    """The last thing that was said, again."""
    content = request["messages"][-1]["content"]
    text = content if isinstance(content, str) else "".join(block.get("text", "") for block in content)
    return Reply([Text(f"echo: {text}")])


def echoing() -> ScriptedModel:
    return ScriptedModel(respond=echo)


def skill(folder: Path) -> Path:
    place = folder / "given" / "greeting"
    place.mkdir(parents=True)
    (place / "SKILL.md").write_text(SKILL)
    return place


def test_an_agent_answers_under_its_name_and_is_listed_with_what_it_costs(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            await kit.define("zoe", role="You write.")
            await kit.define("adam")
            turn = await kit.ask("zoe", "one")
            assert (turn["agent"], turn["status"], turn["result"]["text"]) == ("zoe", "finished", "echo: one")
            await kit.told("ask_complete")
            adam, zoe = await kit.desk.agents.list(UID)
            assert [adam["name"], zoe["name"]] == ["adam", "zoe"]
            assert (zoe["status"], zoe["turns"], zoe["last_turn"]) == ("idle", 1, turn["turn"])
            assert zoe["cost_usd"] == pytest.approx(turn["result"]["cost_usd"])
            assert (adam["turns"], adam["cost_usd"]) == (0, 0.0)
            assert (await kit.desk.agents.cost(UID))["total"]["cost_usd"] == pytest.approx(zoe["cost_usd"])

    run(main)


def test_the_system_prompt_is_the_skill_then_the_context_then_the_role(tmp_path: Path) -> None:
    model = echoing()

    async def main() -> None:
        async with open_desk(tmp_path, model, skills=[skill(tmp_path)]) as kit:
            await kit.desk.setups.configure(UID, {"context": "We are at work."})
            await kit.define("a", role="You write.", skill="greeting")
            await kit.define("b", role="You write.", context="We are at home.")
            await kit.define("c", role="You write.", context="")
            await kit.ask("a", "x")
            views = [await kit.view(name) for name in "abc"]
            prompts = [view["system_prompt"] for view in views]
            assert prompts == [
                "Always say hello first.\n\nWe are at work.\n\nYou write.",
                "We are at home.\n\nYou write.",
                "You write.",
            ]
            assert prompts[0] in str(model.requests[0].system)

    run(main)


def test_blank_parts_of_a_prompt_leave_no_gap() -> None:
    assert system_prompt(None, " \n", "role", "") == "role"
    assert system_prompt(None, None) == ""


def test_configuring_changes_agents_made_later_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            await kit.define("before", role="r")
            setup = await kit.desk.setups.configure(UID, {"context": "new", "defaults": {"queue": 2, "effort": "low"}})
            assert setup.view() == {
                "context": "new",
                "defaults": {"queue": 2, "effort": "low"},
                "max_cost_usd": None,
            }
            await kit.define("after", role="r")
            await kit.desk.reset(UID, "before")
            old, new = await kit.view("before"), await kit.view("after")
            assert (old["queue"], old["system_prompt"]) == (5, "r")
            assert (new["queue"], new["system_prompt"]) == (2, "new\n\nr")
            again = await kit.desk.setups.configure(UID, {"defaults": None})
            assert (again.context, again.defaults) == ("new", {})
            assert (await kit.desk.setups.get(OTHER_UID)).context == ""

    run(main)


def test_a_profile_lies_under_the_agent_and_over_the_defaults(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            await kit.desk.setups.configure(UID, {"defaults": {"queue": 2, "max_turns": 9, "timeout_s": 100}})
            await kit.desk.profiles.define(UID, "coder", {"role": "You code.", "max_turns": 7, "timeout_s": 50})
            await kit.define("a", profile="coder", timeout_s=20)
            settings = (await kit.view("a"))["settings"]
            assert settings == {
                "role": "You code.", "queue": 2, "max_turns": 7, "timeout_s": 20, "profile": "coder"
            }  # fmt: skip
            await kit.desk.profiles.define(UID, "coder", {"role": "Another."})
            assert (await kit.view("a"))["settings"]["role"] == "You code."
            error = await refused("not_found", kit.define("b", profile="coter"))
            assert "did you mean coder?" in error.message
            await kit.desk.profiles.remove(UID, "coder")
            await refused("not_found", kit.desk.profiles.get(UID, "coder"))
            assert await kit.answer("a", "still there") == "echo: still there"

    run(main)


def test_options_of_one_backend_are_no_options_of_another() -> None:
    below = {"backend": "docker", "options": {"memory": "1g", "cpus": 2}}
    assert laid_over(below, {"options": {"cpus": 1}})["options"] == {"memory": "1g", "cpus": 1}
    assert laid_over(below, {"backend": "local"}) == {"backend": "local"}
    assert laid_over(below, {"backend": "docker", "options": {"cpus": 3}})["options"] == {"memory": "1g", "cpus": 3}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rol": "x"}, "did you mean role?"),
        ({"role": 3}, "role: expected text"),
        ({"role": "a\0b"}, "without NUL"),
        ({"max_turns": True}, "max_turns: expected a whole number"),
        ({"max_turns": 2.5}, "max_turns: expected a whole number"),
        ({"max_cost_usd": -1}, "max_cost_usd: expected a number"),
        ({"max_cost_usd": float("nan")}, "max_cost_usd: expected a number"),
        ({"timeout_s": 0}, "timeout_s: expected a number"),
        ({"queue": -1}, "queue: expected a whole number"),
        ({"effort": "huge"}, "effort: expected one of"),
        ({"policy": "none"}, "policy: expected one of"),
        ({"system": "prepend"}, "system: expected one of"),
        ({"labels": {"workshop.agent": "x"}}, "the workshop's own"),
        ({"skills": "pdf"}, "skills: expected a list"),
        ({"git_context": "yes"}, "git_context: expected true or false"),
    ],
)
def test_a_setting_that_is_wrong_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as caught:
        checked_fields(given)
    assert caught.value.code == "bad_request"
    assert said in caught.value.message


def test_what_a_conversation_refuses_leaves_no_agent_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            await kit.define("a", role="as it was")
            before = await kit.view("a")
            await refused("backend_unavailable", kit.define("a", backend="nowhere"))
            await refused("invalid_skill_spec", kit.define("a", skill="nothing"))
            await refused("invalid_skill_spec", kit.define("b", skills=["nothing"]))
            await refused("cwd_not_allowed", kit.define("b", cwd="/"))
            assert await kit.view("a") == before
            await refused("not_found", kit.view("b"))
            for name in ("", "A", "a/b", "../x", "a b", "a" * 65, ".a"):
                await refused("bad_request", kit.define(name))

    run(main)


def test_a_reset_keeps_every_option_and_the_spend_and_the_old_conversation(tmp_path: Path) -> None:
    """Neither options (G11) nor money (G12) get lost."""

    async def main() -> None:
        async with open_desk(tmp_path, echoing(), skills=[skill(tmp_path)]) as kit:
            made = await kit.define(
                "a", role="r", skill="greeting", effort="low", queue=3, max_cost_usd=5,
                labels={"k": "v"}, max_turns=4, timeout_s=60, policy="guarded", skills=["greeting"],
            )  # fmt: skip
            await kit.ask("a", "one")
            await kit.told("ask_complete")
            before = await kit.view("a")
            after = await kit.desk.reset(UID, "a")
            assert after["session"] != made["session"]
            assert after["before"] == [made["session"]]
            now = await kit.view("a")
            assert now["settings"] == before["settings"]
            assert now["system_prompt"] == before["system_prompt"]
            assert now["cost_usd"] == before["cost_usd"] > 0
            assert (now["turns"], now["last_turn"]) == (1, None)
            session = await kit.kit.manager.get(now["session"], ME)
            old = await kit.kit.manager.get(made["session"], ME)
            same = ("labels", "limits", "policy", "skills", "backends")
            assert [session[name] for name in same] == [old[name] for name in same]
            assert session["labels"] == {"k": "v", "workshop.agent": "a"}
            assert "turn.finished" in await kit.kit.types(made["session"])
            assert await kit.desk.agents.history(UID, "a", last=5) == []
            await kit.ask("a", "two")
            await kit.told("ask_complete", count=2)
            later = await kit.view("a")
            assert later["cost_usd"] > now["cost_usd"]
            assert later["turns"] == 2

    run(main)


def test_a_replaced_agent_is_another_one_with_the_same_spend(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            await kit.define("a", role="first", queue=1)
            await kit.ask("a", "one")
            cost = (await kit.view("a"))["cost_usd"]
            await kit.define("a", role="second")
            view = await kit.view("a")
            assert (view["role"], view["queue"], view["cost_usd"]) == ("second", 5, cost)
            await refused("conflict", kit.desk.define(UID, "a", {}, replace_it=False))
            assert [event.name for event in await kit.told("changed")] == ["changed"]

    run(main)


def test_an_agent_that_is_forgotten_leaves_its_name_its_cap_and_its_place_to_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            for _ in range(3):
                await kit.desk.define(UID, "a", {"max_cost_usd": 1.0}, replace_it=False)
                turn = await kit.ask("a", "one")
                await kit.desk.forget(UID, "a")
                assert await kit.desk.agents.list(UID, dismissed=True) == []
                found = await kit.desk.await_turn(UID, turn["turn"], 0.0)
                assert found["result"]["text"] == "echo: one", "what it has said is kept"
            await refused("not_found", kit.desk.forget(UID, "a"))
            await refused("not_found", kit.desk.forget(OTHER_UID, "a"))

    run(main)


def test_a_dismissed_agent_is_gone_and_its_spend_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        hold = trio.Event()
        model = ScriptedModel([Reply([Text("x")]), Reply([Text("long")], holds={0: hold})], respond=echo)
        async with open_desk(tmp_path, model) as kit:
            await kit.define("a", max_cost_usd=1)
            await kit.ask("a", "one")
            running = await kit.desk.cast(UID, "a", "two")
            waiting = await kit.desk.cast(UID, "a", "three")
            spent = (await kit.view("a"))["known_usd"]
            await kit.desk.dismiss(UID, "a")
            turns = [await kit.desk.await_turn(UID, sent.turn, 10) for sent in (running, waiting)]
            assert [turn["status"] for turn in turns] == ["cancelled", "cancelled"]
            await refused("not_found", kit.ask("a", "hello?"))
            await refused("not_found", kit.desk.dismiss(UID, "a"))
            assert await kit.desk.agents.list(UID) == []
            (gone,) = await kit.desk.agents.list(UID, dismissed=True)
            assert gone["status"] == "dismissed"
            assert (await kit.desk.agents.cost(UID))["total"]["known_usd"] >= spent > 0
            await kit.define("a")
            assert (await kit.view("a"))["known_usd"] >= spent

    run(main)


def test_owners_do_not_meet(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            await kit.define("a", role="mine")
            await refused("not_found", kit.desk.ask(OTHER_UID, "a", "hello"))
            await kit.desk.define(OTHER_UID, "a", {"role": "theirs"})
            turn = await kit.ask("a", "x")
            await refused("not_found", kit.desk.await_turn(OTHER_UID, turn["turn"], 0))
            assert (await kit.desk.agents.get(OTHER_UID, "a"))["turns"] == 0
            assert (await kit.view("a"))["role"] == "mine"

    run(main)


def test_the_cap_of_an_agent_binds_over_its_resets(tmp_path: Path) -> None:
    """Spend is counted under the agent's name, and reserved before each call: a cap holds (G12)."""

    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            await kit.define("a", max_cost_usd=0.0001)
            turn = await kit.ask("a", "one")
            assert (turn["status"], turn["result"]["error"]["code"]) == ("failed", "budget_exceeded")
            await kit.desk.reset(UID, "a")
            turn = await kit.ask("a", "two")
            assert turn["result"]["error"]["code"] == "budget_exceeded"
            await kit.define("a")
            assert (await kit.ask("a", "three"))["status"] == "finished"

    run(main)


def test_an_agent_cannot_lift_a_cap_that_somebody_else_has_set(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            from skill_actors.sessions.ledger import Limits

            ledger = kit.kit.manager._env.ledger
            assert ledger is not None
            await ledger.set_cap(f"agent/{UID}.a", Limits(usd=0.0), by_uid=0)
            await refused("forbidden", kit.define("a", max_cost_usd=100))
            await kit.define("a")
            assert (await kit.ask("a", "x"))["result"]["error"]["code"] == "budget_exceeded"

    run(main)


def test_agents_and_profiles_and_queues_survive_a_restart(tmp_path: Path) -> None:
    """What was given to an agent before the program was killed is answered after it (G13)."""

    async def main() -> None:
        hold = trio.Event()
        stuck = ScriptedModel(respond=lambda _request: Reply([Text("never")], holds={0: hold}))
        async with open_desk(tmp_path, stuck) as kit:
            await kit.desk.profiles.define(UID, "p", {"role": "r"})
            await kit.define("a", profile="p")
            await kit.desk.cast(UID, "a", "was running")
            queued = await kit.desk.cast(UID, "a", "was waiting")
        async with open_kit(tmp_path, echoing(), caps=()) as again, watched(again) as desk:
            turn = await desk.await_turn(UID, queued.turn, 20)
            assert (turn["status"], turn["agent"]) == ("finished", "a")
            assert "was waiting" in turn["result"]["text"]
            assert (await desk.profiles.get(UID, "p"))["settings"] == {"role": "r"}
            assert (await desk.agents.get(UID, "a"))["settings"] == {"role": "r", "profile": "p"}

    run(main)


def test_endings_that_nobody_stored_are_told_at_the_next_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, echoing(), caps=()) as kit:
            async with watched(kit) as desk:
                await desk.define(UID, "a", {})
                await desk.ask(UID, "a", "told")
                with trio.fail_after(10):
                    while True:
                        if (await desk.agents.get(UID, "a"))["turns"] == 1:
                            break
                        await trio.sleep(0.01)
                session = (await desk.agents.get(UID, "a"))["session"]
            for text in ("unseen", "unseen too"):
                await kit.ask(session, text)
            async with watched(kit) as desk:
                view = await desk.agents.get(UID, "a")
                assert view["turns"] == 3
                assert view["last_turn"] == (await desk.agents.history(UID, "a", last=1))[0]["turn"]
            async with watched(kit) as desk:
                assert (await desk.agents.get(UID, "a"))["turns"] == 3
            events = await kit.journal.documents.events(after=0)
            assert [event.name for event in events] == ["created", "ask_complete", "cast_complete", "cast_complete"]

    run(main)


def test_an_agent_whose_conversation_was_deleted_gets_another_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            made = await kit.define("a", role="r")
            await kit.kit.manager.delete(made["session"], ME)
            assert (await kit.view("a"))["session"] is None
            assert await kit.answer("a", "hello") == "echo: hello"
            assert (await kit.view("a"))["session"] not in (None, made["session"])

    run(main)


def test_every_event_that_is_published_is_a_known_one_and_has_no_prompt_in_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            await kit.desk.setups.configure(UID, {"context": "zebra"})
            await kit.desk.profiles.define(UID, "p", {"role": "zebra"})
            await kit.define("a", profile="p", max_turns=1)
            await kit.define("a", role="zebra")
            assert "zebra" in await kit.answer("a", "a zebra")
            await kit.desk.reset(UID, "a")
            await kit.desk.profiles.remove(UID, "p")
            await kit.desk.dismiss(UID, "a")
            await kit.told("ask_complete")
            events = await kit.events()
            assert [event for event in events if not is_known(event.topic, event.name)] == []
            assert [event for event in events if "zebra" in str(event)] == []
            assert {event.name for event in events} >= {
                "configured", "created", "changed", "ask_complete", "reset", "removed", "defined", "dismissed"
            }  # fmt: skip

    run(main)


def test_an_owner_has_so_many_agents_and_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing(), max_agents=2) as kit:
            await kit.define("a")
            await kit.define("b")
            before = await kit.kit.journal.count_sessions()
            await refused("too_large", kit.define("c"))
            assert await kit.kit.journal.count_sessions() == before
            await kit.define("b", role="another")
            await kit.desk.define(OTHER_UID, "c", {})

    run(main)


def test_a_system_prompt_in_place_of_the_programs_own_is_an_option_of_its_backend(tmp_path: Path) -> None:
    from skill_actors.testing.agents import ScriptedAgents

    backend = ScriptedAgents(options=("system_prompt",))

    async def main() -> None:
        async with open_desk(tmp_path, echoing(), around={"agents": {"scripted": backend}}) as kit:
            await kit.define("a", backend="scripted", system="replace", role="r")
            await kit.define("b", backend="scripted", system="append", role="r")
            for name in "ab":
                await kit.ask(name, "x")
            assert [dict(spec.options) for spec in backend.specs] == [{"system_prompt": "replace"}, {}]
            await refused("bad_request", kit.define("c", system="replace"))
            await refused("bad_request", kit.define("c", options={"mood": 1}))

    run(main)


def test_the_cap_over_all_agents_binds_them_together_and_can_be_changed(tmp_path: Path) -> None:
    """It is reserved from before each call, so that agents at work side by side never pass it (G12)."""

    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            await kit.define("free")
            await kit.desk.setups.configure(UID, {"max_cost_usd": 0.0001})
            for name in "ab":
                await kit.define(name)
                turn = await kit.ask(name, "x")
                assert (turn["result"].get("error") or {}).get("code") == "budget_exceeded", turn
            assert (await kit.ask("free", "x"))["status"] == "finished"
            await kit.desk.setups.configure(UID, {"max_cost_usd": 100.0})
            for name in "ab":
                assert (await kit.ask(name, "x"))["status"] == "finished"
            purse = (await kit.desk.setups.get(UID)).purse
            await kit.kit.manager.delete(purse, ME)
            await kit.define("late")
            assert (await kit.desk.setups.get(UID)).purse != purse
            assert (await kit.ask("late", "x"))["status"] == "finished"
            await kit.desk.setups.configure(UID, {"max_cost_usd": None})
            await kit.desk.reset(UID, "a")
            assert (await kit.ask("a", "x"))["status"] == "finished"

    run(main)
