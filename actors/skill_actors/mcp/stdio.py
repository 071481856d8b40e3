"""A server that is a program: messages are lines on its standard streams. What it prints besides is counted as garbage.

The program has a launcher between itself and the daemon, as agents' programs have: nothing that it starts outlives it,
and it does not outlive the daemon.
"""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import trio
from mcp import types
from mcp.shared.message import SessionMessage

from skill_actors.backends.agents.base import AgentError
from skill_actors.backends.agents.process import AgentProcess, ProcessLimits, open_process
from skill_actors.backends.output import clean
from skill_actors.mcp.errors import ServerFailed
from skill_actors.mcp.hearing import pass_on
from skill_actors.mcp.place import ServerPlace
from skill_actors.mcp.screen import Screen, Signals

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

__all__ = ["stdio_streams"]

_log = logging.getLogger(__name__)

_SLACK_BYTES: Final = 65_536  # of a message around its result
_UNSENT: Final = 64  # messages that wait for a program that does not read; whoever cancels a call must not wait for it
_END_S: Final = 1.0  # from the end of its output to that of the program
_QUIET_S: Final = 0.5  # for a program to end once its input has
_GRACE_S: Final = 0.5  # from SIGTERM to SIGKILL
_LAST_WORDS: Final = 600  # characters


@asynccontextmanager
async def stdio_streams(
    place: ServerPlace, environment: dict[str, str], signals: Signals
) -> AsyncIterator[tuple[Any, Any]]:
    """Start the program, and give the streams of a session with it. Leaving the block ends it, and all it started.

    Args:
        environment: all of it.
        signals: told when the program has ended, or is not worth listening to.

    Raises:
        ServerFailed: it cannot be started.

    """
    options = place.options
    limits = ProcessLimits(
        memory_bytes=options.memory_bytes, max_line_bytes=options.max_result_bytes + _SLACK_BYTES, stderr_bytes=8 << 10
    )
    try:
        await trio.to_thread.run_sync(place.make)
        opened = open_process(place.argv(), cwd=place.root, env=environment, limits=limits, nest=place.nest)
        async with opened as process:
            to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
            outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](_UNSENT)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read, process, to_session, signals)
                nursery.start_soon(_write, process, from_session, signals)
                nursery.start_soon(_watch, process, signals)
                try:
                    yield incoming, outgoing
                finally:
                    if trio.current_effective_deadline() > -math.inf:  # else nobody may wait, and it is killed
                        await _end(process)
                    nursery.cancel_scope.cancel()
    except AgentError as error:
        raise ServerFailed(str(error)) from error
    except OSError as error:
        raise ServerFailed(f"its folder {place.root} cannot be made: {error.strerror}") from error


async def _read(
    process: AgentProcess, session: MemoryObjectSendStream[SessionMessage | Exception], signals: Signals
) -> None:
    """Give the session what it is to hear: answers, and requests, which it declines."""
    screen = Screen()
    async with session:
        try:
            while (line := await process.next_line()) is not None:
                message = _message(line, screen)
                if message is None:
                    continue
                if not await pass_on(message, session, signals):
                    return
        except (AgentError, ServerFailed) as error:
            signals.end(str(error))
        await _grace(signals)
        signals.end("it has closed its output")


async def _grace(signals: Signals) -> None:
    """Let the program's end be seen first: whoever waits for an answer is to hear why it ended."""
    with trio.move_on_after(_END_S):
        await signals.ended.wait()


def _message(line: bytes, screen: Screen) -> SessionMessage | None:
    if not line.strip():
        screen.count()
        return None
    try:
        message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        screen.count_garbage()
        return None
    screen.count()
    return SessionMessage(message)


async def _write(process: AgentProcess, session: MemoryObjectReceiveStream[SessionMessage], signals: Signals) -> None:
    async with session:
        try:
            async for message in session:
                line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                await process.send(line.encode() + b"\n")
        except AgentError as error:
            await _grace(signals)
            signals.end(str(error))


async def _watch(process: AgentProcess, signals: Signals) -> None:
    """Tell of its end, with what it said last."""
    code = await process.wait()
    told = f"it ended by signal {-code}" if code < 0 else f"it ended with {code}"
    words = clean(process.stderr_tail).strip()[-_LAST_WORDS:]
    why = process.limited or told
    signals.end(f"{why}; its last words: {words}" if words else f"{why}, and said nothing")


async def _end(process: AgentProcess) -> None:
    """Let it end by itself; whoever has opened it kills what is left."""
    with trio.move_on_after(_QUIET_S):
        await process.close_stdin()
        await process.wait()
        return
    await process.signal(signal.SIGTERM)
    with trio.move_on_after(_GRACE_S):
        await process.wait()
