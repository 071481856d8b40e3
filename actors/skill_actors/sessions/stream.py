"""One model call, shown as it comes: deltas into the log, the finished message out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from skill_actors.models.base import (
    Block,
    BlockDelta,
    BlockDone,
    MessageDone,
    Model,
    ModelError,
    ModelRequest,
    Usage,
    UsageSoFar,
)
from skill_actors.models.retry import CIRCUIT_OPEN, backoff, patience
from skill_actors.sessions.budget_warnings import tell_warnings
from skill_actors.sessions.hosted import code_executions
from skill_actors.sessions.ledger import Account
from skill_actors.sessions.log import SessionLog
from skill_actors.sessions.surroundings import Surroundings

__all__ = ["ModelCall"]

_RUN_THERE: Final = ("server_tool_use", "mcp_tool_use")


class ModelCall:
    """Calls a model for one turn and keeps what was said if the call does not end well.

    Args:
        account: who pays, asked for each attempt.
        quiet: nothing is shown of what the model says.

    """

    def __init__(
        self,
        log: SessionLog,
        turn: str,
        env: Surroundings,
        account: Callable[[], Account],
        *,
        quiet: bool = False,
    ) -> None:
        self._log = log
        self._turn = turn
        self._env = env
        self._account = account
        self._quiet = quiet
        self._done: list[Block] = []
        self._open: int | None = None  # index of the block whose deltas are being shown
        self._text: list[str] = []
        self._shown = False
        self._acted = False  # the API has been told to run something of its own
        self._counted = Usage()  # of the call under way
        self._lost = Usage()  # of calls that failed

    async def run(self, model: Model, request: ModelRequest) -> MessageDone:
        """Call until it succeeds or must not be tried again.

        A call is only repeated while nothing of it has been shown, since a second beginning would contradict the first,
        and while the API has run nothing for it, since that would be run again.

        Raises:
            ModelError: the last failure.
            BudgetExceeded: a cap leaves no room for it; nothing was sent then.

        """
        attempt, waited_s = 0, 0.0
        while True:
            try:
                return await self._paid(model, request)
            except ModelError as error:
                self._lost, self._counted = self._lost + (error.usage or self._counted), Usage()
                if error.code == CIRCUIT_OPEN:
                    delay_s = patience(waited_s, error, self._env.random)
                    waited_s += delay_s or 0.0
                else:
                    attempt += 1
                    delay_s = None if self._shown or self._acted else backoff(attempt, error, self._env.random)
                self._env.bus.emit(
                    "model.error", {"attempt": attempt}, {"code": error.code, "retried": delay_s is not None}
                )
                if delay_s is None:
                    raise
            await trio.sleep(delay_s)

    async def _paid(self, model: Model, request: ModelRequest) -> MessageDone:
        """One call: the most that it can cost is set aside before, and what it did cost is written down after."""
        ledger = self._env.ledger
        if ledger is None:
            return await self._once(model, request)
        count = partial(model.count_tokens, request)
        hold = await ledger.reserve_call(self._account(), request, provider=model.provider, count_tokens=count)
        began = trio.current_time()
        try:
            answer = await self._once(model, request)
        except BaseException as error:
            with trio.CancelScope(shield=True):
                if isinstance(error, ModelError) and not error.may_be_billed:
                    await ledger.release(hold)
                else:
                    counted = (error.usage if isinstance(error, ModelError) else None) or self._counted
                    passed_s = trio.current_time() - began
                    warnings = await ledger.settle_call(hold, request.model, counted, cut=True, seconds=passed_s)
                    await tell_warnings(self._log, self._turn, warnings)
            raise
        with trio.CancelScope(shield=True):
            passed_s = trio.current_time() - began
            warnings = await ledger.settle_call(hold, answer.model, answer.usage, cut=False, seconds=passed_s)
            await tell_warnings(self._log, self._turn, warnings)
        return answer

    async def _once(self, model: Model, request: ModelRequest) -> MessageDone:
        self._done = []
        answer: MessageDone | None = None
        async with model.stream(request) as events:
            async for event in events:
                match event:
                    case BlockDelta(index, kind, text) if text and not self._quiet:
                        await self._delta(index, kind, text)
                    case BlockDone(index, block):
                        self._done.append(block)
                        self._acted = self._acted or block.get("type") in _RUN_THERE
                        await self._close(index)
                    case UsageSoFar(usage):
                        self._counted = usage
                    case MessageDone():
                        answer, self._counted = event, Usage()
                    case _:
                        pass
        if answer is None:
            raise ModelError("the stream ended without a message", code="protocol", retryable=True)
        return replace(answer, usage=_with_executions(answer))

    async def _delta(self, index: int, kind: str, text: str) -> None:
        if self._open != index:
            await self._log.close_block()
            await self._log.open_block(self._turn, {"block": index, "kind": kind})
            self._open, self._text = index, []
            self._shown = True
        if kind == "text":
            self._text.append(text)
        self._log.delta(text)

    async def _close(self, index: int) -> None:
        if self._open == index:
            self._open, self._text = None, []
            await self._log.close_block()

    @property
    def lost_usage(self) -> Usage:
        """What the server had counted of calls that gave no message: failed ones, and one that was cut."""
        return self._lost + self._counted

    async def rescue(self) -> Sequence[Block]:
        """After a failure or a cancel: close the open block and return what may stay in the history.

        That is text, and calls of the API's own tools that have their results. A cut thinking block has no signature
        and a cut tool call no complete input, so the API would refuse both.
        """
        await self._log.close_block()
        done = {block.get("tool_use_id") for block in self._done}
        kept = [block for block in self._done if _stays(block, done)]
        rest = "".join(self._text)
        return [*kept, {"type": "text", "text": rest}] if rest else kept


def _with_executions(answer: MessageDone) -> Usage:
    """The usage, with the runs of code that the answer shows where the API did not count them: containers are paid."""
    shown = code_executions(answer.content)
    return replace(answer.usage, code_execution_requests=max(shown, answer.usage.code_execution_requests))


def _stays(block: Block, done: Collection[object]) -> bool:
    kind = str(block.get("type"))
    if kind == "server_tool_use":
        return block.get("id") in done
    return kind == "text" or (kind.endswith("_tool_result") and kind != "tool_result")
