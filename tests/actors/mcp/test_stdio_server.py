"""A server that is a program: its tools, its answers, and its end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from mcp_kit import in_trio, mcp_kit, script, until
from proc_kit import lives
from skill_actors.backends.base import BackendUnavailable, ToolContext
from skill_actors.mcp.connection import Connection
from skill_actors.mcp.server import ToolServer
from skill_actors.runtime import Poison

CONTEXT = ToolContext(timeout_s=20.0)


@in_trio
async def test_tools_are_listed_and_called(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options(tools=("echo", "f*"), read_only=("facts",)))
        told = await source.tools()
        assert [(tool.name, tool.reads) for tool in told] == [
            ("echo", False),
            ("facts", True),
            ("fail", False),
            ("fork", False),
        ]
        result = await source.call("echo", {"text": "high tide"}, CONTEXT)
        assert (result.content, result.outcome) == ("echo: high tide", "ok")
        assert kit.notes == ["started", "list", "call echo high tide"]


@in_trio
async def test_answers_of_every_kind_become_what_a_model_reads(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options())
        picture = await source.call("picture", {}, CONTEXT)
        assert [image.media_type for image in picture.images] == ["image/png"]
        facts = await source.call("facts", {}, CONTEXT)
        assert facts.content.split() == ["{", '"answer":', "42", "}"]
        failed = await source.call("fail", {}, CONTEXT)
        assert (failed.content, failed.is_error) == ("it failed", True)
        asked = await source.call("ask", {}, CONTEXT)
        assert asked.content.startswith("declined: ")


@in_trio
async def test_a_call_out_of_time_is_told_to_the_server_and_not_made_again(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options())
        await source.tools()
        late = await source.call("hang", {}, ToolContext(timeout_s=0.3))
        assert late.outcome == "timeout"
        assert (await source.call("echo", {"text": "there"}, CONTEXT)).content == "echo: there"
        await until(lambda: "hang was cancelled" in kit.notes)
        assert kit.notes.count("call hang ") == 1
        assert kit.notes.count("started") == 1


@in_trio
async def test_a_cancelled_call_is_told_to_the_server_within_two_seconds(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options())
        await source.tools()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.call, "hang", {}, CONTEXT)
            await until(lambda: "call hang " in kit.notes)
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 20
        await until(lambda: "hang was cancelled" in kit.notes)


@in_trio
async def test_a_server_that_dies_in_a_call_is_made_again_and_the_call_is_not(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options())
        await source.tools()
        died = await source.call("die", {}, CONTEXT)
        assert died.is_error
        assert "cannot go on" in died.content
        assert (await source.call("echo", {"text": "again"}, CONTEXT)).content == "echo: again"
        assert kit.notes.count("call die ") == 1
        assert kit.notes.count("started") == 2


@in_trio
async def test_a_server_whose_connection_is_to_end_gets_no_further_call(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options())
        await source.tools()
        server = await kit.servers().use(source._key, source._connect, idle_s=60)
        server.signals.end("it died")
        assert server.connection is not None, "whoever closes it has had its turn"
        assert server.over
        assert (await source.call("echo", {"text": "again"}, CONTEXT)).content == "echo: again"
        assert kit.notes.count("started") == 2


@in_trio
async def test_a_server_that_ends_while_it_is_looked_at_is_given_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, looked_at = ToolServer.ready, list[ToolServer]()

    async def ends(server: ToolServer) -> Connection:
        connection = await ready(server)
        looked_at.append(server)
        if len(looked_at) == 1:
            server.signals.end("it died")
        return connection

    monkeypatch.setattr(ToolServer, "ready", ends)
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options())
        server = await kit.servers().use(source._key, source._connect, idle_s=60)
        assert not server.over
        assert [each is server for each in looked_at] == [False, True]


@in_trio
async def test_nothing_that_a_server_has_started_outlives_it(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options())
        child = int((await source.call("fork", {}, CONTEXT)).content)
        assert lives(child)
        await source.close()
        assert not lives(child)
        await source.close()


@in_trio
async def test_two_conversations_have_two_servers_unless_they_share_one(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        for shared, expected in ((False, ["1", "1"]), (True, ["1", "2"])):
            options = kit.options("shared" if shared else "own", shared=shared)
            sources = [kit.source(options, kit.user(session)) for session in ("ses_a", "ses_b")]
            assert [(await source.call("count", {}, CONTEXT)).content for source in sources] == expected
            for source in sources:
                await source.close()


@in_trio
async def test_an_idle_server_ends_and_comes_back(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options(idle_s=0.3))
        await source.tools()
        await until(lambda: not kit.servers().count_children())
        assert (await source.call("echo", {"text": "back"}, CONTEXT)).content == "echo: back"
        assert kit.notes.count("started") == 2


@in_trio
async def test_a_server_that_cannot_be_started_is_refused_with_its_last_words_after_some_trials(
    tmp_path: Path,
) -> None:
    program = script("open(os.environ['HOME'] + '/../tries', 'a').write('x'); sys.exit('no licence')")
    async with mcp_kit(tmp_path, poison=Poison(max_deaths=3)) as kit:
        source = kit.source(kit.options(command=program))
        for _ in range(6):
            with pytest.raises(BackendUnavailable, match="no licence"):
                await source.tools()
        assert (tmp_path / "tries").read_text() == "xxx"
        with pytest.raises(BackendUnavailable, match="died 3 times within 60 s and is not started"):
            await source.call("echo", {}, CONTEXT)


@in_trio
async def test_there_is_no_such_program(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        with pytest.raises(BackendUnavailable, match="/nowhere/server cannot be used"):
            await kit.source(kit.options(command=("/nowhere/server",))).tools()


@in_trio
async def test_it_gets_the_variables_it_is_given_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-for-servers")
    async with mcp_kit(tmp_path) as kit:
        options = kit.options(env={"PLAIN": "as it is"})
        source = kit.source(options, secrets={"TOKEN": "geheimnis-123"}, hidden=lambda: ["geheimnis-123"])
        for variable, value in (("PLAIN", "as it is"), ("ANTHROPIC_API_KEY", "None"), ("TOKEN", "***")):
            assert (await source.call("environment", {"text": variable}, CONTEXT)).content == value
        assert (await source.call("environment", {"text": "HOME"}, CONTEXT)).content == str(tmp_path / "ses_a")
        assert os.environ["ANTHROPIC_API_KEY"] == "sk-not-for-servers"
