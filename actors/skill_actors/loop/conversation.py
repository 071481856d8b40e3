"""The loop: ask the model, run the tools that it calls, give it the results, until it has finished.

The turn engine decides (`sessions.engine`), with the same rules as a conversation of the daemon; this acts. Rules:

- the messages are acceptable to the API at every moment that somebody else can see them: the answer of a model and
  the results of its calls are added together, one result for each call, also after an error, a timeout or a cancel;
- nothing is lost by a failure: what was said and done so far is in the result, and a further loop can go on from it;
- every bound ends it: model calls, pauses, the time of one call and of the whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import trio

from skill_actors.backends import ToolCall, ToolResult
from skill_actors.backends.anthropic.results import pending_calls, without_pending
from skill_actors.loop.callers import CallModel as Caller
from skill_actors.loop.context import ExecutionContext
from skill_actors.loop.execution import Watchers, result_block, run_calls
from skill_actors.loop.responses import Response, ResponseError, not_run, parse_response
from skill_actors.models.base import Block, Message, MessageDone, ModelError, Usage
from skill_actors.models.request import sendable_messages
from skill_actors.sessions.engine import CallModel, Ending, RunTools, Step, TurnEngine, TurnLimits
from skill_actors.sessions.server_calls import without_lost_calls

__all__ = ["Loop", "LoopResult", "run_loop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """How a loop ended, and everything up to there.

    Args:
        outcome: `finished` if the model came to an end by itself, also by max_tokens or a refusal: see `stop_reason`.
        text: its answer: what it said since the last tool result.
        stop_reason: the API's, or the code of `error`.
        messages: the conversation, ready for the next user message.
        response: the last answer of the model, whole; None if there was none.
        usage: of all answers together.
        iterations: model calls.
        error: `code` and `message`, if it failed.
        cause: the exception behind the error, if there was one.

    """

    outcome: Literal["finished", "failed"]
    text: str
    stop_reason: str
    messages: Sequence[Message]
    response: Response | None
    usage: Usage
    iterations: int
    error: Mapping[str, str] | None = None
    cause: Exception | None = None


async def run_loop(
    messages: Sequence[Message],
    call_model: Caller,
    context: ExecutionContext,
    *,
    max_iterations: int = 25,
    max_pauses: int = 10,
    timeout_s: float = 1_800.0,
    on_tool_call: Callable[[ToolCall], Awaitable[object]] | None = None,
    on_tool_result: Callable[[ToolCall, ToolResult], Awaitable[object]] | None = None,
) -> LoopResult:
    """Ask the model and run its tools until it ends, fails or exceeds a bound. See `Loop` for the arguments.

    If the task is cancelled, what the loop had come to is lost with it; a `Loop` of your own keeps it.
    """
    loop = Loop(
        messages,
        context,
        max_iterations=max_iterations,
        max_pauses=max_pauses,
        timeout_s=timeout_s,
        on_tool_call=on_tool_call,
        on_tool_result=on_tool_result,
    )
    return await loop.run(call_model)


class Loop:
    """One turn of a conversation. Its messages can be read at any time, also after it was cancelled.

    Args:
        messages: up to and with the user's; they are not changed.
        context: where calls run.
        max_iterations: model calls; the calls of the last answer within it are not run any more.
        max_pauses: answers in a row that only pause (`pause_turn`).
        timeout_s: of the whole.
        on_tool_call: awaited before each call, several at a time; if it raises, the call does not run, and the loop
            ends when the calls beside it have.
        on_tool_result: awaited after each call with its result; if it raises, the loop ends likewise.
        attach: further blocks for the message with the results of calls, asked for when they are there.

    Raises:
        ValueError: there is no message, or a bound is out of range.

    """

    def __init__(
        self,
        messages: Sequence[Message],
        context: ExecutionContext,
        *,
        max_iterations: int = 25,
        max_pauses: int = 10,
        timeout_s: float = 1_800.0,
        on_tool_call: Callable[[ToolCall], Awaitable[object]] | None = None,
        on_tool_result: Callable[[ToolCall, ToolResult], Awaitable[object]] | None = None,
        attach: Callable[[], Sequence[Block]] = lambda: (),
    ) -> None:
        if max_iterations < 1 or max_pauses < 0 or not timeout_s > 0:
            raise ValueError(
                "max_iterations must be at least 1, max_pauses at least 0 and timeout_s more than 0, got "
                f"{max_iterations!r}, {max_pauses!r} and {timeout_s!r}"
            )
        # A turn that ended in a pause may have left calls of the API's own tools: over, since the user has spoken.
        self._messages = sendable_messages(without_lost_calls(sendable_messages(messages)))
        if not self._messages:
            raise ValueError("there is no message with content to begin with")
        self._context = context
        self._timeout_s = timeout_s
        self._engine = TurnEngine(TurnLimits(iterations=max_iterations, pauses=max_pauses))
        self._watchers = Watchers(on_tool_call, on_tool_result)
        self._attach = attach
        self._ids = set(_call_ids(self._messages))
        self._response: Response | None = None
        self._waiting: Sequence[Block] = ()  # an answer whose calls have no result yet
        self._usage = Usage()
        self._cause: Exception | None = None

    @property
    def messages(self) -> Sequence[Message]:
        """The conversation so far. The list is the caller's; its messages are not to be changed."""
        return list(self._messages)

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return self._usage

    async def run(self, call_model: Caller) -> LoopResult:
        """Run it, once. Cancelling kills what runs, and leaves `messages` acceptable.

        Raises:
            IllegalEvent: it has run before.

        """
        step = self._engine.begin()
        ending: Ending | None = None
        try:
            with trio.move_on_after(self._timeout_s):
                while not isinstance(step.do, Ending):
                    step = await self._do(step.do, call_model)
                ending = step.do
        finally:
            self._settle()
        if ending is None:
            ending = self._abort("turn_timeout", f"the loop took longer than {self._timeout_s:g} s")
        return self._result(ending)

    async def _do(self, what: CallModel | RunTools, call_model: Caller) -> Step:
        match what:
            case CallModel():
                return await self._ask(call_model)
            case RunTools(calls):
                return await self._run_tools(calls)

    async def _ask(self, call_model: Caller) -> Step:
        try:
            answer = await call_model(self.messages)
            response = self._parsed(answer)
        except ResponseError as error:
            return self._failed(error.code, error)
        except ModelError as error:
            self._usage += error.usage or Usage()
            return self._failed(f"model_{error.code}", error)
        except Exception as error:
            return self._failed("model_call_failed", error)
        self._response = response
        self._usage += response.message.usage
        self._ids.update(call.id for call in response.tool_calls)
        step = self._engine.model_answered(response.message)
        if isinstance(step.do, RunTools):
            self._waiting = response.message.content
        else:
            self._say("assistant", response.message.content)
            self._say("user", not_run(step.unrun))
        return step

    def _parsed(self, answer: object) -> Response:
        if isinstance(answer, MessageDone):  # of a model_caller
            body: dict[str, Any] = {"stop_reason": answer.stop_reason, "content": list(answer.content)}
            checked = parse_response(body, used_ids=self._ids)
            return replace(checked, message=replace(answer, content=checked.message.content), id=answer.id)
        return parse_response(answer, used_ids=self._ids)

    async def _run_tools(self, calls: Sequence[ToolCall]) -> Step:
        results: dict[str, ToolResult] = {}
        try:
            await run_calls(calls, self._context, results, self._watchers)
        finally:  # also when it is cancelled: no await here
            never = ToolResult(content="Not run: the turn was cancelled before.", outcome="cancelled")
            blocks = [result_block(call.id, results.get(call.id, never)) for call in calls]
            self._say("assistant", self._waiting)
            self._say("user", [*blocks, *self._attach()])
        if self._watchers.failure is not None:
            self._cause = self._watchers.failure
            return Step(do=self._abort("callback_failed", f"a function around tool calls raised {self._cause!r}"))
        return self._engine.tools_finished({id: result.content for id, result in results.items()})

    def _failed(self, code: str, error: Exception) -> Step:
        self._cause = error
        return self._engine.model_failed(code, str(error) or type(error).__name__)

    def _abort(self, code: str, why: str) -> Ending:
        return self._engine.abort("turn.failed", code, why)

    def _say(self, role: str, blocks: Sequence[Block]) -> None:
        """Add to the end, joined with the last message if that has the same role."""
        last = self._messages[-1:] if self._messages[-1]["role"] == role else []
        joined = sendable_messages([*last, {"role": role, "content": list(blocks)}])
        self._messages[len(self._messages) - len(last) :] = joined

    def _settle(self) -> None:
        """The last answer without calls of the provider's own that a pause left open: nobody will finish them now."""
        last = self._messages[-1]
        if last["role"] == "assistant" and pending_calls(last["content"]):
            rest = without_pending(last["content"])
            self._messages[-1:] = [{**last, "content": rest}] if rest else []

    def _result(self, ending: Ending) -> LoopResult:
        return LoopResult(
            outcome="finished" if ending.error is None else "failed",
            text=ending.text,
            stop_reason=ending.stop_reason,
            messages=self.messages,
            response=self._response,
            usage=self._usage,
            iterations=self._engine.iterations,
            error=ending.error,
            cause=self._cause,
        )


def _call_ids(messages: Sequence[Message]) -> list[str]:
    return [str(block["id"]) for message in messages for block in message["content"] if block.get("type") == "tool_use"]
