"""Backends that own the turn: ours by name, and one written by hand as the page of Conjure shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from skill_actors.backends import BackendUnavailable
from skill_actors.loop import BackendSession, ToolBackend, TurnFailed, chat, find_backend
from skill_actors.models.base import Message
from skill_actors.skills.base import Skill
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run

_RUNNER = "cut -d' ' -f4 /proc/$PPID/stat > {}"  # its process belongs to the workspace, not to a call


@dataclass(frozen=True)
class Said:
    text: str


class Custom:
    """The example: a backend of three callbacks, which does without any executor."""

    def backend_type(self) -> str:
        return "custom"

    async def new_session(self, skills: Iterable[Skill], **options: Any) -> BackendSession:
        return BackendSession(backend="custom", skills=tuple(skills), options=options)

    async def chat(
        self, session: BackendSession, message: str, model: Any, **options: Any
    ) -> tuple[Said, BackendSession]:
        asked: Message = {"role": "user", "content": [{"type": "text", "text": message}]}
        answer = await model([*session.messages, asked])
        return Said(answer["content"][0]["text"]), replace(session, messages=(*session.messages, asked))


async def echo(messages: Sequence[Message]) -> object:
    """A model that repeats the first and the last message."""
    first, last = messages[0]["content"][0]["text"], messages[-1]["content"][0]["text"]
    return {"stop_reason": "end_turn", "content": [{"type": "text", "text": f"{first}, {last}"}]}


def test_a_backend_is_used_directly_and_the_session_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        backend = ToolBackend("local")
        session = await backend.new_session([], working_directory=tmp_path)
        response, session = await backend.chat(session, "Hello", echo)
        assert response.text == "Hello, Hello"
        response, session = await backend.chat(session, "again", echo)
        assert (response.text, len(session.messages)) == ("Hello, again", 4)

    run(main)


def test_tools_of_a_model_run_in_the_session_of_the_backend(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([ToolUse("bash_tool", {"command": "pwd > here"})]), Reply([Text("done")])])
        session = await (await find_backend("local")).new_session([], working_directory=tmp_path / "w")
        response, session = await chat(session, "where?", model, model_name="m")
        assert response.text == "done"
        assert [tool["name"] for tool in model.requests[0].tools][:2] == ["view", "bash_tool"]

    run(main)
    assert (tmp_path / "w" / "here").read_text() == f"{tmp_path}/w\n"


def test_an_open_backend_keeps_one_workspace_over_all_turns_and_closes_it(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel(
            [
                Reply([ToolUse("bash_tool", {"command": _RUNNER.format("runner")})]),
                Reply([Text("one")]),
                Reply([ToolUse("bash_tool", {"command": _RUNNER.format("again")})]),
                Reply([Text("two")]),
            ]
        )
        async with ToolBackend("local") as backend:
            session = await backend.new_session([], working_directory=tmp_path)
            _, session = await backend.chat(session, "one", model, model_name="m")
            response, session = await backend.chat(session, "two", model, model_name="m")
            assert response.text == "two"
            with pytest.raises(BackendUnavailable, match="found no bash"):
                await backend.new_session([], working_directory=tmp_path, options={"path": str(tmp_path)})

    async def fail() -> None:
        async with ToolBackend("local") as backend:
            await backend.new_session([], working_directory=tmp_path)
            raise LookupError("mine")

    run(main)
    runner = (tmp_path / "runner").read_text().strip()
    assert runner == (tmp_path / "again").read_text().strip()
    assert not Path("/proc", runner).exists()
    with pytest.raises(LookupError, match="mine"):
        run(fail)


def test_a_custom_backend_works_by_its_name_and_is_never_replaced_by_a_shell() -> None:
    async def main() -> None:
        custom = Custom()
        session = await custom.new_session([], colour="red")
        response, session = await chat(session, "hi", echo, custom)
        assert response.text == "hi, hi"
        with pytest.raises(BackendUnavailable, match="no backend 'custom'"):
            await chat(session, "hi", echo)

    run(main)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that offers one, and one that is broken."""
    folder = tmp_path / "site"
    info = folder / "theirs-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    points = "[skilld.turn_backends]\ntheirs = theirs_backend:Theirs\nbroken = theirs_backend:Missing\n"
    (info / "entry_points.txt").write_text(points)
    (folder / "theirs_backend.py").write_text("class Theirs:\n    def backend_type(self):\n        return 'theirs'\n")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.usefixtures("installed")
def test_a_package_can_offer_a_backend_and_a_broken_one_is_an_error() -> None:
    async def main() -> None:
        assert (await find_backend("theirs")).backend_type() == "theirs"
        with pytest.raises(BackendUnavailable, match="mend or remove its package"):
            await find_backend("broken")

    run(main)


def test_a_turn_that_fails_is_a_typed_error_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    async def fails(messages: Sequence[Message]) -> object:
        raise ConnectionError("no line")

    async def main() -> None:
        backend = ToolBackend("local")
        session = await backend.new_session([], working_directory=tmp_path)
        with pytest.raises(TurnFailed, match=r"model_call_failed: .*no line") as failed:
            await backend.chat(session, "remember this", fails)
        response, _ = await backend.chat(failed.value.session, "and this", echo)
        assert response.text.startswith("remember this")

    run(main)


def test_options_that_do_not_exist_and_backends_that_cannot_run_are_errors(tmp_path: Path) -> None:
    async def main() -> None:
        backend = ToolBackend("local")
        session = await backend.new_session([], working_directory=tmp_path)
        with pytest.raises(TypeError, match="no option 'iterations'"):
            await backend.chat(session, "hi", echo, iterations=3)
        with pytest.raises(TypeError, match="colour"):
            await backend.new_session([], working_directory=tmp_path, colour="red")
        with pytest.raises(BackendUnavailable, match="found no bash"):
            await backend.new_session([], working_directory=tmp_path, options={"path": str(tmp_path)})

    run(main)
