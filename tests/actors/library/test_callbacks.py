"""What a program is told: in order, plain or async, and never at the cost of the turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio

from loop_kit import Script, call, says, uses
from skill_actors.backends import ToolCall, ToolResult
from skill_actors.library import SessionFile, new_local
from skill_actors.loop import Response
from skill_actors.telemetry import Bus
from support import run


def bash(id: str, command: str) -> ToolCall:
    return call(id, "bash_tool", command=command, description="d")


def test_each_is_told_in_its_turn_whether_plain_or_async() -> None:
    told: list[tuple[str, str]] = []

    async def on_tool_call(call: ToolCall) -> None:
        await trio.lowlevel.checkpoint()
        told.append(("call", call.id))

    def on_tool_result(call: ToolCall, result: ToolResult) -> None:
        told.append(("result", f"{call.id} {result.outcome}"))

    def on_response(response: Response) -> None:
        told.append(("response", response.stop_reason))

    def on_file(what: str) -> Any:
        def tell(file: SessionFile) -> None:
            told.append((what, file.name))

        return tell

    async def main() -> None:
        model = Script(
            uses(bash("toolu_1", "echo 1 > a; echo 1 > b")), uses(bash("toolu_2", "echo 22 > a; rm b")), says("done")
        )
        async with new_local(
            on_tool_call=on_tool_call,
            on_tool_result=on_tool_result,
            on_response=on_response,
            on_file_created=on_file("created"),
            on_file_modified=on_file("modified"),
            on_file_deleted=on_file("deleted"),
        ) as session:
            await session.chat("go", model)
            assert [file.name for file in session.created_files] == ["a"]

    run(main)
    assert told == [
        *(("response", "tool_use"), ("call", "toolu_1"), ("created", "a"), ("created", "b"), ("result", "toolu_1 ok")),
        *(("response", "tool_use"), ("call", "toolu_2"), ("deleted", "b"), ("modified", "a"), ("result", "toolu_2 ok")),
        ("response", "end_turn"),
    ]


def test_one_that_raises_is_counted_and_logged_and_the_turn_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_told: object) -> None:
        raise RuntimeError("the program's own fault")

    async def fail_later(*_told: object) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("the program's own fault")

    async def main() -> None:
        model = Script(uses(bash("toolu_1", "echo ran > a")), says("done"))
        async with new_local(
            on_tool_call=fail, on_tool_result=fail_later, on_response=fail, on_file_created=fail
        ) as session:
            response, _ = await session.chat("go", model)
            assert response.text == "done"
            assert await session.read_file("a") == b"ran\n"
            assert session.callback_failures == {
                "on_tool_call": 1,
                "on_tool_result": 1,
                "on_response": 2,
                "on_file_created": 1,
            }

    run(main)
    assert len(caplog.records) == 5


def test_one_turn_may_have_callbacks_of_its_own() -> None:
    told: list[str] = []

    async def main() -> None:
        async with new_local(on_response=lambda _response: told.append("session")) as session:
            await session.chat("a", Script(says("x")), on_response=lambda _response: told.append("turn"))
            await session.chat("b", Script(says("x")))

    run(main)
    assert told == ["turn", "session"]


def test_a_bus_gets_calls_and_iterations_under_the_names_of_the_daemon() -> None:
    told: list[tuple[str, Mapping[str, object]]] = []
    bus = Bus()
    bus.attach("test", ["*"], lambda name, _measured, about: told.append((name, about)))

    async def main() -> None:
        async with new_local(bus=bus, session_id="mine") as session:
            await session.chat("go", Script(uses(bash("toolu_1", "exit 1")), says("done")))

    run(main)
    assert [name for name, _ in told] == [
        *("conversation.iteration", "execute.start", "execute.stop", "conversation.tool_call"),
        *("backend.local.tool_call", "conversation.iteration"),
    ]
    assert all(about["session"] == "mine" for _, about in told)
    assert told[2][1]["outcome"] == "error"
    assert told[3][1]["success"] is False
    assert {about["call"] for name, about in told if name != "conversation.iteration"} == {"toolu_1"}


def test_a_bus_is_told_the_end_of_a_call_that_was_cancelled() -> None:
    told: list[tuple[str, object]] = []

    async def main() -> None:
        started, bus = trio.Event(), Bus()

        def note(name: str, _measured: object, about: Mapping[str, object]) -> None:
            told.append((name, about.get("outcome")))
            started.set()

        bus.attach("test", ["execute.*"], note)
        async with new_local(bus=bus) as session, trio.open_nursery() as nursery:
            nursery.start_soon(session.chat, "go", Script(uses(bash("toolu_1", "sleep 60"))))
            await started.wait()
            nursery.cancel_scope.cancel()

    run(main)
    assert told == [("execute.start", None), ("execute.stop", "cancelled")]


def test_a_callback_that_never_ends_is_ended_by_a_cancel_and_the_file_is_known() -> None:
    async def main() -> None:
        reached = trio.Event()

        async def hang(file: SessionFile) -> None:
            reached.set()
            await trio.sleep_forever()

        async with new_local(on_file_created=hang) as session:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.chat, "go", Script(uses(bash("toolu_1", "touch a")), says("never")))
                await reached.wait()
                nursery.cancel_scope.cancel()
            assert [file.name for file in session.created_files] == ["a"]
            assert session.messages[-1]["content"][0]["type"] == "tool_result"

    run(main)
