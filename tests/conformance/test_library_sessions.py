"""What holds of every conversation of a program, wherever its tools run: one suite over `start_session`.

The fake API answers; each kind has one way to do a piece of work, and one to begin what does not end by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from conformance.executor_kit import alive, demand
from skill_actors.backends.anthropic import HostedClient
from skill_actors.backends.docker_image import SLIM_IMAGE
from skill_actors.library import Session, SessionFile, SkillError, start_session
from skill_actors.models import AnthropicModel, Usage
from skill_actors.testing import (
    CodeExecution,
    FakeMessagesApi,
    HttpError,
    Reply,
    ServerToolUse,
    Text,
    ToolUse,
    Whole,
    open_fake_api,
)
from skill_actors.testing.backends import AsyncWorkbench, Workbench
from skill_actors.testing.replies import Part
from support import run

MARK = "98765431"  # seconds: what a call that does not end sleeps, and is found by
USAGE = Usage(input_tokens=10, output_tokens=5)


@dataclass(frozen=True)
class Kind:
    """One kind of conversation.

    Args:
        name: of the case; what is before a plus is the backend.
        skills: first argument of `start_session`.
        work: makes out.txt.
        stay: what the model says that begins what does not end by itself.
        options: of the constructor.
        hosted: whether the API runs code.

    """

    name: str
    skills: Sequence[Any]
    work: Sequence[Part]
    stay: Callable[[], Reply]
    options: Mapping[str, Any] = field(default_factory=dict)
    hosted: bool = False

    @property
    def backend(self) -> str:
        return self.name.partition("+")[0]

    def replies(self, text: str) -> list[Reply]:
        """A turn that works, and says this."""
        if self.backend == "anthropic":
            return [Reply([*self.work, Text(text)], usage=USAGE)]
        return [Reply(self.work, usage=USAGE), Reply([Text(text)], usage=USAGE)]


def bash(command: str) -> ToolUse:
    return ToolUse("bash_tool", {"command": command, "description": "d"})


def stay_here() -> Reply:
    return Reply([bash(f"sleep {MARK}")])


def stay_native() -> Reply:
    return Reply([ToolUse("workbench_execute", {"command": f"sleep {MARK}"})])


def stay_there() -> Reply:
    """The code runs as long as the answer does not come to its end."""
    return Reply([CodeExecution("sleep 600"), Text("x" * 9_000)], delay_s=0.2)


HERE = bash("printf WORDS > out.txt")
NATIVE = ToolUse("workbench_execute", {"command": "printf WORDS > out.txt"})
THERE = CodeExecution("printf WORDS > $OUTPUT_DIR/out.txt", files={"out.txt": b"WORDS"})
CLOUD = "anthropic"
HYBRID = ["local", ("native", {"classes": [AsyncWorkbench]}), CLOUD]
KINDS = [
    Kind("local", [], [HERE], stay_here),
    Kind("local+landlock", [], [HERE], stay_here, {"options": {"sandbox": "landlock"}}),
    Kind("docker", [], [HERE], stay_here, {"options": {"image": SLIM_IMAGE, "pool": 0}}),
    Kind("native", [AsyncWorkbench], [NATIVE], stay_native),
    Kind("native+process", [Workbench], [NATIVE], stay_native, {"isolation": "process"}),
    Kind(CLOUD, ["anthropic:xlsx"], [THERE], stay_there, hosted=True),
    Kind("hybrid", HYBRID, [THERE, NATIVE, HERE], stay_here, hosted=True),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    demand(kind.name)
    return kind


@dataclass
class Bench:
    """An open conversation, the model that it asks, and the API behind."""

    session: Session
    model: AnthropicModel
    api: FakeMessagesApi

    async def ask(self, *replies: Any, **options: Any) -> Any:
        self.api.enqueue(*replies)
        response, same = await self.session.chat("go", self.model, **options)
        assert same is self.session
        return response


@asynccontextmanager
async def opened(kind: Kind, folder: Path, **options: Any) -> AsyncIterator[Bench]:
    async with open_fake_api([]) as api, HostedClient(lambda: "any key", base_url=api.base_url) as client:
        model = AnthropicModel(lambda: "any key", base_url=api.base_url)
        cloud = {"client": client, "uploads": folder / "uploads.json"}
        skills = [(CLOUD, cloud) if each == CLOUD else each for each in kind.skills]
        more = cloud if kind.backend == CLOUD else {}
        try:
            async with start_session(
                kind.backend, skills, model_name="claude-opus-4-5", **more, **kind.options, **options
            ) as session:
                yield Bench(session, model, api)
        finally:
            await model.aclose()


def test_a_turn_works_tells_its_files_and_sums_what_it_used(kind: Kind, tmp_path: Path) -> None:
    told: list[SessionFile] = []

    async def main() -> None:
        async with opened(kind, tmp_path, on_file_created=told.append) as bench:
            assert bench.session.execution_mode == kind.backend
            replies = kind.replies("done")
            response = await bench.ask(*replies)
            assert (response.text.split(), response.stop_reason) == (["done"], "end_turn")
            assert (response.iterations, response.usage.output_tokens) == (len(replies), 5 * len(replies))
            assert "out.txt" in {file.name for file in told}
            for file in bench.session.created_files:
                assert await bench.session.read_file(file.name, file.source) == b"WORDS"
            assert (bench.session.container_id is not None) == kind.hosted
            response = await bench.ask(Reply([Text("again")]))
            assert response.text == "again"

    run(main)


def test_a_cancelled_turn_leaves_nothing_running_and_a_history_that_goes_on(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(kind, tmp_path) as bench:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bench.ask, kind.stay())
                while not bench.api.bodies or not (kind.backend == CLOUD or alive(MARK)):  # noqa: ASYNC110
                    await trio.sleep(0.01)  # it begins in another process
                nursery.cancel_scope.cancel()
            assert not alive(MARK)
            assert (await bench.ask(*kind.replies("done"))).text.split() == ["done"]

    run(main)


def test_a_failure_keeps_what_was_done_and_its_code(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(kind, tmp_path) as bench:
            before = kind.replies("never")[: 0 if kind.backend == CLOUD else 1]
            with pytest.raises(SkillError) as failed:
                await bench.ask(*before, HttpError(400, message="no"))
            assert (failed.value.code, failed.value.details["status"]) == ("anthropic_api_error", 400)
            assert failed.value.session is bench.session
            assert len(bench.session.messages) == 1 + 2 * len(before)
            assert (await bench.ask(Reply([Text("on")]))).text == "on"

    run(main)


def test_pauses_are_gone_through_up_to_a_bound(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        call: Part = ServerToolUse("web_search", {"query": "tides"}, "srvtoolu_1")
        found: Part = Whole({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []})
        if kind.hosted:
            call, found = CodeExecution("x", half="call"), CodeExecution(half="result")
        paused = Reply([Text("first "), call], stop_reason="pause_turn", usage=USAGE)
        attempts: list[int] = []
        async with opened(kind, tmp_path, on_pause=lambda _response, attempt: attempts.append(attempt)) as bench:
            response = await bench.ask(paused, Reply([found, Text("then")], usage=USAGE), max_pauses=1)
            assert (response.text.split(), response.usage, attempts) == (["first", "then"], USAGE + USAGE, [1])
            with pytest.raises(SkillError) as failed:
                await bench.ask(paused, max_pauses=0)
            assert failed.value.code == "pause_turn_max_exceeded"
            assert (await bench.ask(Reply([Text("later")]))).text == "later"

    run(main)


def test_cleaning_up_may_be_done_twice_and_is_the_end(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(kind, tmp_path) as bench:
            await bench.ask(*kind.replies("done"))
            await bench.session.cleanup()
            await bench.session.cleanup()
            with pytest.raises(SkillError) as refused:
                await bench.ask(Reply([Text("no")]))
            assert refused.value.code == "session_closed"

    run(main)
