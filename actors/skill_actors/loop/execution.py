"""One tool call, run: whatever happens to it, there is a result that the model can be given.

Only cancelling it raises. A call that is not permitted, input that makes no sense, a command that fails, an executor
that raises, hangs or answers with what no API takes: each is a result with the call's own id.
"""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio

from skill_actors.backends import BackendUnavailable, ToolCall, ToolContext, ToolResult
from skill_actors.backends.output import clean
from skill_actors.loop.context import ExecutionContext
from skill_actors.models.base import Block
from skill_actors.sessions.shown_images import image_block

__all__ = [
    "PARALLEL_CALLS",
    "PATIENCE_S",
    "Watchers",
    "around_call",
    "execute",
    "result_block",
    "run_calls",
    "sendable",
]

PARALLEL_CALLS: Final = 8
PATIENCE_S: Final = 15.0  # beyond a call's timeout, for the executor to kill what the call started

_log = logging.getLogger(__name__)


async def execute(call: ToolCall, context: ExecutionContext) -> ToolResult:
    """Run one call in the context's workspace. Cancelling kills all that it started before Cancelled goes on."""
    decision = context.policy.decide(call)
    if decision.verdict != "allow":
        reason = decision.reason or "This call needs an approval, and nobody can give one here."
        return ToolResult(content=clean(reason), outcome="error")
    began = trio.current_time()
    with trio.move_on_after(context.timeout_s + PATIENCE_S):
        return await _performed(call, context)
    text = f"[timed out: {context.timeout_s:g} s were allowed, and the tool had not ended {PATIENCE_S:g} s later]"
    took_ms = round((trio.current_time() - began) * 1000)
    return ToolResult(content=text, outcome="timeout", duration_ms=took_ms)


def around_call(context: ExecutionContext) -> ToolContext:
    """What each call of the context is given."""
    return ToolContext(
        readable=[Path(folder) for folder in context.folders.values()],
        timeout_s=context.timeout_s,
        max_output_chars=context.max_output_chars,
        environment=context.environment,
    )


async def _performed(call: ToolCall, context: ExecutionContext) -> ToolResult:
    try:
        return sendable(await context.workspace.execute(call, around_call(context)), context.max_output_chars)
    except BackendUnavailable as error:
        return ToolResult(content=f"The backend cannot run this: {error}", outcome="error")
    except Exception:
        _log.exception("tool call %s (%s) raised", call.id, call.name)
        return ToolResult(content="An internal error ended this call.", outcome="error")


def sendable(result: object, max_chars: int) -> ToolResult:
    """The result with text that an API takes, and no more of it than agreed. Raises TypeError if it is none."""
    if not isinstance(result, ToolResult):
        raise TypeError(f"an executor answers with a ToolResult, not with {type(result).__name__}")
    if not isinstance(result.content, str):
        raise TypeError(f"the content of a result is text, not {type(result.content).__name__}")
    text = clean(result.content)
    if len(text) > max_chars:
        note = f"\n[cut: {len(text)} characters]"[:max_chars]
        text = text[: max_chars - len(note)] + note
    return result if text == result.content else replace(result, content=text)


class Watchers:
    """The caller's functions around each call. What one of them raises is kept, and the call still has its result.

    Args:
        on_tool_call: awaited before a call runs; if it raises, the call does not run.
        on_tool_result: awaited with the call and its result.

    """

    def __init__(
        self,
        on_tool_call: Callable[[ToolCall], Awaitable[object]] | None = None,
        on_tool_result: Callable[[ToolCall, ToolResult], Awaitable[object]] | None = None,
    ) -> None:
        self._on_tool_call = on_tool_call
        self._on_tool_result = on_tool_result
        self.failure: Exception | None = None  # the first

    async def admits(self, call: ToolCall) -> bool:
        """Whether the call may run."""
        if self._on_tool_call is None:
            return True
        try:
            await self._on_tool_call(call)
        except Exception as error:
            self._keep(error)
            return False
        return True

    async def tell(self, call: ToolCall, result: ToolResult) -> None:
        """The call has ended."""
        if self._on_tool_result is None:
            return
        try:
            await self._on_tool_result(call, result)
        except Exception as error:
            self._keep(error)

    def _keep(self, error: Exception) -> None:
        if self.failure is not None:
            _log.error("a further function around tool calls failed", exc_info=error)
            return
        self.failure = error


async def run_calls(
    calls: Sequence[ToolCall],
    context: ExecutionContext,
    results: MutableMapping[str, ToolResult],
    watchers: Watchers,
    *,
    parallel: int = PARALLEL_CALLS,
) -> None:
    """Run the calls, so many at a time, begun in their order, and put each result under the id of its call.

    If this is cancelled, the calls that ran are in `results` as cancelled, and those that had not begun are not.
    """
    slots = trio.Semaphore(parallel)

    async def one(call: ToolCall) -> None:
        try:
            if not await watchers.admits(call):
                results[call.id] = ToolResult(content="Not run: the program around this refused it.", outcome="error")
                return
            results[call.id] = ToolResult(content="Cancelled while it ran.", outcome="cancelled")
            results[call.id] = result = await execute(call, context)
            await watchers.tell(call, result)
        finally:
            slots.release()

    async with trio.open_nursery(strict_exception_groups=True) as nursery:
        for call in calls:
            await slots.acquire()
            nursery.start_soon(one, call)


def result_block(call_id: str, result: ToolResult) -> Block:
    """The `tool_result` for the next user message."""
    text = result.content or "(no output)"
    shown = [image_block(each.media_type, b64encode(each.data).decode()) for each in result.images]
    content = [{"type": "text", "text": text}, *shown] if shown else text
    block: Block = {"type": "tool_result", "tool_use_id": call_id, "content": content}
    if result.is_error:
        block["is_error"] = True
    return block
