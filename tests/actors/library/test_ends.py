"""How a conversation of a program ends: closed, left by an error or a cancel, or with the program itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from loop_kit import MemoryExecutor, Script, call, says, uses
from skill_actors.library import SkillError, new_local
from skill_actors.library.history import check_history
from skill_actors.models.base import Message
from support import run


def test_cleanup_may_be_called_twice_and_is_the_end() -> None:
    executor = MemoryExecutor()

    async def main() -> None:
        async with new_local(executor=executor) as session:
            await session.cleanup()
            await session.cleanup()
            with pytest.raises(SkillError) as closed:
                await session.chat("hi", Script(says("x")))
            assert closed.value.code == "session_closed"
            assert await session.delete_remote() == []

    run(main)


@pytest.mark.parametrize("by", ["on_tool_call", "on_tool_result", "on_response", "model", "another task"])
def test_a_turn_of_a_conversation_that_is_closed_asks_no_model_any_more(by: str) -> None:
    command = "sleep 1000" if by == "another task" else "true"

    async def main() -> None:
        asked, begun = 0, trio.Event()

        async def ask(messages: Sequence[Message]) -> object:
            nonlocal asked
            asked += 1
            begun.set()
            if by == "model":
                await session.cleanup()
            return uses(call(f"toolu_{asked}", "bash_tool", command=command, description="d"))

        async def close(*_: object) -> None:
            await session.cleanup()

        async def close_soon() -> None:
            await begun.wait()
            with pytest.raises(SkillError, match="in the middle"):
                await session.chat("too", ask)
            await session.cleanup()

        async with new_local() as session, trio.open_nursery() as nursery:
            if by == "another task":
                nursery.start_soon(close_soon)
            with pytest.raises(SkillError) as closed:
                await session.chat("hi", ask, **({by: close} if by.startswith("on_") else {}))
            assert (closed.value.code, closed.value.session) == ("session_closed", session)
            assert asked == 1
            assert check_history(session.messages) == session.messages

    run(main)


def test_leaving_the_block_by_a_cancel_closes_the_workspace() -> None:
    executor = MemoryExecutor()

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with new_local(executor=executor):
                scope.cancel()
                await trio.sleep_forever()

    run(main)
    assert executor.closed


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("by", ["block", "model", "plain model", "callback"])
def test_what_ends_the_program_comes_out_as_it_is(kind: type[BaseException], by: str) -> None:
    def end(*_: object) -> object:
        raise kind(3)

    async def end_async(*_: object) -> object:
        raise kind(3)

    async def main() -> None:
        async with new_local(executor=MemoryExecutor()) as session:
            if by == "callback":
                await session.chat("hi", Script(says("x")), on_response=end)
            elif by != "block":
                await session.chat("hi", end_async if by == "model" else end)
            end()

    with pytest.raises(kind) as raised:
        trio.run(main)
    assert raised.value.args == (3,)


def test_an_error_of_the_block_keeps_what_it_came_of() -> None:
    async def main() -> None:
        async with new_local(executor=MemoryExecutor()):
            try:
                [][0]
            except IndexError:
                raise LookupError("mine")  # noqa: B904 - the context is what is tested

    with pytest.raises(LookupError, match="mine") as raised:
        run(main)
    assert isinstance(raised.value.__context__, IndexError)
