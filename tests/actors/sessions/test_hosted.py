"""Conversations with hosted execution: containers, pauses; and what is not there or not any more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hosted_kit import FakeHosted
from hosted_play import Play, made, play
from policy_kit import ruled
from session_kit import ME, open_kit
from skill_actors.errors import Refused
from skill_actors.models.offline import OfflineModel
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.testing import (
    CodeExecution,
    Cut,
    HttpError,
    Reply,
    ScriptedModel,
    ServerToolUse,
    Text,
    Thinking,
    ToolUse,
)
from support import run

XLSX = "anthropic:xlsx@latest"


def skill_folder(tmp_path: Path) -> Path:
    root = tmp_path / "src" / "tides"
    root.mkdir(parents=True)
    (root / "SKILL.md").write_text("---\nname: tides\ndescription: Tells tides.\n---\nTwice a day.\n")
    return root


def test_a_hosted_turn_names_skills_and_its_files_are_told_and_fetched_when_asked_for(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"], skills=[XLSX])
        turn = await at.turn(session, made())
        assert turn["result"]["text"] == "done"
        assert at.last["container"] == {"skills": [{"type": "anthropic", "skill_id": "xlsx", "version": "latest"}]}
        assert [tool["name"] for tool in at.last["tools"]] == ["code_execution"]
        (created,) = await at.data(session, "file.created")
        assert (created["name"], created["size"], created["source"]) == ("report.xlsx", 2, "anthropic")
        assert created["file_id"] in at.hosted.api.files
        assert at.hosted.downloads == []
        listed = await at.kit.manager.files.listing(session, ME)
        assert [(item["path"], item["source"]) for item in listed["items"]] == [("report.xlsx", "anthropic")]
        for _ in range(2):
            ref, file = await at.kit.manager.files.open(session, ME, "report.xlsx")
            with file:
                assert file.read_at(0, 10) == b"PK"
            assert ref.source == "anthropic"
        assert at.hosted.downloads == [created["file_id"]]
        assert len((await at.kit.manager.files.listing(session, ME))["items"]) == 1
        assert len(await at.data(session, "file.created")) == 1, "a file that was only fetched is no new one"

    play(tmp_path, story)


def test_what_the_api_executed_is_told_on_the_bus(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        told: list[Mapping[str, Any]] = []
        at.kit.bus.attach("test", ["backend.anthropic.tool_call"], lambda _name, _facts, meta: told.append(meta))
        session = await at.kit.session(backends=["anthropic"])
        turn = await at.turn(session, Reply([CodeExecution("true"), CodeExecution("false", return_code=1), Text("x")]))
        assert [(meta["tool"], meta["success"]) for meta in told] == [
            ("bash_code_execution", True),
            ("bash_code_execution", False),
        ]
        assert {(meta["session"], meta["turn"]) for meta in told} == {(session, turn["turn"])}

    play(tmp_path, story)


def test_the_container_is_used_again_and_a_reset_forgets_it_and_a_fork_has_its_own(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        await at.turn(session, made())
        (container,) = at.model.hosted.containers
        assert [data["container"] for data in await at.data(session, "model.message")] == [container]
        await at.turn(session, Reply([Text("no code this time")]))
        assert at.last["container"] == {"id": container}
        fork = str((await at.kit.manager.fork(session, ME))["id"])
        await at.turn(fork, made())
        assert "container" not in at.last
        assert "[skilld: the container in which code was executed" in str(at.last["messages"][-1])
        await at.turn(session, made("c.txt"))
        assert at.last["container"] == {"id": container}
        await at.kit.manager.reset(session, ME)
        await at.turn(session, made())
        assert "container" not in at.last

    play(tmp_path, story)


@pytest.mark.parametrize("how", ["not_found", "expired"])
def test_a_container_that_is_gone_is_replaced_once_and_everybody_is_told(tmp_path: Path, how: Any) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"], skills=[XLSX])
        await at.turn(session, made())
        (before,) = at.model.hosted.containers
        at.model.hosted.refuse_containers = how
        at.model.hosted.expire()
        turn = await at.turn(session, made("b.xlsx"), text="again")
        assert turn["result"]["text"] == "done"
        assert at.last["container"] == {"skills": [{"type": "anthropic", "skill_id": "xlsx", "version": "latest"}]}
        assert await at.data(session, "session.container_lost") == [{"container": before}]
        told = at.last["messages"][-1]["content"]
        assert [block["text"][:30] for block in told] == ["again", "[skilld: the container in which"[:30]]
        await at.turn(session, Reply([Text("x")]))
        assert at.last["container"]["id"] not in (None, before)

    play(tmp_path, story)


def test_a_turn_that_pauses_goes_on_with_the_same_request_and_stops_at_the_bound(tmp_path: Path) -> None:
    def pause(half: Any = "call") -> Reply:
        return Reply([CodeExecution("sleep 60", half=half)], stop_reason="pause_turn")

    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        end = Reply([CodeExecution("sleep 60", half="result", files={"a.txt": b"1"}), Text("slept")])
        turn = await at.turn(session, pause(), end)
        assert (turn["result"]["text"], turn["result"]["iterations"]) == ("slept", 2)
        assert [data["name"] for data in await at.data(session, "file.created")] == ["a.txt"]
        at.model.enqueue(*(Reply([CodeExecution("x", half="call")], stop_reason="pause_turn") for _ in range(4)))
        failed = await at.kit.ask(session, "for ever")
        assert failed["result"]["error"]["code"] == "pause_limit"
        # What never got a result is not sent again, and the conversation goes on.
        assert (await at.turn(session, Reply([Text("here")])))["result"]["text"] == "here"

    play(tmp_path, story, defaults=SessionDefaults(pauses=3))


def test_client_tools_and_hosted_code_in_one_answer_keep_the_order_of_the_api(tmp_path: Path) -> None:
    bash = ToolUse("bash_tool", {"command": "echo here", "description": "d"})

    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["local", "anthropic"])
        both = Reply([CodeExecution("echo there", stdout="there"), bash])
        await at.turn(session, both, Reply([Text("both")]))
        results = at.last["messages"][-1]["content"]
        assert [block["type"] for block in results] == ["tool_result"]
        kinds = [block["type"] for block in at.last["messages"][-2]["content"]]
        assert kinds == ["server_tool_use", "bash_code_execution_tool_result", "tool_use"]
        names = {tool["name"] for tool in at.last["tools"]}
        assert {"bash_tool", "code_execution", "hand_over"} <= names
        assert "The place anthropic is where your code_execution tool runs" in at.last["system"]

    play(tmp_path, story)


def test_a_skill_on_disk_is_uploaded_where_it_is_named(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"], skills=["tides", XLSX])
        at.model.hosted.skills.resolve = lambda *_: _Version()  # type: ignore[method-assign, assignment]
        await at.turn(session, Reply([Text("x")]))
        ids = [skill["skill_id"] for skill in at.last["container"]["skills"]]
        assert ids == ["xlsx", "skill_tides"]
        assert at.hosted.uploaded_skills == ["tides"]
        mixed = await at.kit.session(backends=["local", "anthropic"], skills=["tides"])
        await at.turn(mixed, Reply([Text("x")]))
        assert "container" not in at.last
        assert "tides" in at.last["system"]
        asked = {"backend": "anthropic", "options": {"skills": ["tides"]}}
        both = await at.kit.session(backends=["local", asked])
        await at.turn(both, Reply([Text("x")]))
        assert [skill["skill_id"] for skill in at.last["container"]["skills"]] == ["skill_tides"]

    play(tmp_path, story, skills=[skill_folder(tmp_path)])


class _Version:
    id = "v1"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"skills": ["anthropic:"]}, "invalid_skill_spec"),
        ({"skills": ["anthropic:xlsx@"]}, "invalid_skill_spec"),
        ({"skills": ["anthropic:xl sx"]}, "invalid_skill_spec"),
        ({"skills": ["custom:a@1", "custom:a@2"]}, "invalid_skill_spec"),
        ({"skills": ["gone"]}, "invalid_skill_spec"),
        ({"skills": [f"custom:skill_{n}" for n in range(21)]}, "skills_limit_exceeded"),
        ({"backends": ["local"], "skills": [XLSX]}, "invalid_skill_spec"),
        ({"backends": [{"backend": "anthropic", "options": {"image": "x"}}]}, "bad_request"),
        ({"backends": [{"backend": "anthropic", "options": {"skills": "tides"}}]}, "bad_request"),
        ({"backends": [{"backend": "anthropic", "options": {"skills": ["gone"]}}]}, "invalid_skill_spec"),
        ({"backends": ["anthropic", {"backend": "anthropic", "name": "b"}]}, "bad_request"),
    ],
)
def test_what_a_container_cannot_have_is_refused_when_the_session_is_made(
    tmp_path: Path, settings: dict[str, Any], code: str
) -> None:
    async def story(at: Play) -> None:
        with pytest.raises(Refused) as refused:
            await at.kit.session(**{"backends": ["anthropic"], **settings})
        assert refused.value.code == code

    play(tmp_path, story)


def test_without_a_key_or_with_the_offline_model_there_is_no_hosted_session(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        at.hosted.no_key = True
        with pytest.raises(Refused, match="API key") as refused:
            await at.kit.session(backends=["anthropic"])
        assert refused.value.code == "backend_unavailable"

    play(tmp_path, story)

    async def offline() -> None:
        hosted = FakeHosted(ScriptedModel().hosted.files)
        async with open_kit(tmp_path / "2", OfflineModel(), around={"hosted": hosted}) as kit:
            with pytest.raises(Refused, match="offline") as refused:
                await kit.session(backends=["local", "anthropic"])
            assert refused.value.code == "backend_unavailable"

    (tmp_path / "2").mkdir()
    run(offline)


def test_a_hosted_side_that_fails_later_ends_its_own_turns_and_no_hybrid_ones(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        alone = await at.kit.session(backends=["anthropic"])
        mixed = await at.kit.session(backends=["local", "anthropic"])
        upload = Reply([ToolUse("create_file", {"path": "a", "file_text": "1", "description": "d"})])
        send = Reply([ToolUse("hand_over", {"name": "a", "from": "local", "to": "anthropic"})])
        await at.turn(mixed, upload, send, Reply([Text("x")]))
        at.hosted.no_key = True
        failed = await at.kit.ask(alone, "go")
        assert failed["result"]["error"]["code"] == "backend_unavailable"
        await at.turn(mixed, Reply([Text("still here")]))
        assert "The place anthropic (anthropic) cannot be used now: there is no API key" in at.last["system"]
        assert "code_execution" not in {tool.get("name") for tool in at.last["tools"]}
        assert "container_upload" not in str(at.last["messages"])

    play(tmp_path, story)


@pytest.mark.parametrize("name", ["code_execution", "bash_code_execution"])
@pytest.mark.parametrize("rule", ["deny", "ask"])
def test_an_operator_can_keep_the_model_from_having_code_executed(tmp_path: Path, rule: str, name: str) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["local", "anthropic"], skills=[XLSX])
        await at.turn(session, Reply([Text("x")]))
        assert "code_execution" not in {tool["name"] for tool in at.last["tools"]}
        assert "container" not in at.last
        alone = await at.kit.session(backends=["anthropic"])
        assert (await at.kit.ask(alone, "go"))["result"]["error"]["code"] == "backend_unavailable"

    play(tmp_path, story, defaults=SessionDefaults(policy=ruled({"effect": rule, "tool": name})))


def test_the_runs_of_code_are_counted_and_their_container_is_paid_by_time(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        turn = await at.turn(session, made())
        assert turn["result"]["usage"]["code_execution_requests"] == 1
        quiet = await at.turn(await at.kit.session(backends=["anthropic"]), Reply([Text("no code")]))
        least = 0.05 / 60 * 5  # dollars an hour, and no less than five minutes
        assert turn["result"]["cost_usd"] > least > quiet["result"]["cost_usd"] > 0

    play(tmp_path, story)


def test_a_call_of_the_api_that_was_cut_is_not_sent_again(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        cut = Reply([Text("one"), ServerToolUse("bash_code_execution", {"command": "x"})], stop_reason="max_tokens")
        await at.turn(session, cut)
        await at.turn(session, Reply([Text("two")]))
        assert "server_tool_use" not in str(at.last["messages"])
        (first, _) = await at.data(session, "model.message")
        assert [block["type"] for block in first["content"]] == ["text", "server_tool_use"], "the log has it"

    play(tmp_path, story)


def test_a_container_that_is_lost_while_the_answer_pauses_is_replaced_and_its_call_given_up(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        at.model.enqueue(Reply([Text("I begin. "), CodeExecution("x", half="call")], stop_reason="pause_turn"))

        def expire(_body: Any) -> Reply:
            return Reply([CodeExecution("again"), Text("done")])

        at.model._respond = expire
        real = at.model.hosted.play

        def then_expire(reply: Reply, body: Any) -> Reply:
            played = real(reply, body)
            if reply.stop_reason == "pause_turn":
                at.model.hosted.expire()
            return played

        at.model.hosted.play = then_expire  # type: ignore[method-assign]
        turn = await at.kit.ask(session, "go")
        assert turn["status"] == "finished", turn
        assert turn["result"]["text"] == "I begin. done"
        messages = at.last["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant", "user"]
        assert [block["type"] for block in messages[1]["content"]] == ["text"]
        assert len(await at.data(session, "session.container_lost")) == 1

    play(tmp_path, story)


def test_an_error_that_only_speaks_of_containers_does_not_cost_the_conversation_its_own(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        await at.turn(session, made())
        at.model.enqueue(HttpError(400, message="container.skills: Skill not found: skill_1 (latest)"))
        failed = await at.kit.ask(session, "go")
        assert failed["result"]["error"]["code"] == "model_invalid_request"
        assert await at.data(session, "session.container_lost") == []
        await at.turn(session, Reply([Text("x")]))
        assert at.last["container"]["id"] in at.model.hosted.containers

    play(tmp_path, story)


def test_a_limit_of_an_active_skill_keeps_code_from_being_executed(tmp_path: Path) -> None:
    root = skill_folder(tmp_path)
    page = root / "SKILL.md"
    page.write_text(page.read_text().replace("description", "allowed-tools: Read\ndescription"))

    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["local", "anthropic"])
        load = ToolUse("load_skill", {"name": "tides"})
        await at.turn(session, Reply([load]), Reply([Text("x")]))
        first, second = ({tool["name"] for tool in request.tools} for request in at.model.requests[-2:])
        assert "code_execution" in first
        assert "code_execution" not in second

    play(tmp_path, story, skills=[root], defaults=SessionDefaults(restrict_to_allowed_tools=True))


def test_a_workspace_that_cannot_be_made_fails_the_turn_and_not_the_conversation(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        at.folder.write_text("in the way")
        failed = await at.kit.ask(session, "go")
        assert failed["result"]["error"]["code"] == "backend_unavailable"
        at.folder.unlink()
        await at.turn(session, made())

    play(tmp_path, story)


def test_an_answer_that_is_nothing_but_thinking_does_not_end_the_conversation(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        await at.turn(session, Reply([Thinking("hm")], stop_reason="max_tokens"))
        cut = Reply([Thinking("so"), CodeExecution("x", half="call")], stop_reason="max_tokens")
        await at.turn(session, cut)
        await at.turn(session, Reply([Text("two")]), text="well?")
        assert [data["content"][0]["type"] for data in await at.data(session, "model.message")] == [
            "thinking", "thinking", "text"
        ], "the log has it"  # fmt: skip

    play(tmp_path, story)


@pytest.mark.parametrize("after", [5, 6])
def test_an_answer_that_breaks_off_after_code_was_run_is_not_asked_for_again(tmp_path: Path, after: int) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        code = CodeExecution("echo 1 >> log", files={"log": b"1"})
        at.model.enqueue(Reply([code, CodeExecution("y" * 60), Text("x")], fail=Cut(after=after)), Reply([Text("no")]))
        turn = await at.kit.ask(session, "go")
        assert turn["result"]["error"]["code"] == "model_connection"
        assert turn["result"]["cost_usd"] is None
        assert len(at.model.requests) == 1
        (message,) = await at.data(session, "model.message")
        assert [block["type"] for block in message["content"]] == ["server_tool_use", "bash_code_execution_tool_result"]

    play(tmp_path, story)
