"""What every agent's session keeps of its turns: their results, what they cost, and that there is one at a time.

For whoever writes an agent backend: its session is a subclass that performs turns and ends them, and has what
`AgentSession` asks for besides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

from .base import MAX_HISTORY, QUIET, AgentError, AgentErrorCode, AgentRequest, AgentResult, Watch

__all__ = ["KeepsTurns"]


class KeepsTurns(ABC):
    """An `AgentSession` but for `totals`, `interrupt` and `stop_session`.

    Args:
        session_id: the backend's id of it, where it is known from the beginning.

    Attributes:
        session_id: taken from each result and each error that has one; a subclass may know it earlier.
        stopped: for the subclass to set; no message is taken then.
        in_turn: a message is at work.

    """

    def __init__(self, session_id: str | None = None) -> None:
        self.session_id = session_id
        self.stopped = False
        self.in_turn = False
        self._results: deque[AgentResult] = deque(maxlen=MAX_HISTORY)
        self._count = 0
        self._cost_usd: float | None = 0.0

    @property
    def history(self) -> Sequence[AgentResult]:
        return tuple(self._results)

    @property
    def last_result(self) -> AgentResult | None:
        return self._results[-1] if self._results else None

    @property
    def total_cost(self) -> float | None:
        """Of all turns, in USD, those that failed too; None as soon as one is unknown."""
        return self._cost_usd

    @property
    def turn_count(self) -> int:
        return self._count

    async def send_message(self, request: AgentRequest, watch: Watch = QUIET) -> AgentResult:
        """See `AgentSession`. A message that is not taken costs nothing."""
        if self.stopped:
            raise self._refusal("closed", "the session was stopped")
        if self.in_turn:
            raise self._refusal("turn_in_flight", "a turn of this session runs already")
        self.in_turn = True
        try:
            result = await self._turn_of(request, watch)
        except AgentError as error:
            self._account(error)
            raise
        finally:
            self.in_turn = False
        self._account(result)
        self._results.append(result)
        self._count += 1
        return result

    @abstractmethod
    async def _turn_of(self, request: AgentRequest, watch: Watch) -> AgentResult:
        """Perform the turn. Raises AgentError, whose `cost_usd` is counted as that of a result."""

    def _account(self, ended: AgentResult | AgentError) -> None:
        self.session_id = ended.session_id or self.session_id
        if self._cost_usd is not None:
            self._cost_usd = None if ended.cost_usd is None else self._cost_usd + ended.cost_usd

    def _refusal(self, code: AgentErrorCode, words: str) -> AgentError:
        """Of a turn that has not begun."""
        return AgentError(code, words, session_id=self.session_id, cost_usd=0.0)
