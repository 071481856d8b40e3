"""The scripted model: the same answers without HTTP, on a virtual clock."""

from __future__ import annotations

import pytest
import trio

from skill_actors import testing
from skill_actors.models import BlockDelta, MessageDone, ModelError, ModelEvent, ModelRequest
from skill_actors.testing import (
    Answer,
    Cut,
    Garbage,
    HangUp,
    HttpError,
    Reply,
    ScriptedModel,
    Stall,
    StreamError,
    Text,
    Thinking,
    ToolUse,
)
from support import run_virtual

REQUEST = ModelRequest(model="m", messages=[{"role": "user", "content": "hello"}])


async def collect(model: ScriptedModel, request: ModelRequest = REQUEST) -> list[ModelEvent]:
    async with model.stream(request) as events:
        return [event async for event in events]


def test_answers_come_in_order_then_from_the_function() -> None:
    async def main() -> None:
        model = ScriptedModel(
            [Reply([Thinking("hm"), Text("first")])], respond=lambda body: Reply([Text(body["model"])])
        )
        model.enqueue(Reply([ToolUse("t", {"a": [1]})]))
        texts = []
        for _ in range(3):
            done = (await collect(model))[-1]
            assert isinstance(done, MessageDone)
            texts.append((done.stop_reason, done.content[-1].get("text") or done.content[-1]["input"]))
        assert texts == [("end_turn", "first"), ("tool_use", {"a": [1]}), ("end_turn", "m")]
        assert model.requests == [REQUEST] * 3

    run_virtual(main)


def test_a_test_holds_a_delta_until_it_lets_go() -> None:
    async def main() -> None:
        go = trio.Event()
        model = ScriptedModel([Reply([Text("one two")], chunk_chars=4, holds={1: go})])
        seen: list[str] = []

        async def read() -> None:
            async with model.stream(REQUEST) as events:
                async for event in events:
                    if isinstance(event, BlockDelta):
                        seen.append(event.text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(3600)
            assert (seen, model.running) == (["one "], 1)
            go.set()
        assert (seen, model.running) == (["one ", "two"], 0)

    run_virtual(main)


def test_delays_are_virtual_time() -> None:
    async def main() -> None:
        started_s = trio.current_time()
        await collect(ScriptedModel([Reply([Text("abcd")], chunk_chars=1, delay_s=10, first_delay_s=5)]))
        assert trio.current_time() - started_s == pytest.approx(45)

    run_virtual(main)


@pytest.mark.parametrize(
    ("answer", "code", "status"),
    [
        (HttpError(429, retry_after_s=2), "rate_limited", 429),
        (HangUp(), "connection", None),
        (Reply([Text("x")], fail=StreamError(type="api_error")), "server", 200),
        (Reply([Text("x")], fail=Stall()), "timeout", None),
        (Reply([Text("x")], fail=Cut(after=9)), "connection", None),
        (Reply([Text("x")], fail=Garbage()), "protocol", None),
    ],
)
def test_failures_are_those_of_the_real_client(answer: Answer, code: str, status: int | None) -> None:
    async def main() -> None:
        with pytest.raises(ModelError) as caught:
            await collect(ScriptedModel([answer]))
        assert (caught.value.code, caught.value.status) == (code, status)

    run_virtual(main)


def test_a_history_that_the_api_would_refuse_is_refused() -> None:
    async def main() -> None:
        call = {"type": "tool_use", "id": "toolu_1", "name": "t", "input": {}}
        messages = [*REQUEST.messages, {"role": "assistant", "content": [call]}, {"role": "user", "content": "go on"}]
        with pytest.raises(ModelError, match="toolu_1"):
            await collect(ScriptedModel([Reply()]), ModelRequest(model="m", messages=messages))

    run_virtual(main)


def test_a_script_that_ends_too_soon_says_so() -> None:
    async def main() -> None:
        with pytest.raises(LookupError, match="no answer to request 1"):
            await collect(ScriptedModel())

    run_virtual(main)


def test_the_public_names_are_sorted_and_exist() -> None:
    assert testing.__all__ == sorted(testing.__all__)
    assert all(hasattr(testing, name) for name in testing.__all__)
