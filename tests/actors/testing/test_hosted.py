"""The hosted side of the fake server refuses what the real one refuses, and answers in its shapes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from skill_actors.testing import (
    CodeEdit,
    CodeExecution,
    FakeMessagesApi,
    HttpError,
    Reply,
    Text,
    ToolUse,
    check_request,
    open_fake_api,
    parse_answer,
)
from support import run

HEADERS = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
TOOL = {"type": "code_execution_20250825", "name": "code_execution"}
SKILL_MD = b"---\nname: tides\ndescription: Looks up tides.\n---\nRun it.\n"


def body(*messages: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    said = messages or ({"role": "user", "content": "go"},)
    return {"model": "m", "max_tokens": 1000, "messages": list(said), "tools": [TOOL], **fields}


def skills(*names: str, type: str = "anthropic") -> dict[str, Any]:
    return {"skills": [{"type": type, "skill_id": name} for name in names]}


async def post(api: FakeMessagesApi, data: Any, headers: Mapping[str, str] = HEADERS) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        return await client.post(f"{api.base_url}/v1/messages", json=data, headers=headers)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"container": 3}, "container: Input"),
        ({"container": ""}, "container: Input"),
        ({"container": {"name": "x"}}, "container.name: Extra"),
        ({"container": {"id": 3}}, "container.id"),
        ({"container": {"skills": {"xlsx": 1}}}, "container.skills: Input should be a valid list"),
        ({"container": {"skills": ["xlsx"]}}, "container.skills.0: Input"),
        ({"container": {"skills": [{"type": "anthropic"}]}}, "container.skills.0.skill_id: Field required"),
        ({"container": {"skills": [{"type": "x", "skill_id": "y"}]}}, "container.skills.0.type"),
        ({"container": {"skills": [{"type": "custom", "skill_id": "y", "version": 1}]}}, "version"),
        ({"container": {"skills": [{"type": "custom", "skill_id": "y", "name": "x"}]}}, "name: Extra"),
        ({"container": skills(*[f"s{number}" for number in range(21)])}, "at most 20 items"),
        ({"container": skills("xlsx", "xlsx")}, "unique"),
        ({"container": skills("xlsx"), "tools": []}, "need the code execution tool"),
        ({"tools": [{"type": "code_execution_20990101", "name": "code_execution"}]}, "does not match any"),
        ({"tools": [{"type": "code_execution_20250825", "name": "run"}]}, "should be 'code_execution'"),
        ({"temperature": 1}, "temperature: Extra"),
    ],
)
def test_a_malformed_container_or_tool_is_refused(fields: dict[str, Any], problem: str) -> None:
    assert problem in (check_request(body(**fields)) or "")


def test_what_the_old_version_took_is_taken_under_it() -> None:
    assert check_request(body(temperature=1), version="2023-06-01") is None


def test_inputs_for_a_container_need_the_tool() -> None:
    upload = {"role": "user", "content": [{"type": "container_upload", "file_id": "file_1"}]}
    assert check_request(body(upload)) is None
    assert "container_upload" in (check_request(body(upload, tools=[])) or "")


def test_a_server_call_without_its_result_is_refused_unless_the_answer_goes_on() -> None:
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "bash_code_execution", "input": {}}
    result = {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": {}}
    client = {"type": "tool_use", "id": "toolu_1", "name": "fetch", "input": {}}
    answered = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}]}
    user = {"role": "user", "content": "go"}

    def said(*blocks: Any) -> dict[str, Any]:
        return {"role": "assistant", "content": list(blocks)}

    assert "without a corresponding" in (check_request(body(user, said(call), user)) or "")
    assert "was not called" in (check_request(body(user, said(result), user)) or "")
    assert check_request(body(user, said(call, result), user)) is None
    assert check_request(body(user, said(call, client), answered)) is None
    text = {"type": "text", "text": "x"}
    assert check_request(body(user, said(call, client), answered, said(result, text), user)) is None
    assert "without a corresponding" in (
        check_request(body(user, said(call, client), answered, said(text), user)) or ""
    )


def test_calls_that_code_made_are_answered_by_results_alone() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "fetch", "input": {}}
    coded = {**call, "caller": {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
    user = {"role": "user", "content": "go"}
    more = {"role": "user", "content": [result, {"type": "text", "text": "and"}]}
    assert check_request(body(user, {"role": "assistant", "content": [call]}, more)) is None
    said = {"role": "assistant", "content": [coded]}
    assert "only `tool_result`" in (check_request(body(user, said, more)) or "")
    assert check_request(body(user, said, {"role": "user", "content": [result]})) is None


def test_a_fifth_cache_breakpoint_is_refused() -> None:
    text = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    user = {"role": "user", "content": [text, text, text]}
    assert check_request(body(user, system=[text])) is None
    assert "Found 5" in (check_request(body(user, system=[text, text])) or "")


def test_results_of_client_tools_beside_running_code_need_the_container() -> None:
    async def main() -> None:
        beside = Reply([CodeExecution("x", half="call"), ToolUse("fetch", {})])
        async with open_fake_api([beside, Reply([CodeExecution(half="result"), Text("both")])]) as api:
            tools = [TOOL, {"name": "fetch", "input_schema": {"type": "object"}}]
            first = (await post(api, body(tools=tools))).json()
            result = {"type": "tool_result", "tool_use_id": first["content"][1]["id"], "content": "x"}
            said = [{"role": "user", "content": "go"}, {"role": "assistant", "content": first["content"]}]
            request = body(*said, {"role": "user", "content": [result]}, tools=tools)
            assert "container_id is required" in (await post(api, request)).text
            answer = await post(api, {**request, "container": first["container"]["id"]})
            assert answer.json()["content"][0]["tool_use_id"] == first["content"][0]["id"]

    run(main)


@pytest.mark.parametrize(
    ("version", "beta", "problem"),
    [("", "", "anthropic-version"), ("1", "", "not a valid version"), ("2023-06-01", "skills-2025-10-02,x-1", "`x-1`")],
)
def test_headers_are_checked(version: str, beta: str, problem: str) -> None:
    async def main() -> None:
        async with open_fake_api() as api:
            headers = {"x-api-key": "k", **({"anthropic-version": version} if version else {})}
            answer = await post(api, body(), {**headers, **({"anthropic-beta": beta} if beta else {})})
            assert (answer.status_code, problem in answer.text) == (400, True)

    run(main)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"container": None}, "container_id is required"),
        ({"container": {"id": "container_2"}}, "container"),
        ({"tools": [{**TOOL, "type": "code_execution_20260521"}]}, "tools: must be those"),
        ({"text": "changed"}, "returned unchanged"),
        ({"user": "more"}, "without a corresponding"),
    ],
)
def test_after_a_pause_everything_has_to_come_back_as_it_was(change: dict[str, Any], problem: str) -> None:
    async def main() -> None:
        paused = Reply([Text("a"), CodeExecution("x", half="call")], stop_reason="pause_turn", container="container_1")
        async with open_fake_api([paused, Reply([CodeExecution(half="result"), Text("b")])]) as api:
            first = (await post(api, body())).json()
            await post(api, body(container="container_2"))
            content = [dict(block) for block in first["content"]]
            content[0]["text"] = change.get("text", "a")
            messages: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
            messages.append({"role": "assistant", "content": content})
            if "user" in change:
                messages.append({"role": "user", "content": change["user"]})
            fields = {name: value for name, value in change.items() if name in ("container", "tools")}
            api.hosted.containers["container_2"] = api.hosted.containers["container_1"]
            request = body(*messages, **{"container": {"id": "container_1"}, **fields})
            answer = await post(api, request)
            assert (answer.status_code, problem in answer.text) == (400, True), answer.text
            good = body({"role": "user", "content": "go"}, {"role": "assistant", "content": first["content"]})
            assert (await post(api, {**good, "container": "container_1"})).status_code == 200

    run(main)


def test_code_leaves_its_output_its_files_and_its_container_in_the_answer() -> None:
    async def main() -> None:
        made = CodeExecution("make", stdout="ok\n", files={"a.txt": b"1", "b.txt": b"2"})
        failed = CodeExecution("sleep", error="execution_time_exceeded")
        edited = CodeEdit("create", "/tmp/x", {"file_text": "x"})
        seen = CodeEdit("view", "/tmp/x", text="x\ny")
        lost = CodeEdit("str_replace", "/tmp/y", error="file_not_found")
        async with open_fake_api([Reply([made, failed, edited, seen, lost, Text("done")])]) as api:
            answer = (await post(api, body(container=skills("xlsx", "pdf")))).json()
            kinds = [block["type"] for block in answer["content"]]
            assert kinds == [
                *("server_tool_use", "bash_code_execution_tool_result") * 2,
                *("server_tool_use", "text_editor_code_execution_tool_result") * 3,
                "text",
            ]
            ids = [output["file_id"] for output in answer["content"][1]["content"]["content"]]
            assert [api.hosted.files.files[id].content for id in ids] == [b"1", b"2"]
            assert answer["content"][3]["content"]["error_code"] == "execution_time_exceeded"
            assert answer["content"][5]["content"]["type"] == "text_editor_code_execution_create_result"
            assert answer["content"][9]["content"]["error_code"] == "file_not_found"
            assert [skill["version"] for skill in answer["container"]["skills"]] == ["20251013"] * 2
            assert answer["container"]["expires_at"].endswith("Z")

    run(main)


def test_a_stream_tells_the_container_at_its_end() -> None:
    async def main() -> None:
        async with open_fake_api([Reply([CodeExecution("make", files={"a": b""}), Text("done")])]) as api:
            answer = await post(api, body(stream=True))
            assert '"container": {"id": "container_' in answer.text.split("event: message_delta")[1]
            assert "bash_code_execution_output" in answer.text

    run(main)


def test_skills_and_files_that_are_not_there_are_refused() -> None:
    async def main() -> None:
        async with open_fake_api() as api:
            for container in (skills("nope"), skills("skill_1", type="custom"), skills("xlsx", type="custom")):
                assert "Skill not found" in (await post(api, body(container=container))).text
            old = {"skills": [{"type": "anthropic", "skill_id": "xlsx", "version": "20200101"}]}
            assert "Skill not found" in (await post(api, body(container=old))).text
            upload = {"role": "user", "content": [{"type": "container_upload", "file_id": "file_1"}]}
            assert (await post(api, body(upload))).status_code == 404
            assert (await post(api, body(container="container_none"))).status_code == 404

    run(main)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"tides/SKILL.md": SKILL_MD, "other/x": b""}, "same top-level"),
        ({"SKILL.md": SKILL_MD}, "Invalid file path"),
        ({"tides/sub/SKILL.md": SKILL_MD}, "SKILL.md"),
        ({"tides/SKILL.md": b"x"}, "SKILL.md"),
        ({"waves/SKILL.md": SKILL_MD}, "SKILL.md"),
        ({"tides/SKILL.md": SKILL_MD, "tides/../x": b""}, "Invalid file path"),
        ({"tides/SKILL.md": SKILL_MD, "tides/big": b"x" * 30_000_001}, "30 MB"),
        ({"claude-x/SKILL.md": SKILL_MD.replace(b"tides", b"claude-x")}, "claude"),
        ({}, "Field required"),
    ],
    ids=range(9),
)
def test_an_upload_that_is_no_skill_is_refused(files: dict[str, bytes], problem: str) -> None:
    async def main() -> None:
        async with (
            open_fake_api() as api,
            httpx.AsyncClient(base_url=api.base_url, trust_env=False, timeout=30) as client,
        ):
            parts = [("files[]", (path, content)) for path, content in files.items()] or [("x", ("x", b""))]
            answer = await client.post("/v1/skills", files=parts, headers=HEADERS)
            assert (answer.status_code, problem in answer.text) == (400, True), answer.text
            assert api.hosted.skills.custom() == []

    run(main)


def test_a_zip_archive_is_an_upload_and_a_version_keeps_the_name() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tides/SKILL.md", SKILL_MD)

    async def main() -> None:
        async with (
            open_fake_api() as api,
            httpx.AsyncClient(base_url=api.base_url, trust_env=False, timeout=30) as client,
        ):
            zipped = [("files[]", ("tides.zip", buffer.getvalue()))]
            made = await client.post("/v1/skills", files=zipped, data={"display_name": "T" * 255}, headers=HEADERS)
            skill = made.json()
            assert skill["source"] == {"type": "custom"}
            assert api.requests[-1].body["files"] == [["files[]", "tides.zip"]]
            long = await client.post("/v1/skills", files=zipped, data={"display_name": "T" * 256}, headers=HEADERS)
            assert long.status_code == 400
            renamed = [("files[]", ("waves/SKILL.md", SKILL_MD.replace(b"tides", b"waves")))]
            answer = await client.post(f"/v1/skills/{skill['id']}/versions", files=renamed, headers=HEADERS)
            assert "not this skill's name" in answer.text
            deleted = await client.delete(f"/v1/skills/{skill['id']}", headers=HEADERS)
            assert "Delete all versions first" in deleted.text
            content = await client.get(f"/v1/skills/{skill['id']}/versions/latest/content", headers=HEADERS)
            assert zipfile.ZipFile(io.BytesIO(content.content)).namelist() == ["tides/SKILL.md"]
            listed = (await client.get("/v1/skills?source=custom&limit=1", headers=HEADERS)).json()
            assert listed["next_page"] is None
            pages = (await client.get("/v1/skills?limit=3", headers=HEADERS)).json()
            assert len((await client.get(f"/v1/skills?page={pages['next_page']}", headers=HEADERS)).json()["data"]) == 2
            assert (await client.get("/v1/skills?source=plugin", headers=HEADERS)).status_code == 400

    run(main)


def test_a_script_of_json_can_run_code_and_make_files() -> None:
    answer = parse_answer(
        {
            "blocks": [
                {"kind": "code_execution", "command": "make", "files": {"a.txt": "aGk="}},
                {"kind": "code_edit", "command": "view", "path": "/x"},
            ]
        }
    )
    assert isinstance(answer, Reply)
    assert answer.blocks[0] == CodeExecution("make", files={"a.txt": b"hi"})


def test_an_interruption_meets_only_its_own_request() -> None:
    async def main() -> None:
        async with open_fake_api([Reply([ToolUse("x", {})])]) as api:
            api.interrupt("POST", "/v1/skills", HttpError(500))
            assert (await post(api, body())).status_code == 200
            async with httpx.AsyncClient(base_url=api.base_url, trust_env=False, timeout=30) as client:
                assert (await client.get("/v1/skills", headers=HEADERS)).status_code == 200
                assert (await client.post("/v1/skills", headers=HEADERS)).status_code == 500
                assert (await client.post("/v1/skills", headers=HEADERS)).status_code == 400

    run(main)
