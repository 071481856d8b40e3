"""A program that an operator describes performs turns: started with each, ended whole, and told what was said."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.backends.agents.base import AgentError, AgentEvent, AgentRequest, AgentSpec, Refusal, TextDelta
from skill_actors.backends.agents.command import CommandBackend, open_command
from skill_actors.backends.base import BackendUnavailable, OptionRefused
from skill_actors.backends.workers import Host


@asynccontextmanager
async def opened(folder: Path, program: str, **options: Any) -> AsyncIterator[CommandBackend]:
    """A backend whose program is this Python text."""
    script = folder / "program.py"
    script.write_text(program, encoding="utf-8")
    words = options.pop("words", [])
    for name in ("resume",):
        if name in options:
            options[name] = [sys.executable, str(script), *options[name]]
    given = {"argv": [sys.executable, str(script), *words], **options}
    async with open_command("mine", given, Host(folder=folder / "backend")) as backend:
        yield backend


def spec(folder: Path, **fields: Any) -> AgentSpec:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return AgentSpec(agent="ses_x", folder=work, **fields)


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[AgentEvent] = []

    async def event(self, event: AgentEvent) -> None:
        self.events.append(event)

    async def permit(self, question: object) -> Refusal:
        raise AssertionError("such a program asks nothing")


def test_the_prompt_is_on_stdin_and_the_answer_is_shown_as_it_comes(tmp_path: Path) -> None:
    async def main() -> None:
        program = "import sys, os\nprint(sys.stdin.read().upper())\nprint(os.getcwd())"
        async with opened(tmp_path, program) as backend:
            session, told = await backend.start_session(spec(tmp_path, system="Be kind.")), Told()
            result = await session.send_message(AgentRequest(prompt="hello"), told)
        assert result.result == f"BE KIND.\n\nHELLO\n{tmp_path / 'work'}"
        assert next(event.text for event in told.events if isinstance(event, TextDelta)) == "BE KIND.\n"
        assert (result.session_id, result.cost_usd, result.is_error, result.num_turns) == (None, None, False, 1)
        assert (session.turn_count, session.last_result, session.total_cost) == (1, result, None)

    trio.run(main)


def test_files_hold_what_does_not_belong_on_stdin_and_are_gone_afterwards(tmp_path: Path) -> None:
    async def main() -> None:
        program = """
import json, os, sys
prompt, system = sys.argv[1:3]
print(json.dumps({"result": open(prompt).read() + open(system).read() + sys.stdin.read() + sys.argv[3],
                  "mode": oct(os.stat(os.path.dirname(prompt)).st_mode & 0o777)}))
"""
        words = ["{prompt_file}", "{system_file}", "--model={model}"]
        async with opened(tmp_path, program, words=words, output="json", model="big") as backend:
            session = await backend.start_session(spec(tmp_path, system="Be kind."))
            result = await session.send_message(AgentRequest(prompt="hello "))
        assert result.result == "hello Be kind.--model=big"
        assert list((tmp_path / "backend" / "tmp").iterdir()) == []

    trio.run(main)


def test_a_session_is_gone_on_with_by_its_id(tmp_path: Path) -> None:
    async def main() -> None:
        program = "import json, sys; print(json.dumps({'result': sys.argv[1:], 'id': 's-1', 'usd': 0.25}))"
        options = {"output": "json", "session": "/id", "cost": "/usd", "resume": ["--resume", "{session}"]}
        async with opened(tmp_path, program, **options) as backend:
            assert backend.capabilities.resume
            session = await backend.start_session(spec(tmp_path))
            first = await session.send_message(AgentRequest(prompt="one"))
            second = await session.send_message(AgentRequest(prompt="two"))
            later = await (await backend.start_session(spec(tmp_path, session_id="s-7"))).send_message(
                AgentRequest(prompt="three")
            )
        assert (first.result, first.session_id, first.cost_usd) == ("[]", "s-1", 0.25)
        assert second.result == '["--resume", "s-1"]'
        assert later.result == '["--resume", "s-7"]'
        assert session.total_cost == 0.5

    trio.run(main)


def test_the_environment_is_what_the_operator_says_and_nothing_of_the_daemons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")

    async def main() -> None:
        program = "import json, os; print(json.dumps({'result': sorted(os.environ)}))"
        async with opened(tmp_path, program, output="json", environment={"MINE": "1"}) as backend:
            result = await (await backend.start_session(spec(tmp_path))).send_message(AgentRequest(prompt="x"))
        names = set(json.loads(result.result))
        assert {"PATH", "HOME", "LANG", "TMPDIR", "MINE"} <= names
        assert "ANTHROPIC_API_KEY" not in names

    trio.run(main)


@pytest.mark.parametrize(
    ("program", "options", "code", "says"),
    [
        ("import sys; print('half'); sys.exit('no network')", {}, "command_failed", "status 1: no network"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", {}, "command_failed", "status -9"),
        ("print('{')", {"output": "json"}, "protocol", "did not print JSON"),
        ("print('x' * 3000)", {"output_bytes": 1000}, "protocol", "more than 1000 bytes"),
        ("print('x\\n' * 3000)", {"output_bytes": 1000}, "protocol", "more than 1000 bytes"),
        ("import time; time.sleep(60)", {"timeout_s": 0.3}, "timeout", "longer than 0.3 s"),
    ],
)
def test_a_program_that_fails_is_an_error_that_says_how(
    tmp_path: Path, program: str, options: dict[str, Any], code: str, says: str
) -> None:
    async def main() -> None:
        async with opened(tmp_path, program, **options) as backend:
            session = await backend.start_session(spec(tmp_path))
            with pytest.raises(AgentError, match=says) as caught:
                await session.send_message(AgentRequest(prompt="x"))
            assert (caught.value.code, caught.value.acted) == (code, True)
            assert session.turn_count == 0

    trio.run(main)


def test_a_failure_that_the_program_tells_of_is_a_result(tmp_path: Path) -> None:
    async def main() -> None:
        program = 'print(\'{"result": "quota", "bad": true}\')'
        async with opened(tmp_path, program, output="json", failed="/bad") as backend:
            result = await (await backend.start_session(spec(tmp_path))).send_message(AgentRequest(prompt="x"))
        assert (result.is_error, result.error, result.result) == (True, "failed", "quota")

    trio.run(main)


def test_bytes_that_are_no_text_are_shown_as_such(tmp_path: Path) -> None:
    async def main() -> None:
        program = "import sys; sys.stdout.buffer.write(b'a\\xff\\x00b')"
        async with opened(tmp_path, program) as backend:
            result = await (await backend.start_session(spec(tmp_path))).send_message(AgentRequest(prompt="x"))
        assert result.result == "a\ufffdb"

    trio.run(main)


def test_an_input_that_the_program_does_not_read_keeps_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "print('done')") as backend:
            session = await backend.start_session(spec(tmp_path))
            with trio.fail_after(30):
                result = await session.send_message(AgentRequest(prompt="x" * 2_000_000))
        assert result.result == "done"

    trio.run(main)


_DAEMONS = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
print('half', flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["cancel", "interrupt", "stop"])
def test_whoever_ends_a_turn_leaves_nothing_running(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with opened(tmp_path, _DAEMONS) as backend:
            session, told = await backend.start_session(spec(tmp_path)), Told()
            failed: list[AgentError] = []

            async def send(scope: trio.CancelScope) -> None:
                with scope:
                    try:
                        await session.send_message(AgentRequest(prompt="x"), told)
                    except AgentError as error:
                        failed.append(error)

            scope = trio.CancelScope()
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, scope)
                while len(told.events) < 2:  # noqa: ASYNC110  # another process prints
                    await trio.sleep(0.005)
                await {"cancel": _cancelled(scope), "interrupt": session.interrupt, "stop": session.stop_session}[how]()
            assert trio.current_time() - began < 20
        pids = [event.text.strip() for event in told.events if isinstance(event, TextDelta) and event.text != "half\n"]
        assert len(pids) == 1
        assert not Path("/proc", pids[0]).exists()  # noqa: ASYNC240
        if how != "cancel":
            assert failed[0].code == {"interrupt": "interrupted", "stop": "closed"}[how]
            assert "half\n" in failed[0].partial

    trio.run(main)


def _cancelled(scope: trio.CancelScope) -> Any:
    async def cancel() -> None:
        scope.cancel()

    return cancel


def test_a_session_takes_one_message_at_a_time_and_none_once_it_was_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "import time; print('on', flush=True); time.sleep(600)") as backend:
            session, told = await backend.start_session(spec(tmp_path)), Told()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.send_message, AgentRequest(prompt="x"), told)
                while not told.events:  # noqa: ASYNC110  # another process prints
                    await trio.sleep(0.005)
                with pytest.raises(AgentError) as caught:
                    await session.send_message(AgentRequest(prompt="y"))
                nursery.cancel_scope.cancel()
            assert caught.value.code == "turn_in_flight"
            await session.stop_session()
            await session.stop_session()
            with pytest.raises(AgentError) as caught:
                await session.send_message(AgentRequest(prompt="y"))
            assert caught.value.code == "closed"

    trio.run(main)


def test_no_more_programs_run_than_may(tmp_path: Path) -> None:
    async def main() -> None:
        program = """
import os, time
mine = os.open('lock', os.O_CREAT | os.O_EXCL)
time.sleep(0.05)
os.unlink('lock')
print('alone')
"""
        async with opened(tmp_path, program, max_processes=1) as backend:
            sessions = [await backend.start_session(spec(tmp_path)) for _ in range(3)]
            async with trio.open_nursery() as nursery:
                for session in sessions:
                    nursery.start_soon(session.send_message, AgentRequest(prompt="x"))
        assert [session.turn_count for session in sessions] == [1, 1, 1]

    trio.run(main)


def test_a_program_that_is_not_there_is_told_with_its_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_command("mine", {"argv": ["no-such-program"]}, Host(folder=tmp_path)) as backend:
            with pytest.raises(BackendUnavailable, match=r"backends\.command\.mine\.argv"):
                await backend.check()
            with pytest.raises(OptionRefused):
                backend.check_options({"any": 1})
            assert (await backend.facts())["program"] is None
            session = await backend.start_session(spec(tmp_path))
            with pytest.raises(AgentError) as caught:
                await session.send_message(AgentRequest(prompt="x"))
            assert caught.value.code == "binary_not_found"

    trio.run(main)
    assert os.stat(tmp_path).st_mode & 0o077 == 0
