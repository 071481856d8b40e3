"""Several places in one conversation: native classes, executors, and code at the provider, with files handed over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import native_targets
from loop_kit import MemoryExecutor, Script, call, says, uses
from skill_actors.backends import BackendUnavailable, ToolCall, ToolContext, ToolResult
from skill_actors.backends.anthropic.client import HostedClient
from skill_actors.library import (
    SessionFile,
    SkillError,
    default_executor,
    new_anthropic,
    new_hybrid,
    new_native,
    start_session,
)
from skill_actors.models import AnthropicModel
from skill_actors.native import Context, NativeSkill, SkillInfo
from skill_actors.skills import load
from skill_actors.testing import CodeExecution, FakeMessagesApi, Reply, Text, ToolUse, open_fake_api
from support import run


class Cache(NativeSkill):
    """The example of the seeds: it has what the program has."""

    skill_info = SkillInfo(
        name="cache-manager", description="Manages the cache.", allowed_tools=("execute", "read", "write")
    )

    def __init__(self, entries: dict[str, str] | None = None) -> None:
        self.entries = {} if entries is None else entries

    def execute(self, command: str, context: Context) -> str:
        if command != "clear":
            raise ValueError(f"use: clear, not {command}")
        self.entries.clear()
        return "Cache cleared"

    async def read(self, path: str, context: Context) -> object:
        await trio.lowlevel.checkpoint()
        return {"entries": len(self.entries), "path": path}

    def write(self, path: str, content: str, context: Context) -> str:
        context.workspace.joinpath(path).write_text(content)
        return f"{path} written"


@asynccontextmanager
async def provider(*replies: Reply) -> AsyncIterator[tuple[FakeMessagesApi, AnthropicModel, HostedClient]]:
    async with open_fake_api(replies) as api, HostedClient(lambda: "any key", base_url=api.base_url) as client:
        model = AnthropicModel(lambda: "any key", base_url=api.base_url)
        try:
            yield api, model, client
        finally:
            await model.aclose()


def make_skill(folder: Path, name: str = "notes") -> Path:
    root = folder / name
    (root / "scripts").mkdir(parents=True)
    (root / "SKILL.md").write_text(f"---\nname: {name}\ndescription: Takes notes.\n---\nRun scripts/run.sh.\n")
    (root / "scripts/run.sh").write_text("echo noted\n")
    return root


# Native


def test_classes_run_in_this_process_with_all_it_has() -> None:
    entries = {"a": "1", "b": "2"}

    async def main() -> None:
        model = Script(uses(call("toolu_1", "cache_manager_execute", command="clear")), says("done"))
        async with new_native([Cache(entries)]) as session:
            assert session.execution_mode == "native"
            response, _ = await session.chat("Clear the cache", model)
            assert response.text == "done"
            assert entries == {}
            with pytest.raises(SkillError) as failed:
                await session.run("cache_manager_execute", command="burn")
            assert failed.value.code == "native_execution_failed"
            assert failed.value.details["callback"] == "execute"
            await session.run("cache_manager_write", path="out.txt", content="x")
            assert [(file.name, file.source) for file in session.created_files] == [("out.txt", "native")]

    run(main)


def test_classes_run_in_worker_processes_of_the_conversation_where_that_is_wanted() -> None:
    async def main() -> None:
        async with new_native([native_targets.Greeter], isolation="process") as session:
            assert (await session.run("greeter_execute", command="you")).content == "hello, you"
            await session.run("greeter_write", path="f", content="x")
            assert await session.read_file("f") == b"x"
        with pytest.raises(LookupError, match="mine"):
            async with new_native([native_targets.Greeter], isolation="process"):
                raise LookupError("mine")

    run(main)


def test_classes_that_are_no_skills_are_refused_with_their_own_code() -> None:
    class Plain: ...

    class Hollow(NativeSkill):
        skill_info = SkillInfo(name="hollow", description="Has nothing.", allowed_tools=("execute",))

    async def main() -> None:
        for kind, code in ((Plain, "not_a_native_skill"), (Hollow, "native_callback_missing")):
            with pytest.raises(SkillError) as refused:
                async with new_native([kind]):
                    raise AssertionError("it was opened")
            assert refused.value.code == code
            assert refused.value.details["module"] == kind.__name__

    run(main)


# Hybrid, offline


def test_tools_of_each_place_work_in_its_own_files_and_one_history_has_all(tmp_path: Path) -> None:
    async def main() -> None:
        model = Script(
            uses(
                call("toolu_1", "bash_tool", command="echo here > a; pwd", description="d"),
                call("toolu_2", "build_bash_tool", command="ls; pwd", description="d"),
                call("toolu_3", "cache_manager_read", path="stats"),
            ),
            uses(ToolCall(id="toolu_4", name="hand_over", input={"name": "a", "from": "local", "to": "build"})),
            uses(call("toolu_5", "build_bash_tool", command="cat a", description="d")),
            says("done"),
        )
        made: list[SessionFile] = []
        async with new_hybrid(
            ["local", ("local", {"name": "build"}), ("native", {"classes": [Cache]})],
            working_directory=tmp_path / "w",
            on_file_created=made.append,
        ) as session:
            assert [tool["name"] for tool in session.tools] == [
                *("view", "bash_tool", "create_file", "str_replace"),
                *("build_view", "build_bash_tool", "build_create_file", "build_str_replace"),
                *("cache_manager_execute", "cache_manager_read", "cache_manager_write", "hand_over"),
            ]
            await session.chat("go", model)
            results = {
                block["tool_use_id"]: block["content"]
                for message in session.messages
                for block in message["content"]
                if block["type"] == "tool_result"
            }
            assert results["toolu_1"].endswith("/w")
            assert results["toolu_2"].endswith("/w.build")
            assert results["toolu_3"] == '{"entries": 0, "path": "stats"}'
            assert results["toolu_5"] == "here"
            assert [(file.name, file.source) for file in made] == [("a", "local"), ("a", "build")]
            assert [(file.name, file.source) for file in await session.files()] == [("a", "local"), ("a", "build")]
            await session.run("cache_manager_write", path="b", content="from native")
            assert await session.read_file("b", "local") == b"from native"
            assert session.capabilities is not None
            assert session.capabilities.capabilities.sandbox == "none"
            assert set(session.capabilities.places) == {"local", "build", "native"}

    run(main)


def test_a_native_place_that_comes_first_leaves_plain_names_and_its_folder_to_the_executor(tmp_path: Path) -> None:
    async def main() -> None:
        async with new_hybrid([("native", {"classes": [Cache]}), "local"], working_directory=tmp_path / "w") as session:
            await session.run("cache_manager_write", path="n", content="x")
            assert (await session.run("bash_tool", command="ls", description="d")).content == "n"
            assert not any(tool["name"] == "hand_over" for tool in session.tools)

    run(main)


def test_an_error_says_whose_it_is_and_the_other_places_go_on() -> None:
    async def broken(call: ToolCall, context: ToolContext) -> ToolResult:
        raise BackendUnavailable("the engine is gone")

    async def main() -> None:
        model = Script(
            uses(
                call("toolu_1", "far_bash_tool", command="x", description="d"),
                call("toolu_2", "bash_tool", command="echo fine", description="d"),
            ),
            says("ok"),
        )
        async with new_hybrid(["local", ("far", {"executor": MemoryExecutor(broken)})]) as session:
            await session.chat("go", model)
            first, second = session.messages[2]["content"]
            assert first["is_error"]
            assert first["content"] == "The place far (far) cannot run this: the engine is gone"
            assert second["content"] == "fine"

    run(main)


def test_a_tool_that_is_kept_back_is_kept_back_in_every_place() -> None:
    async def main() -> None:
        async with new_hybrid(["local", ("local", {"name": "build"})], except_=["bash_tool"]) as session:
            assert not any("bash_tool" in tool["name"] for tool in session.tools)
            with pytest.raises(SkillError) as denied:
                await session.run("build_bash_tool", command="x", description="d")
            assert denied.value.code == "policy_denied"
        async with new_hybrid(["local", ("local", {"name": "build"})], only=["build_view"]) as session:
            assert [tool["name"] for tool in session.tools] == ["build_view"]

    run(main)


def test_what_a_skill_allows_is_a_limit_in_every_place_under_the_tools_own_name(tmp_path: Path) -> None:
    root = make_skill(tmp_path)
    text = (root / "SKILL.md").read_text().replace("\n---\nRun", "\nallowed-tools: create_file\n---\nRun")
    (root / "SKILL.md").write_text(text)
    skills = load(root)

    async def main() -> None:
        async with new_hybrid(
            ["local", ("local", {"name": "build"})], skills, restrict_to_allowed_tools=True
        ) as session:
            for place in ("", "build_"):
                made = await session.run(f"{place}create_file", path="f", file_text="x", description="d")
                assert not made.is_error
                with pytest.raises(SkillError) as denied:
                    await session.run(f"{place}bash_tool", command="true", description="d")
                assert denied.value.code == "policy_denied"
            moves = ToolCall(id="toolu_1", name="hand_over", input={"name": "f", "from": "local", "to": "build"})
            await session.chat("go", Script(uses(moves), says("ok")))
            [result] = session.messages[2]["content"]
            assert "do not list this call" in result["content"]

    run(main)


@pytest.mark.parametrize(
    "places",
    [
        [],
        ["local", "local"],
        ["local", ("local", {"name": "local"})],
        "local",
        [None],
        [("local",)],
        [("local", None)],
        *([("local", {"name": name})] for name in ("", 3, "a b", "../../up", "A", "x" * 33)),
        ["anthropic", ("anthropic", {"name": "second"})],
        [("local", {"nome": "x"})],
        [("native", {})],
        [("native", {"classes": [Cache], "isolation": "none"})],
        [("native", {"classes": [Cache]}), "local", ("local", {"name": "cache_manager", "executor": MemoryExecutor(
            tools=[{"name": "read", "description": "d", "input_schema": {"type": "object"}}])})],
    ],
    ids=str,
)  # fmt: skip
def test_places_that_make_no_sense_are_refused(places: Any) -> None:
    async def main() -> None:
        with pytest.raises((TypeError, ValueError)):
            async with new_hybrid(places):
                raise AssertionError("it was opened")

    run(main)


def test_hand_over_refuses_what_is_not_there_and_names_that_lead_out(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "secret").write_text("s")
        async with new_hybrid(["local", ("local", {"name": "build"})], working_directory=tmp_path / "w") as session:
            for name, code in (
                ("missing", "file_not_found"),
                ("../secret", "path_not_allowed"),
                (str(tmp_path / "secret"), "path_not_allowed"),
            ):
                with pytest.raises(SkillError) as refused:
                    await session.hand_over(name, "local", "build")
                assert refused.value.code == code
            await session.run("bash_tool", command="ln -s ../secret link; mkdir d; mkfifo p", description="d")
            for name in ("link", "d", "p"):
                with pytest.raises(SkillError, match="path_not_allowed"):
                    await session.read_file(name)
            with pytest.raises(SkillError, match="no place 'host'"):
                await session.hand_over("link", "host", "build")
            with pytest.raises(SkillError, match="path_not_allowed"):
                await session.put_file("../up", b"x")

    run(main)


# Hosted


def test_a_hosted_turn_has_tool_skills_and_container_in_each_request_and_its_files_are_found(tmp_path: Path) -> None:
    async def main() -> None:
        replies = [
            Reply([Text("Making it."), CodeExecution("make", files={"report.xlsx": b"sheet"})]),
            Reply([CodeExecution("edit", files={"report.xlsx": b"sheet two"}), Text("Edited.")]),
        ]
        told: list[str] = []
        async with provider(*replies) as (api, model, client):
            async with new_anthropic(
                ["anthropic:xlsx@latest"],
                client=client,
                model_name="claude-opus-4-5",
                uploads=tmp_path / "uploads.json",
                on_file_created=lambda file: told.append(file.name),
            ) as session:
                response, _ = await session.chat("Create a report", model)
                assert response.container is not None
                assert session.container_id == response.container
                assert [file.source for file in session.created_files] == ["anthropic"]
                assert await session.read_file("report.xlsx") == b"sheet"
                await session.chat("Edit it", model)
                assert session.container_id == response.container
                assert told == ["report.xlsx", "report.xlsx"]
                assert await session.read_file("report.xlsx") == b"sheet two"
                first = session.created_files[0].file_id
                assert first is not None
                assert await session.read_file(first) == b"sheet"
                assert len(await session.files()) == 2
                session.reset()
                assert session.container_id is None
            bodies = [request for request in api.bodies if request and "messages" in request]
            assert bodies[0]["tools"] == [{"type": "code_execution_20250825", "name": "code_execution"}]
            assert bodies[0]["container"] == {
                "skills": [{"type": "anthropic", "skill_id": "xlsx", "version": "latest"}]
            }
            assert bodies[1]["container"]["id"] == response.container

    run(main)


def test_pauses_go_on_by_themselves_and_are_told(tmp_path: Path) -> None:
    async def main() -> None:
        replies = [
            Reply([CodeExecution("long", half="call")], stop_reason="pause_turn"),
            Reply([CodeExecution("long", stdout="done", half="result"), Text("Done.")]),
        ]
        pauses: list[int] = []
        answers: list[str] = []

        async def on_pause(response: Any, attempt: int) -> None:
            pauses.append(attempt)
            raise RuntimeError("the program's own fault")

        async with (
            provider(*replies) as (_api, model, client),
            new_anthropic(
                ["anthropic:pdf"],
                client=client,
                uploads=tmp_path / "u",
                model_name="claude-opus-4-5",
                on_pause=on_pause,
                on_response=lambda response: answers.append(response.stop_reason),
            ) as session,
        ):
            response, _ = await session.chat("Work", model)
            assert response.text.endswith("Done.")
            assert pauses == [1]
            assert answers == ["pause_turn", "end_turn"]
            assert session.callback_failures == {"on_pause": 1}

    run(main)


@pytest.mark.parametrize("refusal", ["not_found", "expired"])
def test_a_container_that_is_gone_is_replaced_once_and_the_program_is_told(tmp_path: Path, refusal: Any) -> None:
    async def main() -> None:
        replies = [Reply([CodeExecution("a")]), Reply([CodeExecution("b"), Text("New.")])]
        async with provider(*replies) as (api, model, client):
            api.hosted.refuse_containers = refusal
            async with new_anthropic(
                ["anthropic:xlsx"], client=client, uploads=tmp_path / "u", model_name="claude-opus-4-5"
            ) as session:
                first, _ = await session.chat("one", model)
                api.hosted.expire()
                second, _ = await session.chat("two", model)
                assert (first.container_replaced, second.container_replaced) == (False, True)
                assert session.container_id not in (None, first.container)

    run(main)


def test_a_container_that_is_gone_in_the_middle_is_an_error_and_the_conversation_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        replies = [
            Reply([Text("."), CodeExecution("long", half="call")], stop_reason="pause_turn"),
            Reply([Text("ok")]),
        ]
        async with (
            provider(*replies) as (api, model, client),
            new_anthropic(
                ["anthropic:xlsx"],
                client=client,
                uploads=tmp_path / "u",
                model_name="claude-opus-4-5",
                on_pause=lambda _response, _attempt: api.hosted.expire(),
            ) as session,
        ):
            with pytest.raises(SkillError) as gone:
                await session.chat("one", model)
            assert gone.value.code == "container_not_found"
            assert gone.value.details["container_id"]
            response, _ = await session.chat("two", model)
            assert response.text == "ok"

    run(main)


def test_a_function_of_the_program_gets_the_whole_request_and_one_that_cannot_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        replies = [
            Reply([CodeExecution("x", files={"f": b"1"}), Text("hi")]),
            Reply([Text("more")]),
            Reply([Text("more")]),
        ]
        async with provider(*replies) as (_api, _model, client):

            async def ask(request: Mapping[str, Any]) -> object:
                return await client.ask(request)

            async def both(messages: object, request: Mapping[str, Any]) -> object:
                assert request["messages"] == messages
                return await client.ask(request)

            async def blind(messages: Sequence[Mapping[str, Any]]) -> object:
                raise AssertionError("it was asked")

            async with new_anthropic(
                [("anthropic", "xlsx", "latest")], client=client, uploads=tmp_path / "u", model_name="claude-opus-4-5"
            ) as session:
                with pytest.raises(SkillError) as refused:
                    await session.chat("hi", blind)
                assert refused.value.code == "missing_api_callback"
                response, _ = await session.chat("hi", ask)
                assert response.text == "hi"
                for model in (client, both):
                    response, _ = await session.chat("more", model)
                    assert response.text == "more"
                assert session.container_id is not None
                assert await session.read_file("f") == b"1"

    run(main)


def test_skills_on_disk_are_uploaded_once_and_deleted_only_when_asked(tmp_path: Path) -> None:
    notes, other = make_skill(tmp_path / "s"), make_skill(tmp_path / "s", "other")

    async def main() -> None:
        state = tmp_path / "uploads.json"
        async with provider() as (_api, _model, client):
            for _ in range(2):
                async with new_anthropic([notes, "anthropic:pdf"], client=client, uploads=state) as session:
                    kinds = [skill.type for skill in session.hosted_skills]
                    assert kinds == ["custom", "anthropic"]
            async with new_anthropic(load(other).skills.values(), client=client, uploads=state) as session:
                assert len(await client.skills.list("custom")) == 2
                await session.cleanup()
                assert len(await client.skills.list("custom")) == 2
                assert len(await session.delete_remote()) == 1
                assert await session.delete_remote() == []
            assert [skill.display_name for skill in await client.skills.list("custom")] == ["notes"]

    run(main)


@pytest.mark.parametrize(
    ("skills", "code"),
    [
        (["anthropic:"], "invalid_skill_spec"),
        (["xlsx"], "invalid_skill_spec"),
        ([("a", "b")], "invalid_skill_spec"),
        ([3], "invalid_skill_spec"),
        ([f"anthropic:s{number}" for number in range(21)], "skills_limit_exceeded"),
        ([Path("missing")], "skill_upload_failed"),
    ],
    ids=str,
)
def test_bad_hosted_skills_are_refused_when_the_conversation_opens(
    tmp_path: Path, skills: list[Any], code: str
) -> None:
    async def main() -> None:
        with pytest.raises(SkillError) as refused:
            async with new_anthropic(skills, uploads=tmp_path / "u"):
                raise AssertionError("it was opened")
        assert refused.value.code == code

    run(main)


def test_all_kinds_in_one_conversation_with_files_handed_both_ways(tmp_path: Path) -> None:
    async def main() -> None:
        replies = [
            Reply([ToolUse("bash_tool", {"command": "echo data > in.csv"})]),
            Reply([ToolUse("hand_over", {"name": "in.csv", "from": "local", "to": "cloud"})]),
            Reply([CodeExecution("make", files={"out.xlsx": b"sheet"}), ToolUse("cache_manager_read", {"path": "x"})]),
            Reply([ToolUse("hand_over", {"name": "out.xlsx", "from": "cloud", "to": "local"})]),
            Reply([ToolUse("bash_tool", {"command": "cat out.xlsx"})]),
            Reply([Text("All done.")]),
        ]
        async with provider(*replies) as (api, model, client):
            async with new_hybrid(
                [
                    "local",
                    ("native", {"classes": [Cache]}),
                    (
                        "anthropic",
                        {
                            "name": "cloud",
                            "skills": ["anthropic:xlsx"],
                            "client": client,
                            "uploads": tmp_path / "u",
                        },
                    ),
                ],
                model_name="claude-opus-4-5",
            ) as session:
                response, _ = await session.chat("go", model)
                assert response.text.endswith("All done.")
                assert [(file.name, file.source) for file in await session.files()] == [
                    *(("in.csv", "local"), ("out.xlsx", "local"), ("out.xlsx", "cloud")),
                ]
                assert await session.read_file("out.xlsx", "cloud") == b"sheet"
                last = session.messages[-2]["content"][-1]
                assert last["content"] == "sheet"
                uploads = [
                    block
                    for message in session.messages
                    for block in message["content"]
                    if block["type"] == "container_upload"
                ]
                assert len(uploads) == 1
            assert api.bodies[0]["tools"][0]["name"] == "code_execution"

    run(main)


# By name


def test_the_same_code_runs_with_whatever_backend_is_chosen(tmp_path: Path) -> None:
    async def ask(backend: str, skills: Any, **options: Any) -> str:
        async with start_session(backend, skills, **options) as session:
            response, _ = await session.chat("hi", Script(says(f"from {session.execution_mode}")))
            return str(response.text)

    async def main() -> None:
        skills = load(make_skill(tmp_path))
        assert await ask("local", skills) == "from local"
        assert await ask("native", [Cache]) == "from native"
        assert await ask("hybrid", ["local", ("native", {"classes": [Cache]})]) == "from hybrid"
        with pytest.raises(SkillError, match="no backend 'nope'"):
            await ask("nope", [])

    run(main)


def test_the_executor_fits_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKILLD_MODE", raising=False)
    assert [default_executor(mode) for mode in ("development", "production", "test")] == ["local", "docker", "local"]
    assert default_executor() == "local"
    monkeypatch.setenv("SKILLD_MODE", "production")
    assert default_executor() == "docker"
    monkeypatch.setenv("SKILLD_MODE", "prod")
    with pytest.raises(ValueError, match="no mode 'prod'"):
        default_executor()


def test_a_hosted_place_takes_skills_on_disk_by_their_names(tmp_path: Path) -> None:
    skills = load(make_skill(tmp_path))

    async def main() -> None:
        async with provider(Reply([CodeExecution("run"), Text("ok")])) as (api, model, client):
            options = {"skills": ["notes", "anthropic:xlsx"], "client": client, "uploads": tmp_path / "u"}
            async with new_hybrid(["local", ("anthropic", options)], skills, model_name="claude-opus-4-5") as session:
                assert [skill.type for skill in session.hosted_skills] == ["custom", "anthropic"]
                await session.chat("go", model)
                sent = next(body for body in api.bodies if body and "messages" in body)
                assert [skill["type"] for skill in sent["container"]["skills"]] == ["custom", "anthropic"]
                assert "notes" in sent["system"]  # for the tools here
                with pytest.raises(SkillError, match="file_not_found"):
                    await session.read_file("nothing", "anthropic")
                with pytest.raises(SkillError, match="path_not_allowed"):
                    await session.put_file("../in.txt", b"1", "anthropic")
                await session.put_file("in.txt", b"1", "anthropic")
                assert len(await client.files.list()) == 1
                deleted = await session.delete_remote()
                assert len(deleted) == 2
                assert await client.files.list() == []

    run(main)
