"""Every kind of error is raised by what really causes it, with its details, and says whether to try again."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from loop_kit import MemoryExecutor, Script, call, message, says, uses
from skill_actors.backends import BackendUnavailable, ToolCall, ToolContext, ToolResult
from skill_actors.backends.anthropic.client import HostedClient
from skill_actors.files.storage import LocalStorage, StorageError, StorageReport
from skill_actors.library import (
    KINDS,
    Registry,
    Session,
    SkillError,
    load_skills,
    new_anthropic,
    new_docker,
    new_hybrid,
    new_local,
    new_native,
    start_session,
    wrap,
)
from skill_actors.library import files as library_files
from skill_actors.loop.context import unwrapped
from skill_actors.models import AnthropicModel
from skill_actors.models.base import Message
from skill_actors.models.retry import RetryPolicy
from skill_actors.native import Context, NativeSkill, SkillInfo
from skill_actors.skills import PackageCache
from skill_actors.testing import CodeExecution, HttpError, Reply, ScriptedModel, open_fake_api
from support import run

Cause = Callable[[Path], Awaitable[object]]
CAUSES: dict[str, Cause] = {}
BASH = call("toolu_1", "bash_tool", command="true", description="d")


def cause(code: str) -> Callable[[Cause], Cause]:
    def add(function: Cause) -> Cause:
        CAUSES[code] = function
        return function

    return add


async def chat(model: Any, **options: Any) -> None:
    async with new_local(executor=MemoryExecutor(), model_name="m") as session:
        await session.chat("hi", model, **options)


# Skills


@cause("skill_not_found")
async def _(folder: Path) -> None:
    async with Registry("mine", [folder]) as registry:
        registry.get("nobody")


@cause("invalid_frontmatter")
async def _(folder: Path) -> None:
    (folder / "bad").mkdir()
    (folder / "bad/SKILL.md").write_text("---\nname: bad\n---\n")
    await trio.to_thread.run_sync(load_skills, folder)


@cause("invalid_skill_structure")
async def _(folder: Path) -> None:
    (folder / "bad").mkdir()
    (folder / "bad/SKILL.md").symlink_to("/etc/passwd")
    await trio.to_thread.run_sync(load_skills, folder)


@cause("zip_error")
async def _(folder: Path) -> None:
    (folder / "bad.skill").write_bytes(b"no archive")
    await trio.to_thread.run_sync(lambda: load_skills(folder / "bad.skill", packages=PackageCache(folder / "cache")))


# Files


@cause("file_not_found")
async def _(folder: Path) -> None:
    async with new_local() as session:
        await session.read_file("missing")


@cause("path_not_allowed")
async def _(folder: Path) -> None:
    async with new_local() as session:
        await session.read_file("../../etc/passwd")


@cause("too_large")
async def _(folder: Path) -> None:
    async with new_local(working_directory=folder / "w") as session:
        with (folder / "w/large").open("wb") as file:
            file.truncate(library_files.MAX_FILE_BYTES + 1)
        await session.read_file("large")


# Running


@cause("execution_failed")
async def _(folder: Path) -> None:
    async with new_local() as session:
        await session.run("bash_tool", command="echo why; exit 3", description="d")


@cause("execution_timeout")
async def _(folder: Path) -> None:
    async with new_local(timeout_s=0.3) as session:
        await session.run("bash_tool", command="sleep 1000", description="d")


@cause("backend_unavailable")
async def _(folder: Path) -> None:
    async with new_local(options={"path": str(folder)}):  # where there is no bash
        raise AssertionError("it was opened")


@cause("container_error")
async def _(folder: Path) -> None:
    async def gone(call: ToolCall, context: ToolContext) -> ToolResult:
        raise BackendUnavailable("the engine made no container")

    executor = MemoryExecutor(gone)
    executor.name = "docker"
    async with new_local(executor=executor) as session:
        await session.run("bash_tool", command="x", description="d")


@cause("docker_unavailable")
async def _(folder: Path) -> None:
    async with new_docker(options={"address": f"unix://{folder}/no.sock"}):
        raise AssertionError("it was opened")


@cause("invalid_option")
async def _(folder: Path) -> None:
    async with new_anthropic(["anthropic:xlsx"], display_name="x", uploads=folder / "u"):
        raise AssertionError("it was opened")


# A turn


@cause("missing_api_callback")
async def _(folder: Path) -> None:
    await chat(None)


@cause("anthropic_api_error")
async def _(folder: Path) -> None:
    await chat(ScriptedModel([HttpError(429, retry_after_s=1)]))


@cause("model_call_failed")
async def _(folder: Path) -> None:
    await chat(Script(ConnectionError("no line")))


@cause("invalid_response")
async def _(folder: Path) -> None:
    await chat(Script({"content": [{"type": "tool_use"}], "stop_reason": "tool_use"}))


@cause("max_iterations_reached")
async def _(folder: Path) -> None:
    await chat(Script(uses(BASH)), max_iterations=1)


@cause("schema_mismatch")
async def _(folder: Path) -> None:
    await chat(Script(message([{"type": "text", "text": "no JSON"}], "end_turn")), schema={"type": "object"})


@cause("pause_turn_max_exceeded")
async def _(folder: Path) -> None:
    await chat(Script(*(message([], "pause_turn") for _ in range(2))), max_pauses=1)


@cause("turn_timeout")
async def _(folder: Path) -> None:
    async def never(messages: Sequence[Message]) -> object:
        await trio.sleep_forever()

    await chat(never, timeout_s=0.1)


@cause("session_busy")
async def _(folder: Path) -> None:
    async with new_local() as session:

        async def again(messages: Sequence[Message]) -> object:
            await session.chat("too", again)
            return says("never")

        await session.chat("hi", again)


@cause("session_closed")
async def _(folder: Path) -> None:
    async with new_local() as session:
        await session.cleanup()
        await session.files()


@cause("unknown")
async def _(folder: Path) -> None:
    raise wrap(ZeroDivisionError("division by zero at line 7 of a secret file"))


# Hosted


@cause("invalid_skill_spec")
async def _(folder: Path) -> None:
    async with new_anthropic(["xlsx"], uploads=folder / "u"):
        raise AssertionError("it was opened")


@cause("skills_limit_exceeded")
async def _(folder: Path) -> None:
    async with new_anthropic([f"custom:skill_{number}" for number in range(21)], uploads=folder / "u"):
        raise AssertionError("it was opened")


@cause("skill_upload_failed")
async def _(folder: Path) -> None:
    async with new_anthropic([folder / "missing"], uploads=folder / "u"):
        raise AssertionError("it was opened")


@cause("file_upload_failed")
async def _(folder: Path) -> None:
    async with (
        HostedClient(lambda: "any", base_url="http://127.0.0.1:9", retry=RetryPolicy(max_attempts=1)) as client,
        new_anthropic(["anthropic:xlsx"], client=client, uploads=folder / "u") as session,
    ):
        await session.put_file("a", b"x")


@cause("file_download_failed")
async def _(folder: Path) -> None:
    replies = [Reply([CodeExecution("x", files={"f": b"1"})])]
    async with unwrapped(), open_fake_api(replies) as api, HostedClient(lambda: "any", base_url=api.base_url) as client:
        model = AnthropicModel(lambda: "any", base_url=api.base_url)
        async with new_anthropic([], client=client, uploads=folder / "u", model_name="m") as session:
            await session.chat("hi", model)
            [file] = session.created_files
            await client.files.delete(str(file.file_id))
            try:
                await session.read_file(file.name)
            finally:
                await model.aclose()


@cause("container_not_found")
async def _(folder: Path) -> None:
    replies = [Reply([CodeExecution("long", half="call")], stop_reason="pause_turn")]
    async with unwrapped(), open_fake_api(replies) as api:
        model = AnthropicModel(lambda: "any", base_url=api.base_url)
        async with new_anthropic(
            [], uploads=folder / "u", model_name="m", on_pause=lambda *_: api.hosted.expire()
        ) as session:
            try:
                await session.chat("hi", model)
            finally:
                await model.aclose()


# Native


class Plain: ...


class Hollow(NativeSkill):
    skill_info = SkillInfo(name="hollow", description="Has nothing.", allowed_tools=("execute", "read"))


class Failing(NativeSkill):
    skill_info = SkillInfo(name="failing", description="Fails.", allowed_tools=("execute",))

    def execute(self, command: str, context: Context) -> str:
        raise LookupError(f"no {command}")


@cause("not_a_native_skill")
async def _(folder: Path) -> None:
    async with new_native([Plain]):
        raise AssertionError("it was opened")


@cause("native_callback_missing")
async def _(folder: Path) -> None:
    async with new_native([Hollow]):
        raise AssertionError("it was opened")


@cause("native_execution_failed")
async def _(folder: Path) -> None:
    async with new_native([Failing]) as session:
        await session.run("failing_execute", command="water")


# Storage


class Broken(LocalStorage):
    async def sync_to_remote(self, session: str, folder: Path, **options: Any) -> StorageReport:
        return StorageReport(failed={"a": "the bucket is full"}, retryable=True)

    async def delete_remote(self, session: str) -> StorageReport:
        raise StorageError("storage_cleanup_failed", "no right to delete")


@cause("storage_init_failed")
async def _(folder: Path) -> None:
    (folder / "file").write_text("in the way")
    async with new_local(storage=LocalStorage(folder / "file")):
        raise AssertionError("it was opened")


@cause("storage_write_failed")
async def _(folder: Path) -> None:
    async with new_local(storage=Broken(folder / "kept")) as session:
        await session.sync()


@cause("storage_cleanup_failed")
async def _(folder: Path) -> None:
    async with new_local(storage=Broken(folder / "kept")) as session:
        await session.delete_remote()


@cause("storage_read_failed")
async def _(folder: Path) -> None:
    class Gone(LocalStorage):
        async def sync_from_remote(self, session: str, folder: Path, **options: Any) -> StorageReport:
            raise StorageError("storage_read_failed", "the bucket is away", retryable=True, details={"path": "a"})

    async with new_local(storage=Gone(folder / "kept")):
        raise AssertionError("it was opened")


@pytest.mark.parametrize("code", sorted(CAUSES))
def test_what_causes_it_raises_it_with_its_details(code: str, tmp_path: Path) -> None:
    with pytest.raises(SkillError) as raised:
        run(CAUSES[code], tmp_path)
    error = raised.value
    assert error.code == code
    assert [name for name in KINDS[code].details if error.details[name] is None] == []
    assert error.to_dict()["retryable"] is error.retryable
    assert error.session is None or isinstance(error.session, Session)


_FORBIDDEN = """\
import os, sys, trio
from skill_actors.library import SkillError, new_local

async def main():
    async with new_local(working_directory=sys.argv[1]) as session:
        try:
            await session.read_file("locked")
        except SkillError as error:
            print(error.code, error.details)

if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
trio.run(main)
"""


def test_permission_denied_is_raised_for_who_is_not_permitted() -> None:
    """For root nothing is forbidden: the program becomes somebody else."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "w")
        folder.mkdir()
        (folder / "locked").write_text("x")
        (folder / "locked").chmod(0)
        if os.geteuid() == 0:
            for path in (scratch, folder):
                os.chown(path, 65534, 65534)
        done = subprocess.run(
            [sys.executable, "-c", _FORBIDDEN, str(folder)], capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.stdout, done.returncode) == ("permission_denied {'path': 'locked'}\n", 0), done.stderr


def test_each_kind_has_a_test() -> None:
    assert {*CAUSES, "permission_denied"} == set(KINDS)


def test_the_kinds_of_conjure_are_all_there() -> None:
    conjures = """skill_not_found invalid_frontmatter invalid_skill_structure file_not_found permission_denied
        path_not_allowed execution_failed execution_timeout docker_unavailable container_error max_iterations_reached
        zip_error anthropic_api_error skills_limit_exceeded skill_upload_failed pause_turn_max_exceeded
        container_not_found file_download_failed invalid_skill_spec not_a_native_skill native_callback_missing
        native_execution_failed storage_init_failed storage_cleanup_failed storage_write_failed storage_read_failed
        missing_api_callback unknown"""
    assert set(conjures.split()) <= set(KINDS)


def test_what_is_not_known_says_no_more_than_its_kind_and_keeps_its_cause() -> None:
    cause = ZeroDivisionError("at a path of this machine")
    error = wrap(cause)
    assert (error.code, error.retryable, error.__cause__) == ("unknown", False, cause)
    assert "machine" not in str(error)
    assert wrap(error) is error


def test_an_error_of_an_sdk_keeps_its_status() -> None:
    class StatusError(Exception):
        status_code = 503
        body = {"error": {"type": "overloaded_error"}}  # noqa: RUF012

    error = wrap(StatusError("busy"))
    assert (error.code, error.details["status"], error.retryable) == ("anthropic_api_error", 503, True)
    assert error.details["error"] == {"type": "overloaded_error"}


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("local", {"colour": "x"}),
        ("local", {"limits": {"colour": 1}}),
        ("docker", {"imgae": "x"}),
        ("docker", {"cpus": -1}),
        ("docker", {"session": {"colour": 1}}),
    ],
)
def test_an_option_that_makes_no_sense_is_no_outage(backend: str, options: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(SkillError) as refused:
            async with start_session(backend, options=options):
                raise AssertionError("it was opened")
        error = refused.value
        assert (error.code, error.retryable) == ("invalid_option", False)
        assert error.details["option"] in (*options, "session.colour")
        assert error.details["reason"]

    run(main)


def test_what_its_row_names_is_in_the_details_of_every_error() -> None:
    for code, kind in KINDS.items():
        assert SkillError(code, "x").details == dict.fromkeys(kind.details)
    error = SkillError("execution_failed", "x", details={"exit_code": 3, "more": 1})
    assert error.details == {"command": None, "exit_code": 3, "output": None, "more": 1}


def test_two_native_skills_of_one_name_are_told_without_naming_another_class() -> None:
    async def main() -> None:
        with pytest.raises(SkillError, match="the same tools") as refused:
            async with new_native([Failing, type("Other", (Failing,), {})]):
                raise AssertionError("it was opened")
        assert refused.value.details == {"module": None, "reason": "native_name_collision"}

    run(main)


def test_the_body_of_an_sdk_does_not_replace_what_is_known() -> None:
    class StatusError(Exception):
        status_code = 400
        body = {"status": "odd", "api_message": "odd"}  # noqa: RUF012

    assert wrap(StatusError("told")).details == {"status": 400, "api_message": "told"}


def test_an_error_comes_through_to_another_process() -> None:
    error = SkillError("turn_timeout", "late", details={"timeout_ms": 5}, retryable=False, session=object())
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert copied.to_dict() == error.to_dict()
        assert (str(copied), copied.session) == (str(error), None)


def test_a_code_that_there_is_not_cannot_be_raised() -> None:
    with pytest.raises(ValueError, match="unknown error code"):
        SkillError("made_up", "x")


def test_an_error_in_one_place_of_several_names_it(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(SkillError, match="far"):
            async with new_hybrid(["local", ("local", {"name": "far", "options": {"path": str(tmp_path)}})]):
                raise AssertionError("it was opened")

    run(main)


def test_zip_errors_are_those_of_the_package(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.skill", "w") as archive:
        archive.writestr("x/readme.txt", "no skill")
    with pytest.raises(SkillError) as raised:
        load_skills(tmp_path / "empty.skill", packages=PackageCache(tmp_path / "cache"))
    assert raised.value.code in ("zip_error", "invalid_skill_structure")
