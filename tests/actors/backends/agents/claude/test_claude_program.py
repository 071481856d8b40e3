"""The claude backend over the real program, whose model is a fake Messages API: what we believe of it is true."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

import mcp_program
from claude_kit import open_real_claude, real_claude, running_below, session_of
from codex_kit import DENY, Remembers
from proc_kit import lives
from skill_actors.backends.agents.base import (
    AgentError,
    AgentEvent,
    AgentRequest,
    AgentSession,
    McpServer,
    Permitted,
    Said,
    Spent,
    TextDelta,
    ToolBegan,
    ToolEnded,
)
from skill_actors.backends.agents.claude import ClaudeBackend
from skill_actors.backends.agents.claude.arguments import FLAGS
from skill_actors.backends.base import BackendUnavailable, Image
from skill_actors.testing import Answer, HttpError, Reply, Stall, Text, ToolUse, open_fake_api
from skill_actors.testing.api_server import FakeMessagesApi
from support import run

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f645400000"
    "000049454e44ae426082"
)
BOTH = pytest.mark.parametrize("duplex", [True, False], ids=["duplex", "single"])

Body = Callable[[AgentSession, FakeMessagesApi, ClaudeBackend], Awaitable[None]]


def says(*parts: Any, **fields: Any) -> Reply:
    return Reply([Text(part) if isinstance(part, str) else part for part in parts], **fields)


def bash(command: str) -> ToolUse:
    return ToolUse("Bash", {"command": command})


def play(
    folder: Path, answers: Sequence[Answer], body: Body, *, spec: dict[str, Any] | None = None, **options: Any
) -> None:
    """Run `body` with a session over the real program; nothing is left running after it."""
    real_claude()

    async def main() -> None:
        async with open_fake_api(answers) as api, open_real_claude(folder, api.base_url, **options) as backend:
            await body(await session_of(backend, folder, **(spec or {})), api, backend)

    run(main)


def questions(api: FakeMessagesApi) -> list[Any]:
    """The requests for messages that were answered: the program asks for more than this API has, and then for less."""
    return [
        request.body for request in api.requests if request.path.startswith("/v1/messages?") and request.status == 200
    ]


def conversation(body: Any) -> list[str]:
    """The texts of a request that are neither of the program nor of its reminders."""
    texts = []
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts += [block["text"] for block in blocks if block["type"] == "text" and "<" not in block["text"][:3]]
    return [text.strip() for text in texts]


async def fails(session: AgentSession, prompt: str, watch: Remembers | None = None, **more: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await session.send_message(AgentRequest(prompt=prompt, **more), watch or Remembers())
    return caught.value


async def appears(path: Path) -> None:
    """Wait until a command has made the file: there is nobody else who would tell."""
    while not await trio.Path(path).exists():  # noqa: ASYNC110
        await trio.sleep(0.02)


def test_the_program_is_the_one_that_the_backend_was_made_for(tmp_path: Path) -> None:
    async def body(_: AgentSession, __: FakeMessagesApi, backend: ClaudeBackend) -> None:
        await backend.check()
        facts = await backend.facts()
        assert facts["version"] == "2.1.197"
        assert facts["program"] == real_claude()

    play(tmp_path, [], body)


def test_its_help_has_every_flag_that_is_used() -> None:
    told = subprocess.run([real_claude(), "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert [flag for flag in sorted(FLAGS) if flag not in told] == []


@BOTH
def test_turns_go_on_and_cost_what_the_program_says(tmp_path: Path, duplex: bool) -> None:
    async def body(session: AgentSession, api: FakeMessagesApi, _: ClaudeBackend) -> None:
        watch = Remembers()
        first = await session.send_message(AgentRequest(prompt="my name is Ada"), watch)
        second = await session.send_message(AgentRequest(prompt="who am I?"))
        assert (first.result, second.result, first.is_error) == ("hello Ada", "you are Ada", False)
        assert conversation(questions(api)[1])[-3:] == ["my name is Ada", "hello Ada", "who am I?"]
        assert (first.session_id, second.session_id) == (session.session_id, session.session_id)
        for result in (first, second):
            assert result.cost_usd is not None
            assert result.cost_usd > 0
            assert set(result.by_model) == {questions(api)[0]["model"]}
            assert sum(usage.total_tokens for usage in result.by_model.values()) == result.usage.total_tokens
        billed = [entry.usage for entry in api.bill]
        assert [first.usage.total_tokens, second.usage.total_tokens] == [usage.total_tokens for usage in billed]
        assert "be brief" in json.dumps(questions(api)[1]["system"])
        assert watch.of(Said) == [Said(({"type": "text", "text": "hello Ada"},))]
        if duplex:
            assert "".join(event.text for event in watch.of(TextDelta)) == "hello Ada"
        assert watch.of(Spent)[-1].usage.output_tokens == first.usage.output_tokens

    play(tmp_path, [says("hello Ada"), says("you are Ada")], body, spec={"system": "be brief"}, duplex=duplex)


@BOTH
def test_a_session_is_resumed_in_another_process_and_forked_into_another_folder(tmp_path: Path, duplex: bool) -> None:
    async def main() -> None:
        async with open_fake_api([says("one"), says("two"), says("three"), says("four")]) as api:
            async with open_real_claude(tmp_path, api.base_url, duplex=duplex) as backend:
                first = await session_of(backend, tmp_path)
                await first.send_message(AgentRequest(prompt="first"))
            async with open_real_claude(tmp_path, api.base_url, duplex=duplex) as backend:
                again = await session_of(backend, tmp_path, session_id=first.session_id)
                await again.send_message(AgentRequest(prompt="second"))
                assert again.session_id == first.session_id
                fork = await session_of(backend, tmp_path, work="other", session_id=first.session_id, fork=True)
                await fork.send_message(AgentRequest(prompt="third"))
                assert fork.session_id not in (None, first.session_id)
                await again.send_message(AgentRequest(prompt="fourth"))
                asked = [conversation(body) for body in questions(api)]
                assert asked[2][-5:] == ["first", "one", "second", "two", "third"]
                assert asked[3][-5:] == ["first", "one", "second", "two", "fourth"]
                lost = await session_of(backend, tmp_path, session_id="11111111-1111-4111-8111-111111111111")
                assert (await fails(lost, "x")).code == "session_lost"

    real_claude()
    run(main)


def test_a_call_is_asked_may_be_edited_and_may_be_refused(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: FakeMessagesApi, __: ClaudeBackend) -> None:
        edited = Remembers(Permitted({"command": "echo edited > made; cat made"}))
        result = await session.send_message(AgentRequest(prompt="make it"), edited)
        assert [question.tool for question in edited.questions] == ["Bash"]
        assert edited.questions[0].input["command"] == "echo original > made"
        assert edited.of(ToolBegan)[0].id == edited.questions[0].id == edited.of(ToolEnded)[0].id
        assert edited.of(ToolEnded)[0].content == "edited"
        assert (result.result, result.denials) == ("made", ())
        assert (tmp_path / "work" / "made").read_text() == "edited\n"
        denied = Remembers(DENY)
        result = await session.send_message(AgentRequest(prompt="remove it"), denied)
        assert [denial.tool for denial in result.denials] == ["Bash"]
        assert denied.of(ToolEnded)[0] == ToolEnded(denied.questions[0].id, "not today", True)
        assert (tmp_path / "work" / "made").exists()

    answers = [says("now", bash("echo original > made")), says("made"), says(bash("rm made")), says("sorry")]
    play(tmp_path, answers, body)


def test_without_questions_what_would_be_asked_is_denied(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: FakeMessagesApi, __: ClaudeBackend) -> None:
        result = await session.send_message(AgentRequest(prompt="make it"))
        assert [denial.tool for denial in result.denials] == ["Bash"]
        assert not (tmp_path / "work" / "made").exists()

    play(tmp_path, [says(bash("touch made")), says("no")], body, duplex=False)


def test_an_interrupt_ends_what_runs_and_the_process_stays(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: FakeMessagesApi, backend: ClaudeBackend) -> None:
        class Writes(Remembers):
            async def event(self, event: AgentEvent) -> None:
                if isinstance(event, TextDelta | ToolBegan):
                    self.heard.set()

        for prompt in ("think", "run"):
            watch = Writes()
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def interrupt(watch: Remembers = watch, prompt: str = prompt) -> None:
                    await watch.heard.wait()
                    if prompt == "run":
                        await appears(tmp_path / "work" / "begun")
                    began_s = trio.current_time()
                    await session.interrupt()
                    assert trio.current_time() - began_s < 20

                error = await fails(session, prompt, watch)
            assert error.code == "interrupted"
            assert error.usage.total_tokens > 0
        assert error.acted
        assert (await session.send_message(AgentRequest(prompt="go on"))).result == "gone on"
        assert backend.running == 1

    answers = [
        says("a long thought", fail=Stall(after=2)),
        says(bash("touch begun; sleep 600")),
        says("gone on"),
    ]
    play(tmp_path, answers, body)


@pytest.mark.parametrize("how", ["cancelled", "killed", "stopped"])
def test_a_turn_that_does_not_end_by_itself_leaves_nothing_and_is_resumed(tmp_path: Path, how: str) -> None:
    async def body(session: AgentSession, api: FakeMessagesApi, _: ClaudeBackend) -> None:
        await session.send_message(AgentRequest(prompt="first"))
        begun, outcome = tmp_path / "work" / "begun", ""
        with suppress(AgentError):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def end() -> None:
                    await appears(begun)
                    if how == "cancelled":
                        nursery.cancel_scope.cancel()
                    elif how == "killed":
                        for pid in programs(tmp_path):
                            os.kill(pid, signal.SIGKILL)
                    else:
                        await session.stop_session()

                error = await fails(session, "second", Remembers())
                outcome = error.code
        assert outcome == {"cancelled": "", "killed": "terminated", "stopped": "closed"}[how]
        if how == "stopped":
            assert running_below(tmp_path) == []
            return
        assert (await session.send_message(AgentRequest(prompt="third"))).result == "on"
        assert "first" in conversation(questions(api)[-1])

    # What it starts in a session of its own cannot get away either.
    starts = "setsid -f sleep 600; echo $$ > begun; sleep 600"
    play(tmp_path, [says("one"), says(bash(starts)), says("on"), says("on")], body)


def programs(folder: Path) -> list[int]:
    """The programs whose configuration is below the folder, without what they started."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and lives(int(process.name)):
            with suppress(OSError):
                is_ours = f"CLAUDE_CONFIG_DIR={folder}/".encode() in (process / "environ").read_bytes()
                if is_ours and (process / "exe").resolve() == Path(real_claude()).resolve():
                    found.append(int(process.name))
    return found


REFUSALS = {401: "auth", 403: "auth", 429: "overloaded", 500: "overloaded", 529: "overloaded", 400: "refused"}
REFUSALS |= {402: "refused"}


@pytest.mark.parametrize(
    ("duplex", "statuses"), [(True, list(REFUSALS)), (False, [401, 529])], ids=["duplex", "single"]
)
def test_what_the_api_refuses_has_a_code_and_costs_nothing(tmp_path: Path, duplex: bool, statuses: list[int]) -> None:
    async def body(session: AgentSession, api: FakeMessagesApi, _: ClaudeBackend) -> None:
        for status in statuses:
            api.enqueue(*[HttpError(status, message="no")] * 4)
            error = await fails(session, "x")
            assert (error.code, error.cost_usd) == (REFUSALS[status], 0.0)
            api.forget_answers()
        api.enqueue(says("fine"))
        assert (await session.send_message(AgentRequest(prompt="again"))).result == "fine"

    play(tmp_path, [], body, duplex=duplex)


def test_caps_on_money_and_turns_are_kept(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: FakeMessagesApi, __: ClaudeBackend) -> None:
        error = await fails(session, "dear", max_cost_usd=0.001)
        assert error.code == "max_budget_exceeded"
        assert error.cost_usd is not None
        assert error.cost_usd > 0.001  # it is looked at after an answer
        error = await fails(session, "long")
        assert (error.code, error.acted) == ("max_turns_exceeded", True)
        assert (await session.send_message(AgentRequest(prompt="short"))).result == "short"

    answers = [says("dear"), says(ToolUse("Read", {"file_path": "x"})), says("short")]
    play(tmp_path, answers, body, spec={"options": {"max_turns": 1}})


def test_an_answer_has_the_form_that_was_asked_for(tmp_path: Path) -> None:
    async def body(session: AgentSession, api: FakeMessagesApi, _: ClaudeBackend) -> None:
        schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
        picture = Image(media_type="image/png", data=PIXEL)
        result = await session.send_message(AgentRequest(prompt="1+2", schema=schema, images=[picture], model="sonnet"))
        assert result.structured_output == {"sum": 3}
        assert "sonnet" in questions(api)[0]["model"]
        blocks = questions(api)[0]["messages"][0]["content"]
        assert [block["type"] for block in blocks][-1] == "image"

    play(tmp_path, [says(ToolUse("StructuredOutput", {"sum": 3})), says("done")], body)


def test_servers_of_tools_are_asked_about_like_any_tool(tmp_path: Path) -> None:
    server = McpServer(command=(sys.executable, "-IS", mcp_program.__file__), environment={"TOKEN": "given"})

    async def body(session: AgentSession, _: FakeMessagesApi, __: ClaudeBackend) -> None:
        watch = Remembers()
        await session.send_message(AgentRequest(prompt="add"), watch)
        assert [question.tool for question in watch.questions] == ["mcp__sums__reveal"]
        assert not watch.of(ToolEnded)[0].is_error
        assert "given" in watch.of(ToolEnded)[0].content

    answers = [says(ToolUse("mcp__sums__reveal", {})), says("done")]
    play(tmp_path, answers, body, spec={"mcp": {"sums": server}})


def test_a_key_from_a_file_is_in_no_environment_of_a_command(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("key-from-the-file")

    async def main() -> None:
        api = [says(bash("env")), says("done")]
        async with (
            open_fake_api(api, api_keys={"key-from-the-file"}) as fake,
            open_real_claude(tmp_path, fake.base_url, api_key="", api_key_file=str(key)) as backend,
        ):
            await backend.check()
            watch = Remembers()
            await (await session_of(backend, tmp_path)).send_message(AgentRequest(prompt="look"), watch)
            assert "HOME=" in watch.of(ToolEnded)[0].content
            assert "ANTHROPIC_API_KEY" not in watch.of(ToolEnded)[0].content
            assert "key-from-the-file" not in watch.of(ToolEnded)[0].content

    real_claude()
    run(main)


def test_a_server_on_a_socket_needs_no_key(tmp_path: Path) -> None:
    place = tmp_path / "api.sock"

    async def main() -> None:
        async with (
            open_fake_api([says("over a socket")], socket=place) as _,
            open_real_claude(tmp_path, "", api_key="", socket=str(place)) as backend,
        ):
            await backend.check()
            session = await session_of(backend, tmp_path)
            assert (await session.send_message(AgentRequest(prompt="x"))).result == "over a socket"

    real_claude()
    run(main)


def test_a_text_with_a_slash_reaches_the_model_unless_commands_are_wanted(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_fake_api([says("seen")]) as api, open_real_claude(tmp_path, api.base_url) as backend:
            session = await session_of(backend, tmp_path)
            assert (await session.send_message(AgentRequest(prompt="/cost of that"))).result == "seen"
            commands = await session_of(backend, tmp_path, options={"slash_commands": True})
            result = await commands.send_message(AgentRequest(prompt="/cost"))
            assert result.result.startswith("Total cost")
            assert (result.cost_usd, len(questions(api))) == (0.0, 1)

    real_claude()
    run(main)


@pytest.mark.skipif(os.geteuid() != 0, reason="the program refuses it only to root")
def test_bypass_is_refused_to_root_by_the_program_too(tmp_path: Path) -> None:
    """That is why `check_options` does it, whoever permits it: nobody would understand the program's message."""
    done = subprocess.run(
        [real_claude(), "--print", "--permission-mode", "bypassPermissions"],
        input="x",
        capture_output=True,
        text=True,
        timeout=60,
        env={
            "PATH": os.defpath,
            "HOME": str(tmp_path),
            "ANTHROPIC_API_KEY": "x",
            "ANTHROPIC_BASE_URL": "http://[::1]:1",
        },
    )
    assert done.returncode == 1
    assert "cannot be used with root" in done.stderr


def test_check_tells_what_is_missing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_real_claude(tmp_path, "", api_key="") as backend:
            with pytest.raises(BackendUnavailable, match="no credential"):
                await backend.check()

    real_claude()
    run(main)


@BOTH
@pytest.mark.parametrize("prompt", ["what is in @{path} ?", "@{path}", 'two lines\n@"{path}" and more'])
def test_a_path_in_a_message_is_text_and_no_file_that_is_read_unasked(
    tmp_path: Path, duplex: bool, prompt: str
) -> None:
    """A message may come from another agent, from a board or from a web page: it names no file for the program."""
    secret = tmp_path / "elsewhere" / "secret.txt"
    secret.parent.mkdir()
    secret.write_text("the hidden word is quokka\n")
    said = prompt.format(path=secret)

    async def body(session: AgentSession, api: FakeMessagesApi, _: ClaudeBackend) -> None:
        await session.send_message(AgentRequest(prompt=said))
        (sent, *_rest) = questions(api)
        assert "quokka" not in json.dumps(sent)
        assert said in conversation(sent)

    play(tmp_path, [says("ok")] * 3, body, duplex=duplex)
