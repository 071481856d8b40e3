"""Whether an agent's tool may run: the policy says, and where it asks, people do.

The question is a durable approval like any other: shown escaped, bound to what would run, answered once, denied when
its time is over. An agent that waits for one cannot outlive the daemon: then its turn is interrupted, and the approval
is resolved with it.

What this cannot see: whether the agent's shell is in another folder by then than the one that its files are looked for
in, and a file that is exchanged between the last look and the run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.agents.base import PermissionAnswer, PermissionQuestion, Permitted, Refusal
from skill_actors.backends.tool_source import SOURCES_READ
from skill_actors.errors import Refused
from skill_actors.sessions.agents.tools import as_judged
from skill_actors.sessions.approvals import ApprovalDesk
from skill_actors.sessions.approvals.named_files import FileLimits, NotBound, Roots, named_files, words_of
from skill_actors.sessions.approvals.request import ApprovalRequest
from skill_actors.sessions.log import SessionLog
from skill_actors.sessions.policy import Decision, Policy, parse_policy
from skill_actors.sessions.screening import Blocked
from skill_actors.sessions.surroundings import Surroundings

__all__ = ["Permissions", "Ruling"]

_BEYOND: Final = "Not run: {beyond}. No rule permits that, somebody has to approve it."


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the agent is told, and the approval that allows it, if it was one."""

    answer: PermissionAnswer
    approval: str | None = None


class Permissions:
    """Answers the questions of one turn.

    Args:
        place, backend: as events and rules name them.
        folder: where the agent works.
        resting: what a question is in for as long as it waits for somebody.
        reads: tools of servers of ours that change nothing.

    """

    def __init__(
        self,
        log: SessionLog,
        turn: str,
        env: Surroundings,
        *,
        place: str,
        backend: str,
        folder: Path,
        resting: Callable[[], AbstractAsyncContextManager[None]],
        reads: Collection[str] = (),
    ) -> None:
        self._log = log
        self._turn = turn
        self._env = env
        self._place = place
        self._backend = backend
        self._folder = folder
        self._resting = resting
        self._reads = reads

    async def rule(self, question: PermissionQuestion) -> Ruling:
        """Decide. Raises what the store raises."""
        if self._env.screen is not None:
            record = self._log.record
            given = await self._env.screen.call(record.owner_uid, record.id, question.tool, question.input)
            if isinstance(given, Blocked):
                return Ruling(Refusal(given.reason))
            question = replace(question, input=given)
        decision = self._decide(question)
        if decision.verdict == "allow":
            return Ruling(Permitted(question.input))
        if decision.verdict == "deny":
            return Ruling(Refusal(decision.reason))
        meta = {"session": self._log.record.id, "turn": self._turn, "call": question.id, "tool": question.tool}
        self._env.bus.emit("approval.needed", {"count": 1}, {**meta, "place": self._place})
        desk = self._env.approvals
        if desk is None:
            return Ruling(Refusal(decision.reason))
        return await self._ask(desk, question, decision)

    def _decide(self, question: PermissionQuestion) -> Decision:
        """By the rules as they are now, the session's own among them: somebody may have changed them meanwhile."""
        judged = as_judged(question.id, question.tool, question.input)
        settings = self._log.record.settings
        policy = Policy(
            tools=frozenset({judged.name, question.tool}),
            rules=(self._env.defaults.policy, parse_policy(settings.get("policy")).rule_set),
            place=self._place,
            backend=SOURCES_READ if question.tool in self._reads else self._backend,
            backends={self._place: self._backend},
            owner_uid=self._log.record.owner_uid,
            workspace=str(self._folder),
        )
        decision = policy.decide(judged, offered=question.tool)
        if decision.verdict == "allow" and question.beyond:
            # A rule is about the call as it is written, and cannot have meant what comes with it.
            return Decision("ask", _BEYOND.format(beyond=question.beyond), decision.rule, question.beyond)
        return decision

    async def _ask(self, desk: ApprovalDesk, question: PermissionQuestion, decision: Decision) -> Ruling:
        try:
            asked = await self._look(question, decision)
        except NotBound as error:
            why = f"Not run: it needs an approval, and cannot be shown to anybody as it is: {error}."
            return Ruling(Refusal(why))
        except OSError as error:
            return Ruling(Refusal(f"Not run: a file that it names cannot be read: {error.strerror}."))
        answer = await desk.ask(
            self._log,
            self._turn,
            asked,
            timeout_s=self._env.defaults.approval_timeout_s,
            edit=partial(self._edited, question),
            resting=self._resting,
        )
        if not answer.allowed:
            return Ruling(Refusal(answer.reason))
        if used := desk.used(answer):
            await self._log.append([], approvals=used)
        allowed = question if answer.input is None else replace(question, input=answer.input)
        return await self._checked(allowed, answer.digest, None if answer.record is None else answer.record.id)

    async def _checked(self, question: PermissionQuestion, digest: str, approval: str | None) -> Ruling:
        """What may run, if it is still what was allowed."""
        again = self._decide(question)
        if again.verdict == "deny":
            return Ruling(Refusal(again.reason))
        try:
            now = await self._look(question, again)
        except (NotBound, OSError) as error:
            return Ruling(Refusal(f"Not run: it was approved, but its files cannot be looked at any more: {error}."))
        if now.digest != digest:
            why = "Not run: it was approved, but files that it names have changed since. Call it again to ask anew."
            return Ruling(Refusal(why))
        return Ruling(Permitted(question.input), approval)

    async def _edited(self, question: PermissionQuestion, given: Mapping[str, Any]) -> ApprovalRequest:
        """What the call would be with another input. Raises Refused: bad_request; forbidden, by the policy."""
        edited = replace(question, input=given)
        decision = self._decide(edited)
        if decision.verdict == "deny":
            raise Refused("forbidden", f"input: the policy denies the call as edited: {decision.reason}")
        try:
            return await self._look(edited, decision)
        except (NotBound, OSError) as error:
            raise Refused("bad_request", f"input: {error}") from error

    async def _look(self, question: PermissionQuestion, decision: Decision) -> ApprovalRequest:
        """The call as it would run at this moment. Raises NotBound, OSError."""
        judged = as_judged(question.id, question.tool, question.input)
        roots = Roots(str(self._folder), self._folder)
        files = await trio.to_thread.run_sync(named_files, words_of(judged.input, None), roots, FileLimits())
        return ApprovalRequest(
            session=self._log.record.id,
            turn=self._turn,
            call=question.id,
            tool=question.tool,
            place=self._place,
            backend=self._backend,
            input=question.input,
            cwd=str(self._folder),
            files=files,
            reason=decision.why,
            rule=decision.rule,
        )
