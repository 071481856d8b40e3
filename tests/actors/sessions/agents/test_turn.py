"""A conversation whose turns a whole agent performs: what is written down, and how its turns end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from agent_kit import AGENT, open_agents
from session_kit import ME, Kit
from skill_actors.backends.agents.base import AgentCapabilities, Notice, Raw, Retrying, Said, ToolEnded
from skill_actors.errors import Refused
from skill_actors.models.base import Usage
from skill_actors.sessions.history import History
from skill_actors.testing.agents import Die, Fail, Hang, Say, ScriptedAgents, Spend, Step, Tell, UseTool


async def the(kit: Kit, session: str, type: str) -> list[dict[str, Any]]:
    """The data of all events of a type."""
    return [dict(event.data) for event in await kit.events(session) if event.type == type]


def test_the_agent_answers_and_its_session_is_gone_on_with(tmp_path: Path) -> None:

    async def main() -> None:
        agents = ScriptedAgents()
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT)
            first = await kit.ask(session, "hello")
            second = await kit.ask(session, "and again")
            types = await kit.types(session)
        assert (first["status"], first["result"]["text"]) == ("finished", "You said: hello")
        assert first["result"]["cost_usd"] == pytest.approx(0.01)
        assert first["result"]["model"] == "scripted-agent"
        assert second["result"]["text"] == "You said: and again"
        assert types == [
            *("turn.queued", "turn.started", "agent.session", "model.message", "agent.session", "turn.finished"),
            *("turn.queued", "turn.started", "model.message", "agent.session", "turn.finished"),
        ]
        assert len(agents.specs) == 1  # warm: the second message went to the same
        assert agents.requests[1].prompt == "and again"  # the agent remembers the first

    trio.run(main)


def test_text_is_shown_while_the_agent_writes(tmp_path: Path) -> None:

    async def main() -> None:
        hang = Hang()
        agents = ScriptedAgents([[Say("one\ntwo\n"), hang, Say("three")]])
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT)
            accepted = await kit.manager.submit(session, ME, "count")
            await hang.reached.wait()
            early: list[dict[str, Any]] = []
            with trio.fail_after(20):
                while not early:
                    early = await the(kit, session, "model.delta")
                    await trio.sleep(0.01)
            hang.until.set()
            await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            deltas = await the(kit, session, "model.delta")
        assert [delta["text"] for delta in early] == ["one\ntwo\n"]
        assert [delta["text"] for delta in deltas] == ["one\ntwo\n", "three"]

    trio.run(main)


def test_calls_of_the_agent_are_events_with_their_results(tmp_path: Path) -> None:

    async def main() -> None:
        steps: list[Step] = [
            UseTool("Bash", {"command": "make"}, output="built", id="a"),
            UseTool("Read", {"file_path": "x"}, id="b"),
        ]
        async with open_agents(tmp_path, ScriptedAgents([[*steps, Say("done")]])) as kit:
            session = await kit.session(**AGENT)
            await kit.ask(session, "build")
            started, finished = await the(kit, session, "tool.started"), await the(kit, session, "tool.finished")
            history = History(await kit.events(session))
        assert [(call["id"], call["name"], call["backend"]) for call in started] == [
            ("a", "Bash", "scripted"),
            ("b", "Read", "scripted"),
        ]
        assert [call.get("read_only", False) for call in started] == [False, True]
        assert [(call["id"], call["content"], call["outcome"]) for call in finished] == [
            ("a", "built", "ok"),
            ("b", "done", "ok"),
        ]
        roles = [message["role"] for message in history.messages()]
        assert roles == ["user", "assistant", "user", "assistant", "user", "assistant"]

    trio.run(main)


def test_an_answer_in_parts_keeps_every_call_paired_with_its_result(tmp_path: Path) -> None:
    """Some programs tell each block of an answer by itself, and run the calls of it at once."""

    async def main() -> None:

        def call(id: str) -> Tell:
            return Tell(Said([{"type": "tool_use", "id": id, "name": "Bash", "input": {"command": id}}]))

        steps: list[Step] = [
            call("a"),
            call("b"),
            Tell(ToolEnded("b", "of b", False)),
            Tell(ToolEnded("a", "of a", False)),
            Say("ok"),
        ]
        async with open_agents(tmp_path, ScriptedAgents([steps])) as kit:
            session = await kit.session(**AGENT)
            await kit.ask(session, "both")
            messages = History(await kit.events(session)).messages()
        assert [block["id"] for block in messages[1]["content"]] == ["a", "b"]
        assert [(block["tool_use_id"], block["content"]) for block in messages[2]["content"]] == [
            ("a", "of a"),
            ("b", "of b"),
        ]

    trio.run(main)


def test_a_program_that_dies_leaves_a_failed_turn_with_what_it_had_said(tmp_path: Path) -> None:

    async def main() -> None:
        steps: list[Step] = [Say("I begin"), UseTool("Bash", {"command": "make"}), Die(message="status 137")]
        agents = ScriptedAgents([steps])
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT)
            turn = await kit.ask(session, "build")
            again = await kit.ask(session, "go on")
        assert turn["status"] == "failed"
        assert turn["result"]["error"] == {"code": "agent_command_failed", "message": "status 137"}
        assert turn["result"]["text"] == "I begin"
        assert turn["result"]["cost_usd"] is None  # nobody knows
        assert len(agents.requests) == 2  # never run again by itself
        assert again["status"] == "finished"

    trio.run(main)


def test_a_failure_that_the_agent_tells_of_is_the_turns(tmp_path: Path) -> None:

    async def main() -> None:
        async with open_agents(tmp_path, ScriptedAgents([[Fail("auth", "not logged in")]])) as kit:
            turn = await kit.ask(await kit.session(**AGENT), "hello")
        assert turn["result"]["error"] == {"code": "agent_auth", "message": "not logged in"}

    trio.run(main)


def test_a_cancelled_turn_keeps_the_partial_text_and_leaves_nothing_running(tmp_path: Path) -> None:

    async def main() -> None:
        hang = Hang()
        agents = ScriptedAgents([[Say("I begin"), UseTool("Bash", {"command": "sleep"}), hang]])
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT)
            accepted = await kit.manager.submit(session, ME, "build")
            await hang.reached.wait()
            await kit.manager.cancel_turn(accepted.turn, ME)
            turn = await kit.manager.get_turn(accepted.turn, ME, wait_s=10)
            assert agents.running == 0
            again = await kit.ask(session, "go on")
        assert (turn["status"], turn["result"]["text"]) == ("cancelled", "I begin")
        assert again["status"] == "finished"

    trio.run(main)


def test_the_turns_time_ends_it(tmp_path: Path) -> None:

    async def main() -> None:
        async with open_agents(tmp_path, ScriptedAgents([[Say("I begin"), Hang()]])) as kit:
            session = await kit.session(**AGENT, limits={"turn_timeout_s": 1})
            turn = await kit.ask(session, "build")
        assert (turn["status"], turn["result"]["error"]["code"]) == ("failed", "turn_timeout")

    trio.run(main)


def test_an_agent_that_answers_too_often_is_ended(tmp_path: Path) -> None:

    async def main() -> None:
        agents = ScriptedAgents([[Say("1"), Say("2"), Say("3"), Hang()]])
        async with open_agents(tmp_path, agents) as kit:
            turn = await kit.ask(await kit.session(**AGENT, limits={"iterations": 2}), "count")
        assert turn["result"]["error"]["code"] == "iteration_limit"

    trio.run(main)


def test_what_a_person_may_want_to_know_is_told_and_the_agents_own_words_are_not(tmp_path: Path) -> None:

    async def main() -> None:
        steps: list[Step] = [
            Tell(Retrying(1, 2.5, "529")),
            Tell(Notice("low on context")),
            Tell(Raw({"secret": 1})),
            Say("ok"),
        ]
        async with open_agents(tmp_path, ScriptedAgents([steps])) as kit:
            session = await kit.session(**AGENT)
            await kit.ask(session, "hello")
            told = await the(kit, session, "agent.notice")
        assert [(notice["kind"], notice["text"]) for notice in told] == [
            ("retrying", "529"),
            ("notice", "low on context"),
        ]

    trio.run(main)


def test_an_answer_is_held_to_its_schema(tmp_path: Path) -> None:

    async def main() -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        agents = ScriptedAgents([[Say('{"n": 3}')], [Say("three")]], capabilities=AgentCapabilities())
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT, schema=schema)
            good, bad = await kit.ask(session, "how many"), await kit.ask(session, "how many")
        assert (good["status"], good["result"]["text"]) == ("finished", '{"n": 3}')
        assert bad["result"]["error"]["code"] == "schema_mismatch"
        assert '"required": ["n"]' in agents.requests[0].prompt  # asked in words, as this one keeps to none by itself

    trio.run(main)


def test_files_of_a_message_are_in_the_agents_folder_and_named(tmp_path: Path) -> None:

    async def main() -> None:
        agents = ScriptedAgents()
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT)
            accepted = await kit.manager.submit(session, ME, "read it", [("notes.txt", b"content")])
            await kit.manager.get_turn(accepted.turn, ME, wait_s=10)
        assert (agents.specs[0].folder / "notes.txt").read_bytes() == b"content"
        assert agents.requests[0].prompt == "[Files put into the workspace: notes.txt]\n\nread it"

    trio.run(main)


def test_what_is_said_while_the_agent_works_waits_for_the_next_turn(tmp_path: Path) -> None:

    async def main() -> None:
        hang = Hang()
        agents = ScriptedAgents([[hang, Say("first")]])
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT)
            accepted = await kit.manager.submit(session, ME, "one")
            await hang.reached.wait()
            steered = await kit.manager.submit(session, ME, "two", mode="steer")
            hang.until.set()
            await kit.manager.get_turn(accepted.turn, ME, wait_s=10)
            later = await kit.manager.get_turn(steered.turn, ME, wait_s=10)
        assert steered.status == "queued"
        assert later["result"]["text"] == "You said: two"

    trio.run(main)


def test_a_program_that_lost_its_session_is_told_what_was_said_before(tmp_path: Path) -> None:

    async def main() -> None:
        agents = ScriptedAgents()
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT)
            await kit.ask(session, "my name is Ada")
            await kit.manager.unload_idle(0)
            agents.forget_sessions()
            turn = await kit.ask(session, "what is my name")
            told = await the(kit, session, "agent.notice")
        assert turn["status"] == "finished"
        prompt = agents.requests[-1].prompt
        assert '{"user": "my name is Ada"}' in prompt
        assert prompt.endswith("what is my name")
        assert "begun anew" in told[0]["text"]

    trio.run(main)


def test_a_reset_conversation_begins_with_a_new_session(tmp_path: Path) -> None:

    async def main() -> None:
        agents = ScriptedAgents()
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT)
            await kit.ask(session, "my name is Ada")
            await kit.manager.reset(session, ME)
            await kit.ask(session, "what is my name")
        assert [spec.session_id for spec in agents.specs] == [None, None]
        assert agents.requests[-1].prompt == "what is my name"

    trio.run(main)


def test_a_fork_does_not_go_on_in_the_same_session(tmp_path: Path) -> None:

    async def main() -> None:
        agents = ScriptedAgents()
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT)
            await kit.ask(session, "my name is Ada")
            fork = str((await kit.manager.fork(session, ME))["id"])
            await kit.ask(fork, "what is my name")
        assert agents.specs[1].session_id is None
        assert '{"user": "my name is Ada"}' in agents.requests[-1].prompt

    trio.run(main)


def test_totals_and_id_are_given_back_when_a_session_is_taken_up_again(tmp_path: Path) -> None:

    async def main() -> None:
        agents = ScriptedAgents()
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT, system="Be brief.")
            await kit.ask(session, "one")
            await kit.manager.unload_idle(0)
            await kit.ask(session, "two")
        assert agents.specs[1].session_id is not None
        assert agents.specs[1].totals == {"turns": 1}
        assert agents.specs[0].system.startswith("Be brief.")

    trio.run(main)


def test_a_whole_agent_has_no_place_beside_it(tmp_path: Path) -> None:

    async def main() -> None:
        async with open_agents(tmp_path, ScriptedAgents()) as kit:
            with pytest.raises(Refused, match="no other place beside it"):
                await kit.session(backends=["scripted", "local"])
            with pytest.raises(Refused, match="mood"):
                await kit.session(backends=[{"backend": "scripted", "options": {"color": "red"}}])
            kept = await kit.manager.create(ME.uid, {"backends": [{"backend": "scripted", "options": {"mood": "x"}}]})
        assert kept["backends"] == [{"backend": "scripted", "options": {"mood": "x"}}]

    trio.run(main)


def test_a_backend_that_is_missing_fails_the_turn_with_its_remedy(tmp_path: Path) -> None:

    async def main() -> None:
        agents = ScriptedAgents()
        agents.unavailable = "install it with npm"
        async with open_agents(tmp_path, agents) as kit:
            turn = await kit.ask(await kit.session(**AGENT), "hello")
        assert turn["result"]["error"] == {"code": "backend_unavailable", "message": "install it with npm"}
        assert turn["result"]["cost_usd"] == 0.0

    trio.run(main)


def test_a_crash_of_the_daemon_interrupts_the_turn_and_the_next_one_goes_on(tmp_path: Path) -> None:

    async def main() -> None:
        hang = Hang()
        agents = ScriptedAgents([[Say("I begin"), UseTool("Bash", {"command": "make"}), hang]])
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT)
            await kit.manager.submit(session, ME, "build")
            await hang.reached.wait()
        # The kit ended while the turn ran: it was written as interrupted, with the id of the agent's session.
        async with open_agents(tmp_path, agents) as kit:
            turn = await kit.ask(session, "go on")
            endings = [type for type in await kit.types(session) if type.startswith("turn.") and type != "turn.queued"]
        assert turn["status"] == "finished"
        assert endings == ["turn.started", "turn.interrupted", "turn.started", "turn.finished"]
        assert agents.specs[1].session_id is not None
        assert "the daemon was restarted" in agents.requests[-1].prompt

    trio.run(main)


def test_the_bill_is_the_sum_of_what_agents_tell(tmp_path: Path) -> None:

    async def main() -> None:
        agents = ScriptedAgents([[Spend(Usage(input_tokens=5), None), Say("free?")]])
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**AGENT)
            unknown = await kit.ask(session, "one")
            known = await kit.ask(session, "two")
            view = await kit.manager.get(session, ME)
        assert unknown["result"]["cost_usd"] is None  # null, never 0
        assert known["result"]["cost_usd"] == pytest.approx(0.01)
        assert view["cost_usd"] is None

    trio.run(main)
