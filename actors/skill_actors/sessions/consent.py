"""A call that needs an approval, from the question to what may run: exactly what was shown, or nothing.

The call is looked at when somebody is asked, and once more when the answer has come, right before it would run: what
it is called with, the words of its command, the files that these name, the skill. If anything is not as it was shown,
the call does not run, and the model is told what has changed.

What this cannot see: a file that is exchanged in the moment between the second look and its opening, by another call
that runs beside this one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from skill_actors.backends.base import ToolCall
from skill_actors.backends.tools import TOOLS, BadInput, parse
from skill_actors.errors import Refused
from skill_actors.native import complaint
from skill_actors.sessions.approvals.binding import Binding, Bound, CannotBind
from skill_actors.sessions.approvals.desk import ApprovalDesk
from skill_actors.sessions.approvals.outcomes import Answer
from skill_actors.sessions.approvals.request import ApprovalRequest
from skill_actors.sessions.grants import Granted
from skill_actors.sessions.log import SessionLog
from skill_actors.sessions.policy import Decision
from skill_actors.sessions.site import Site
from skill_actors.store.base import ApprovalRecord

__all__ = ["Cleared", "Consent", "Withheld"]

_TOOLS: Final = frozenset(str(tool["name"]) for tool in TOOLS)
_MAX_NOTE_CHARS: Final = 4_000


@dataclass(frozen=True, slots=True)
class Cleared:
    """A call that may run.

    Args:
        call: as it may run, by the name that its tool has in its place.
        granted: exactly what was looked at last; None if it was not looked at, since nobody was asked.
        approvals: to be stored with the event that says that it was begun.
        approval: the id of the one that allows it.
        note: told to the model with the result.

    """

    call: ToolCall
    granted: Granted | None = None
    approvals: Sequence[ApprovalRecord] = ()
    approval: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Withheld:
    """A call that does not run, and why, for the model; `approvals` are to be stored with its result."""

    reason: str
    approvals: Sequence[ApprovalRecord] = ()


class Consent:
    """Obtains approvals for the calls of one message of the model.

    Args:
        desk: where somebody is asked.
        binding: looks at calls as they would run.
        timeout_s: how long an answer is waited for.
        resting: what a call is in for as long as it waits.
        schemas: of the tools, by the names that the model knows them by: an edited input has to keep to them.

    """

    def __init__(
        self,
        desk: ApprovalDesk,
        log: SessionLog,
        turn: str,
        binding: Binding,
        *,
        timeout_s: float,
        resting: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        schemas: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._desk = desk
        self._log = log
        self._turn = turn
        self._binding = binding
        self._timeout_s = timeout_s
        self._resting = resting
        self._schemas = schemas or {}

    async def obtain(self, call: ToolCall, routed: ToolCall, site: Site, decision: Decision) -> Cleared | Withheld:
        """Ask for an approval of the call, and say what may run.

        Args:
            call: as the model made it.
            routed: by the name that its tool has in the place.
            decision: of the policy, which wants somebody to be asked.

        Raises: what the store raises.
        """
        try:
            bound = await self._binding.look(routed, site, decision)
        except CannotBind as error:
            return Withheld(str(error))
        answer = await self._desk.ask(
            self._log,
            self._turn,
            bound.request,
            timeout_s=self._timeout_s,
            edit=partial(self._edited, call, routed, site),
            resting=self._resting,
        )
        if not answer.allowed:
            return Withheld(answer.reason)
        return await self._checked(call, routed, site, decision, bound.request, answer)

    async def _checked(
        self,
        call: ToolCall,
        routed: ToolCall,
        site: Site,
        decision: Decision,
        asked: ApprovalRequest,
        answer: Answer,
    ) -> Cleared | Withheld:
        """What may run, if it is still what was allowed."""
        used = self._desk.used(answer)
        allowed, note = asked, ""
        if answer.input is not None:
            routed = replace(routed, input=answer.input)
            allowed, note = answer.edited or asked, _edit_note(answer)
        again = site.policy_now.decide(routed, offered=call.name)
        if again.verdict == "deny":
            return Withheld(again.reason, used)
        try:
            now = await self._binding.look(routed, site, decision)
        except CannotBind as error:
            return Withheld(str(error), used)
        if now.request.digest != answer.digest:
            return Withheld(_changed(allowed, now), used)
        return Cleared(routed, now.granted, used, None if answer.record is None else answer.record.id, note)

    async def _edited(self, call: ToolCall, routed: ToolCall, site: Site, given: Mapping[str, Any]) -> ApprovalRequest:
        """What the call would be with another input. Raises Refused: bad_request; forbidden, by the policy."""
        if routed.argv is not None:
            raise Refused("bad_request", "input: the entry command of a skill cannot be edited; allow or deny it")
        wrong = complaint(self._schemas.get(call.name, {}), given, "input")
        if wrong is not None:
            raise Refused("bad_request", wrong)
        edited = replace(routed, input=given)
        if routed.name in _TOOLS:
            try:
                parse(edited)
            except BadInput as error:
                raise Refused("bad_request", f"input: {error}") from error
        decision = site.policy_now.decide(edited, offered=call.name)
        if decision.verdict == "deny":
            raise Refused("forbidden", f"input: the policy denies the call as edited: {decision.reason}")
        try:
            return (await self._binding.look(edited, site, decision)).request
        except CannotBind as error:
            raise Refused("bad_request", f"input: {error}") from error


def _changed(allowed: ApprovalRequest, now: Bound) -> str:
    changes = allowed.changes(now.request) or ["what it would do"]
    shown = "; ".join(changes[:10]) + (f"; and {len(changes) - 10} more" if len(changes) > 10 else "")
    return f"Not run: it was approved, but this has changed since it was shown: {shown}. Call it again to ask anew."


def _edit_note(answer: Answer) -> str:
    given = json.dumps(answer.input, ensure_ascii=False)
    if len(given) > _MAX_NOTE_CHARS:
        given = f"{given[: _MAX_NOTE_CHARS // 2]} [...] {given[-_MAX_NOTE_CHARS // 2 :]}"
    return f"[skilld: {answer.by} edited this call before it ran. It ran with this input instead: {given}]\n"
