"""The part for Backends, which own the turn: what holds of every one, whoever executes, hosted or here.

Each has one way to make a session and one command that its model runs; the checks are the same for all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from docker_kit import engine_with_slim_image
from skill_actors.backends.docker_image import SLIM_IMAGE
from skill_actors.loop import Backend, BackendSession, TurnFailed, chat, find_backend
from skill_actors.models import Usage
from skill_actors.models.base import Message
from skill_actors.testing import CodeExecution, HttpError, Reply, ScriptedModel, ServerToolUse, Text, ToolUse, Whole
from skill_actors.testing.replies import Part
from support import run

SLIM = {"image": SLIM_IMAGE}
USAGE = Usage(input_tokens=10, output_tokens=5)


@dataclass(frozen=True)
class Kind:
    """One backend, and how its model runs a command."""

    name: str
    options: Callable[[Path], Mapping[str, Any]]
    command: Callable[[str], Part]
    answers_itself: bool = False  # the API has the result: no second answer follows

    async def begin(self, folder: Path) -> tuple[Backend, BackendSession]:
        backend = await find_backend(self.name)
        return backend, await backend.new_session([], **self.options(folder))

    def work(self, text: str) -> list[Reply]:
        """Answers of a turn that runs a command and then says this."""
        call = self.command("echo made > here")
        if self.answers_itself:
            return [Reply([call, Text(text)], usage=USAGE)]
        return [Reply([call], usage=USAGE), Reply([Text(text)], usage=USAGE)]


KINDS = [
    Kind(
        "local",
        lambda folder: {"working_directory": folder / "work"},
        lambda text: ToolUse("bash_tool", {"command": text, "description": "makes a file"}),
    ),
    Kind(
        "anthropic",
        lambda folder: {},
        lambda text: CodeExecution(text, files={"here": b"made\n"}),
        answers_itself=True,
    ),
]


IN_DOCKER = replace(KINDS[0], name="docker", options=lambda folder: {**KINDS[0].options(folder), "options": SLIM})


@pytest.fixture(params=[*KINDS, pytest.param(IN_DOCKER, marks=pytest.mark.deep)], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    kind: Kind = request.param
    if kind is not IN_DOCKER:
        yield kind
        return
    with engine_with_slim_image():
        yield kind


def is_sendable(messages: Sequence[Message]) -> bool:
    """Whether a further message of the user can follow: roles alternate, and it is JSON."""
    roles = [message["role"] for message in messages]
    assert json.loads(json.dumps(list(messages))) == list(messages)
    return roles == ["user", "assistant"] * (len(roles) // 2)


def test_a_session_carries_the_name_by_which_its_backend_is_found(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        backend, session = await kind.begin(tmp_path)
        assert backend.backend_type() == session.backend == kind.name
        assert list(session.messages) == []

    run(main)


def test_a_turn_runs_commands_answers_and_tells_what_it_cost(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        replies = kind.work("done")
        model = ScriptedModel(replies)
        _, session = await kind.begin(tmp_path)
        response, session = await chat(session, "work", model, model_name="m")
        assert (response.text, response.stop_reason) == ("done", "end_turn")
        assert response.usage.output_tokens == 5 * len(replies)
        assert is_sendable(session.messages)
        assert session.messages[0]["content"][0]["text"] == "work"

    run(main)


def test_a_conversation_goes_on_and_a_session_is_a_value(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([Text("one")]), Reply([Text("two")]), Reply([Text("other two")])])
        _, new = await kind.begin(tmp_path)
        _, first = await chat(new, "1", model, model_name="m")
        _, second = await chat(first, "2", model, model_name="m")
        _, other = await chat(first, "2", model, model_name="m")
        assert [len(session.messages) for session in (new, first, second, other)] == [0, 2, 4, 4]
        assert second.messages[-1] != other.messages[-1]

    run(main)


def test_a_function_of_the_messages_is_a_model(kind: Kind, tmp_path: Path) -> None:
    async def echo(messages: Sequence[Message]) -> object:
        said = messages[-1]["content"][0]["text"]
        return {"stop_reason": "end_turn", "content": [{"type": "text", "text": said}]}

    async def main() -> None:
        _, session = await kind.begin(tmp_path)
        response, session = await chat(session, "hello", echo)
        assert (response.text, len(session.messages)) == ("hello", 2)

    run(main)


def test_a_failure_of_the_model_leaves_a_session_that_goes_on(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([HttpError(400, message="no"), Reply([Text("yes")])])
        _, session = await kind.begin(tmp_path)
        with pytest.raises(TurnFailed, match="no") as caught:
            await chat(session, "first", model, model_name="m")
        assert caught.value.__cause__ is not None
        response, after = await chat(caught.value.session, "second", model, model_name="m")
        assert response.text == "yes"
        assert is_sendable(after.messages)
        assert [block["text"] for block in after.messages[0]["content"]] == ["first", "second"]

    run(main)


def test_pauses_are_gone_through_up_to_a_bound(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        search = ServerToolUse("web_search", {"query": "tides"}, "srvtoolu_1")
        found = Whole({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []})
        paused = Reply([Text("a"), search], stop_reason="pause_turn", usage=USAGE)
        model = ScriptedModel([paused, Reply([found, Text("b")], usage=USAGE), paused, Reply([Text("later")])])
        _, session = await kind.begin(tmp_path)
        response, session = await chat(session, "go", model, model_name="m", max_pauses=1)
        assert response.text.endswith("b")
        assert response.usage == USAGE + USAGE
        assert is_sendable(session.messages)
        _, session = await kind.begin(tmp_path / "other")
        with pytest.raises(TurnFailed) as caught:
            await chat(session, "go", model, model_name="m", max_pauses=0)
        response, session = await chat(caught.value.session, "go on", model, model_name="m")
        assert response.text == "later"

    run(main)


def test_a_cancelled_turn_stops_asking_and_the_session_before_it_goes_on(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([Text("never")], first_delay_s=60), Reply([Text("later")])])
        _, session = await kind.begin(tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(chat, session, "go", model, model_name="m"))
            while not model.running:  # noqa: ASYNC110  # what opens the place may be another process
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert nursery.cancel_scope.cancelled_caught
        assert model.running == 0
        response, session = await chat(session, "again", model, model_name="m")
        assert (response.text, len(session.messages)) == ("later", 2)

    run(main)


def test_an_unknown_option_is_an_error_and_never_ignored(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        backend, session = await kind.begin(tmp_path)
        with pytest.raises(TypeError, match="colour"):
            await backend.new_session([], **kind.options(tmp_path), colour="red")
        with pytest.raises(TypeError, match="colour"):
            await chat(session, "go", ScriptedModel(), colour="red")

    run(main)
