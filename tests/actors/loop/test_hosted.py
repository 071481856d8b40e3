"""The turn backend `anthropic`: by its name, with every kind of model, skills from disk, failures it survives."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import pytest

from skill_actors.backends.anthropic import (
    HostedClient,
    HostedError,
    HostedResponse,
    HostedTurn,
    SkillUploads,
    beta_headers,
    code_execution_tool,
    complete,
    container_config,
    download_files,
    extract_file_ids,
    extract_text,
)
from skill_actors.loop import BackendSession, HostedBackend, HostedMemory, TurnFailed, chat, find_backend
from skill_actors.models import AnthropicModel
from skill_actors.models.base import Message
from skill_actors.skills import load
from skill_actors.testing import (
    CodeExecution,
    FakeMessagesApi,
    HttpError,
    Reply,
    ScriptedModel,
    Text,
    ToolUse,
    open_fake_api,
)
from support import run

PAUSED = Reply([Text("a"), CodeExecution("x", half="call")], stop_reason="pause_turn")
FINISHED = Reply([CodeExecution(half="result", files={"r.xlsx": b"xlsx"}), Text("b")])


async def new(*skills: object, **options: Any) -> BackendSession:
    return await HostedBackend().new_session(skills, model_name="claude-sonnet-5-5", **options)


def memory(session: BackendSession) -> HostedMemory:
    assert isinstance(session.state, HostedMemory)
    return session.state


def test_the_backend_is_found_by_its_name_and_goes_on_over_turns() -> None:
    async def main() -> None:
        model = ScriptedModel([PAUSED, FINISHED, Reply([CodeExecution("y"), Text("c")])])
        backend = await find_backend("anthropic")
        session = await backend.new_session(["anthropic:xlsx"], model_name="m", system="Be brief.")  # type: ignore[list-item]
        turn, session = await chat(session, "make one", model)
        assert isinstance(turn, HostedTurn)
        assert turn.text == "ab"
        again, session = await chat(session, "and another", model)
        assert again.text == "c"
        assert [message["role"] for message in session.messages] == ["user", "assistant"] * 2
        [container] = model.hosted.containers.values()
        assert memory(session).container_id == container.id
        assert container.skills == [{"type": "anthropic", "skill_id": "xlsx", "version": "20251013"}]
        assert [file.file_id for file in memory(session).files] == list(model.hosted.files.files)
        requests = [(request.model, request.system, request.tools[0]["name"]) for request in model.requests]
        assert requests == [("m", "Be brief.", "code_execution")] * 3
        assert [request.extra["container"].get("id") for request in model.requests] == [None, *[container.id] * 2]

    run(main)


def test_every_kind_of_model_gets_tools_and_container_to_the_wire() -> None:
    """With Conjure a function is called with the messages alone, and the container's id never arrives."""

    async def main() -> None:
        async with (
            open_fake_api([PAUSED, FINISHED] * 3) as api,
            HostedClient(lambda: "key", base_url=api.base_url) as client,
        ):

            async def whole(messages: Sequence[Message], request: Mapping[str, Any]) -> object:
                assert list(messages) == request["messages"]
                return await client.ask(request)

            model = AnthropicModel(lambda: "key", base_url=api.base_url)
            for each in (client, whole, model):
                turn, session = await HostedBackend().chat(await new("anthropic:xlsx"), "go", each)
                assert (turn.text, len(turn.files)) == ("ab", 1)
                assert memory(session).container_id == turn.container_id
            await model.aclose()
            assert [body["container"].get("id") is None for body in api.bodies] == [True, False] * 3
            assert all(body["tools"] == [code_execution_tool()] for body in api.bodies)

    run(main)


async def tutorial_callback(api: FakeMessagesApi, messages: Sequence[Message]) -> object:
    """The callback of the tutorial: any HTTP client, the helpers, no streaming."""
    body = {
        "model": "claude-sonnet-4-5-20250929",
        "max_tokens": 4096,
        "messages": list(messages),
        "tools": [code_execution_tool()],
        "container": container_config([("anthropic", "xlsx", "latest")]),
    }
    headers = {"x-api-key": "key", "anthropic-version": "2023-06-01", "content-type": "application/json"}
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(f"{api.base_url}/v1/messages", json=body, headers={**headers, **beta_headers()})
    return answer.json()


def test_the_callback_of_the_tutorial_can_be_written_and_its_files_are_found(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "Executive Summary"
    buffer = io.BytesIO()
    book.save(buffer)

    async def main() -> None:
        made = CodeExecution("python report.py", files={"incident.xlsx": buffer.getvalue()})
        async with open_fake_api([Reply([made, Text("Here is the report.")])] * 2) as api:

            async def anthropic_api_callback(messages: Sequence[Message]) -> object:
                return await tutorial_callback(api, messages)

            answer = await anthropic_api_callback([{"role": "user", "content": "a report, please"}])
            assert complete(answer)
            assert extract_text(answer) == "Here is the report."
            [file_id] = extract_file_ids(answer)

            session = await new("anthropic:xlsx")
            turn, session = await chat(session, "a report, please", anthropic_api_callback)
            assert turn.text == "Here is the report."
            async with HostedClient(lambda: "key", base_url=api.base_url) as client:
                downloads = await download_files([file_id, *turn.files], tmp_path / "reports", client=client)
        assert [path.name for path in downloads.paths] == ["incident.xlsx", "incident (2).xlsx"]
        assert openpyxl.load_workbook(downloads.paths[0]).sheetnames == ["Executive Summary"]

    run(main)


def test_an_error_that_the_callback_returns_is_the_error_of_the_turn() -> None:
    async def main() -> None:
        async with open_fake_api([HttpError(529, message="busy"), Reply([Text("later")])]) as api:

            async def callback(messages: Sequence[Message]) -> object:
                return await tutorial_callback(api, messages)

            session = await new("anthropic:xlsx")
            with pytest.raises(TurnFailed) as caught:
                await chat(session, "go", callback)
            assert (caught.value.code, caught.value.retryable) == ("anthropic_api_error", True)
            assert caught.value.details["api_message"] == "busy"
            turn, session = await chat(caught.value.session, "again", callback)
            assert turn.text == "later"
            assert [block["text"] for block in session.messages[0]["content"]] == ["go", "again"]

    run(main)


def test_skills_of_all_kinds_are_in_one_session_and_those_from_disk_are_uploaded(tmp_path: Path) -> None:
    """Conjure looks at the first of a list, and crashes on a mixed one."""
    (tmp_path / "skills/tides").mkdir(parents=True)
    (tmp_path / "skills/tides/SKILL.md").write_text("---\nname: tides\ndescription: Looks up tides.\n---\nRun it.\n")
    tides = load(tmp_path / "skills").skills["tides"]

    async def main() -> None:
        async with (
            open_fake_api([Reply([CodeExecution("x"), Text("ok")])]) as api,
            HostedClient(lambda: "key", base_url=api.base_url) as client,
        ):
            uploads = SkillUploads(client, tmp_path / "uploads.json")
            session = await new("anthropic:xlsx", tides, ("anthropic", "pdf", "20251013"), uploads=uploads)
            assert [skill.type for skill in memory(session).skills] == ["anthropic", "custom", "anthropic"]
            assert session.skills == (tides,)
            _turn, session = await chat(session, "go", client)
            [container] = api.hosted.containers.values()
            assert [skill["skill_id"] for skill in container.skills] == [
                "xlsx",
                memory(session).skills[1].skill_id,
                "pdf",
            ]
            with pytest.raises(HostedError, match="uploads") as caught:
                await new(tides)
            assert caught.value.code == "skill_upload_failed"
            before = len(api.requests)
            with pytest.raises(HostedError) as caught:
                await new("nonsense", tides, uploads=uploads)
            assert (caught.value.code, len(api.requests)) == ("invalid_skill_spec", before)
            with pytest.raises(HostedError) as caught:
                await new(*[f"custom:s{number}" for number in range(20)], tides, uploads=uploads)
            assert (caught.value.code, len(api.requests)) == ("skills_limit_exceeded", before)

    run(main)


def test_files_go_into_the_container_with_the_message() -> None:
    async def main() -> None:
        async with (
            open_fake_api([Reply([CodeExecution("wc in.csv"), Text("ok")])]) as api,
            HostedClient(lambda: "key", base_url=api.base_url) as client,
        ):
            file = await client.files.upload(b"a,b", name="in.csv")
            _turn, session = await chat(await new(), "count", client, files=[file.id])
            [container] = api.hosted.containers.values()
            assert container.uploads == [file.id]
            with pytest.raises(TurnFailed, match="File not found"):
                await chat(session, "again", client, files=["file_none"])

    run(main)


def test_too_many_pauses_and_a_lost_container_are_failures_with_details_and_a_session() -> None:
    async def main() -> None:
        async with (
            open_fake_api([PAUSED, PAUSED, FINISHED, Reply([Text("on")])]) as api,
            HostedClient(lambda: "key", base_url=api.base_url) as client,
        ):
            with pytest.raises(TurnFailed) as caught:
                await chat(await new(max_pauses=0), "go", client)
            assert (caught.value.code, caught.value.details) == ("pause_turn_max_exceeded", {"iterations": 1, "max": 0})
            seen: list[HostedResponse] = []

            def lose(response: HostedResponse, attempt: int) -> None:
                seen.append(response)
                api.hosted.expire()

            with pytest.raises(TurnFailed) as caught:
                await chat(await new(), "go", client, on_pause=lose)
            assert caught.value.code == "container_not_found"
            assert caught.value.details["container_id"] == seen[0].container_id
            turn, _session = await chat(caught.value.session, "go on", client)
            assert turn.lost_container == seen[0].container_id

    run(main)


def test_a_call_of_a_tool_that_nobody_runs_gets_a_result_so_that_the_session_goes_on() -> None:
    async def main() -> None:
        fetch = {"name": "fetch", "input_schema": {"type": "object"}}
        model = ScriptedModel([Reply([ToolUse("fetch", {})]), Reply([Text("without it")])])
        session = await new(tools=[fetch])
        turn, session = await chat(session, "go", model)
        assert turn.stop_reason == "tool_use"
        turn, session = await chat(session, "and now?", model)
        assert turn.text == "without it"

    run(main)


def test_unknown_options_are_errors() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="new_session has no option 'skill'"):
            await new(skill="x")
        with pytest.raises(TypeError, match="chat has no option 'uploads'"):
            await chat(await new(), "go", ScriptedModel(), uploads=None)

    run(main)
