"""What one turn's messages add up to, as lines of `codex exec --json` or as notifications of its server. Pure.

Each message gives the events to be told; the reading keeps what the end of the turn needs. An error on the way is no
end: only `turn.failed`, a turn that is told as failed, and the program's own end are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from skill_actors.backends.agents.base import (
    AgentEvent,
    Denial,
    Notice,
    Raw,
    Retrying,
    SessionKnown,
    Spent,
    TextDelta,
    ToolBegan,
    ToolEnded,
)
from skill_actors.backends.agents.codex.items import Item, began, ended, spelled, text_of
from skill_actors.backends.agents.codex.usage import Meter, Totals

__all__ = ["Reading", "parse"]

# Notifications of the server that nobody needs: states of its own, and what other messages tell as well.
_SILENT: Final = frozenset(
    {
        *("remoteControl/status/changed", "serverRequest/resolved"),
        *("thread/goal/cleared", "thread/started", "thread/status/changed", "turn/started"),
        *("item/reasoning/summaryPartAdded", "item/reasoning/summaryTextDelta", "item/reasoning/textDelta"),
        *("item/commandExecution/outputDelta", "turn/diff/updated"),
    }
)

_ATTEMPT: Final = re.compile(r"\b(\d+)/\d+")  # "Reconnecting... 2/5"


def parse(line: bytes) -> Mapping[str, Any] | None:
    """The message in a line; None for a line that is none, such as a warning among the messages."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


class Reading:
    """One turn, message by message.

    Args:
        meter: of the turn.
        thread: the id that is known already, so that it is not told again.
        prefix: put before the ids in lines, which begin anew with each run of the program.

    """

    def __init__(self, meter: Meter, thread: str | None = None, *, prefix: str = "") -> None:
        self.meter = meter
        self.thread = thread
        self._prefix = prefix
        self.text = ""  # the last whole message
        self.acted = False
        self.done = False
        self.interrupted = False
        self.failure: Mapping[str, Any] | None = None
        self.problem: str | None = None  # the last error on the way
        self.duration_ms: int | None = None
        self.limited_until_s: float | None = None  # since 1970, while a limit of the account is reached
        self.denials: list[Denial] = []
        self._said: list[str] = []
        self._writing = ""
        self._open: dict[str, ToolBegan] = {}

    @property
    def partial(self) -> str:
        """All that was said so far, finished or not."""
        return "\n\n".join(text for text in (*self._said, self._writing) if text)

    def changes_of(self, id_: str) -> Sequence[Any] | None:
        """The changes of files that an open call wants to make; None if there is no such call."""
        call = self._open.get(id_)
        changes = None if call is None else call.input.get("changes")
        return changes if isinstance(changes, list) else None

    # Lines of `codex exec --json`

    def line(self, message: Mapping[str, Any]) -> Sequence[AgentEvent]:
        """Take one line; the events to be told of it."""
        match message.get("type"):
            case "thread.started":
                return self.known(message.get("thread_id") or message.get("session_id"))
            case "turn.started":
                return ()
            case "item.started":
                return self._began(self._named(_item(message)))
            case "item.updated":
                return (Raw(message),)
            case "item.completed":
                return self._ended(self._named(_item(message)))
            case "turn.completed":
                self.done = True
                return self._spent(message.get("usage"))
            case "turn.failed":
                self.done, self.failure = True, _table(message.get("error"))
                return ()
            case "error":
                self.problem = str(message.get("message") or "")
                return (Notice(self.problem),)
            case _:
                return (Raw(message),)

    def _limits(self, told: Mapping[str, Any]) -> None:
        """Until when the windows of the account's limits last that are used up."""
        windows = [_table(told.get(name)) for name in ("primary", "secondary")]
        ends = [window["resetsAt"] for window in windows if _is_used_up(window)]
        self.limited_until_s = float(max(ends)) if ends else None

    def _named(self, item: Item) -> Item:
        return {**item, "id": f"{self._prefix}{item.get('id') or ''}"}

    # Notifications of the server

    def notification(self, method: str, params: Mapping[str, Any]) -> Sequence[AgentEvent]:
        """Take one notification of a turn's thread; the events to be told of it."""
        match method:
            case "item/agentMessage/delta":
                self._writing += str(params.get("delta") or "")
                return (TextDelta(str(params.get("delta") or "")),)
            case "item/started":
                return self._began(_item(params))
            case "item/completed":
                return self._ended(_item(params))
            case "thread/tokenUsage/updated":
                usage = _table(params.get("tokenUsage"))
                return self._spent(usage.get("total"), usage.get("last"))
            case "model/rerouted":
                self.meter.model = str(params.get("toModel") or "") or self.meter.model
                return (Notice(f"the provider answers with {self.meter.model}"),)
            case "warning" | "deprecationNotice" | "configWarning":
                return (Notice(str(params.get("message") or params.get("summary") or method)),)
            case "account/rateLimits/updated":
                self._limits(_table(params.get("rateLimits")))
                return ()
            case "mcpServer/startupStatus/updated":
                if params.get("status") != "failed":
                    return ()
                return (Notice(f"the server of tools {params.get('name')} cannot be had: {params.get('error')}"),)
            case "error":
                return self._problem(params)
            case "turn/completed":
                return self._completed(_table(params.get("turn")))
            case _:
                return () if method in _SILENT else (Raw({"method": method, "params": dict(params)}),)

    def _problem(self, params: Mapping[str, Any]) -> Sequence[AgentEvent]:
        self.problem = str(_table(params.get("error")).get("message") or "")
        if params.get("willRetry"):
            attempt = _ATTEMPT.search(self.problem)
            return (Retrying(int(attempt[1]) if attempt else 0, 0.0, self.problem),)
        return (Notice(self.problem),)

    def _completed(self, turn: Mapping[str, Any]) -> Sequence[AgentEvent]:
        self.done = True
        duration = turn.get("durationMs")
        self.duration_ms = duration if type(duration) is int else None
        match turn.get("status"):
            case "completed":
                pass
            case "interrupted":
                self.interrupted = True
            case _:
                self.failure = _table(turn.get("error")) or {"message": f"the turn ended as {turn.get('status')!r}"}
        return self._abandoned()

    # Both

    def known(self, thread: object) -> Sequence[AgentEvent]:
        """Note the thread that the turn is of."""
        if not isinstance(thread, str) or not thread or thread == self.thread:
            return ()
        self.thread = thread
        return (SessionKnown(thread),)

    def _began(self, item: Item) -> Sequence[AgentEvent]:
        events = began(item)
        for event in events:
            if isinstance(event, ToolBegan):
                self.acted = True
                self._open[event.id] = event
        return events

    def _ended(self, item: Item) -> Sequence[AgentEvent]:
        events = [*ended(item)]
        if item.get("type") == "agent_message":
            self.text, self._writing = text_of(item), ""
            self._said.append(self.text)
        for event in tuple(events):
            if isinstance(event, ToolEnded):
                if event.id not in self._open:  # it was begun and done at once
                    events = [*self._began(item), *events]
                call = self._open.pop(event.id, None)
                if call is not None and item.get("status") == "declined":
                    self.denials.append(Denial(tool=call.name, id=call.id, input=call.input))
        return events

    def _abandoned(self) -> Sequence[AgentEvent]:
        """Calls without an end, once there can be none any more."""
        events = [ToolEnded(id_, "interrupted", True) for id_ in self._open]
        self._open.clear()
        return events

    def _spent(self, total: object, last: object = None) -> Sequence[AgentEvent]:
        told = Totals.of(last) if isinstance(last, Mapping) else None
        if not isinstance(total, Mapping) or not self.meter.tell(Totals.of(total), told):
            return ()
        return (Spent(self.meter.usage, self.meter.by_model, self.meter.cost_usd),)


def _item(message: Mapping[str, Any]) -> Item:
    return spelled(_table(message.get("item")))


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_used_up(window: Mapping[str, Any]) -> bool:
    used, resets = window.get("usedPercent"), window.get("resetsAt")
    return isinstance(used, int | float) and used >= 100 and type(resets) is int
