"""Backends that own their turns, of the program's own or of another package, as conversations of the library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from skill_actors.backends import BackendUnavailable
from skill_actors.library import SkillError, start_session
from skill_actors.loop import BackendSession, TurnFailed
from skill_actors.models.base import Message
from skill_actors.skills.base import Skill
from support import run


@dataclass(frozen=True)
class Said:
    text: str


class Shouting:
    """A custom backend: three callbacks, no executor."""

    def __init__(self, *, is_there: bool = True) -> None:
        self._is_there = is_there

    def backend_type(self) -> str:
        return "shouting"

    async def new_session(self, skills: Iterable[Skill], *, loudness: int = 1, **options: Any) -> BackendSession:
        if options:
            raise TypeError(f"no option {min(options)!r}")
        if not self._is_there:
            raise BackendUnavailable("nobody is at home; come back later")
        return BackendSession(backend="shouting", skills=tuple(skills), state=loudness)

    async def chat(
        self, session: BackendSession, message: str, model: Any, **options: Any
    ) -> tuple[Said, BackendSession]:
        said: Message = {"role": "user", "content": [{"type": "text", "text": message}]}
        after = replace(session, messages=(*session.messages, said))
        if message == "fail":
            raise TurnFailed("max_iterations_reached", "enough", after, details={"max_iterations": 1})
        answer = str(await model(after.messages)).upper() + "!" * session.state
        answered: Message = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        return Said(answer), replace(after, messages=(*after.messages, answered))


def plain(messages: Sequence[Message]) -> object:
    return messages[-1]["content"][0]["text"]


def test_a_backend_of_the_programs_own_is_a_conversation_like_the_others() -> None:
    async def main() -> None:
        async with start_session(Shouting(), [], loudness=2) as session:
            assert session.execution_mode == "shouting"
            response, _ = await session.chat("hello", plain)
            assert response.text == "HELLO!!"
            assert [message["role"] for message in session.messages] == ["user", "assistant"]
            with pytest.raises(SkillError) as failed:
                await session.chat("fail", plain)
            assert (failed.value.code, failed.value.session) == ("max_iterations_reached", session)
            assert failed.value.details["max_iterations"] == 1
            assert len(session.messages) == 3
            with pytest.raises(SkillError, match="runs no tools here"):
                await session.run("bash_tool", command="ls")
            session.reset()
            response, _ = await session.chat("again", plain)
            assert len(session.messages) == 2

    run(main)


def test_a_picture_for_a_backend_that_takes_text_is_refused_and_not_left_out() -> None:
    async def main() -> None:
        async with start_session(Shouting(), []) as session:
            with pytest.raises(ValueError, match="no 'image'"):
                await session.chat([{"type": "text", "text": "look"}, {"type": "image", "source": {}}], plain)
            assert session.messages == []

    run(main)


def test_a_backend_that_cannot_run_is_an_error_and_its_options_are_its_own() -> None:
    async def main() -> None:
        with pytest.raises(SkillError) as refused:
            async with start_session(Shouting(is_there=False), []):
                raise AssertionError("it was opened")
        assert (refused.value.code, refused.value.retryable) == ("backend_unavailable", True)
        with pytest.raises(TypeError, match="colour"):
            async with start_session(Shouting(), [], colour="red"):
                raise AssertionError("it was opened")

    run(main)


def test_a_backend_of_a_package_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[skilld.turn_backends]\ntheirs = theirs_turns:Theirs\n")
    (tmp_path / "theirs_turns.py").write_text(
        "from dataclasses import replace\n"
        "from skill_actors.loop import BackendSession\n"
        "class Said:\n    text = 'theirs'\n"
        "class Theirs:\n"
        "    def backend_type(self): return 'theirs'\n"
        "    async def new_session(self, skills, **options): return BackendSession(backend='theirs')\n"
        "    async def chat(self, session, message, model, **options): return Said(), session\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    async def main() -> None:
        async with start_session("theirs", []) as session:
            response, _ = await session.chat("hi", plain)
            assert (response.text, session.execution_mode) == ("theirs", "theirs")

    run(main)
