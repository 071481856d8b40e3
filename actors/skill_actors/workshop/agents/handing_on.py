"""One agent's result given to another, and one message given to many.

A pipe waits until the first agent has nothing left to do, and tells the second one its last result; where that is an
error, it is the pipe's result, and nobody is told anything. A fan tells several agents the same and gathers as many of
their answers as are wanted; those that are not wanted any more are cancelled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.table import Viewer
from skill_actors.workshop.agents.asking import Asking, Message
from skill_actors.workshop.agents.gathering import Gather, chosen_by, judge_text
from skill_actors.workshop.agents.surroundings import AgentSurroundings
from skill_actors.workshop.agents.templates import filled, handed_on
from skill_actors.workshop.agents.views import is_good, text_of

__all__ = ["HandingOn"]

_MAX_AGENTS = 100
_ENOUGH = "enough of the other agents have answered"


@dataclass(slots=True, kw_only=True)
class _Answers:
    """What has come so far of a fan, by the place of the agent in its list."""

    gather: Gather
    found: dict[int, dict[str, Any]] = field(default_factory=dict)
    over: trio.Event = field(default_factory=trio.Event)

    def add(self, place: int, answer: dict[str, Any]) -> None:
        self.found[place] = answer
        if self.gather.is_over(self.good, len(self.found)):
            self.over.set()

    @property
    def good(self) -> int:
        return sum(map(is_good, self.found.values()))


class HandingOn:
    """Pipes and fans. Belongs to the trio thread. Results are JSON-ready."""

    def __init__(self, env: AgentSurroundings, asking: Asking) -> None:
        self._env = env
        self._asking = asking

    async def pipe(
        self,
        owner_uid: int,
        source: str,
        target: str,
        *,
        message: str | None = None,
        template: str | None = None,
        timeout_s: float | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """Wait for `source`, tell `target` its result, and wait for the answer: the turn's JSON form.

        Args:
            message: comes before the result; a sentence of ours without one.
            template: with {result}, {message} and {from}, in place of message and result.
            timeout_s: of all of it. When it is over, the turn of `target` is cancelled; that of `source` is not.

        Raises:
            Refused: conflict where `source` has no result (`details.reason` is no_result), or is still busy when the
                time is over (still_busy); bad_request, not_found and what `Asking.cast` raises.

        """
        filled(template or "", {"result": "", "message": "", "from": ""})  # before anybody waits
        deadline = math.inf if timeout_s is None else trio.current_time() + timeout_s
        waited = await self._asking.await_agent(owner_uid, source, wait_s=deadline - trio.current_time())
        if not waited["idle"]:
            raise _no_result(source, "still_busy", f"is still busy after {timeout_s:g} s")
        turn = waited["turn"]
        if turn is None:
            raise _no_result(source, "no_result", "has not answered anything yet")
        if not is_good(turn):
            return {**turn, "agent": source}
        if not text_of(turn).strip():
            raise _no_result(source, "no_result", "has answered with no text")
        text = handed_on(source, text_of(turn), message=message, template=template)
        left_s = None if timeout_s is None else max(0.1, deadline - trio.current_time())
        return await self._asking.ask(owner_uid, target, Message(text=text, key=key, timeout_s=left_s))

    async def fan(
        self,
        owner_uid: int,
        names: Sequence[str],
        message: Message,
        gather: Gather,
        *,
        judge: str | None = None,
        criterion: str | None = None,
    ) -> dict[str, Any]:
        """Tell all of these agents the same, and gather.

        Returns:
            {"gather", "reached", "results", "best"}: whether there is what was asked for; by agent, in the order of
            their names, its turn's JSON form, or {"agent", "status": "refused", "error"} where it took no message, or
            {"agent", "turn", "status"} of one that nobody waited for; of the one that the judge chose, {"agent",
            "number", "turn" (the judge's)}.

        Raises:
            Refused: bad_request; conflict where the judge failed, or chose none (judge_failed, no_choice).

        """
        if not 0 < len(names) <= _MAX_AGENTS or len(set(names)) != len(names):
            raise Refused("bad_request", f"agents: expected 1 to {_MAX_AGENTS} names, each of them once")
        answers = _Answers(gather=gather)
        deadline = math.inf if message.timeout_s is None else trio.current_time() + message.timeout_s
        turns = [await self._told(owner_uid, name, message) for name in names]
        if gather.kind != "none":
            await self._gather(owner_uid, names, turns, answers, deadline, message.timeout_s)
        results = [answers.found.get(place, turn) for place, turn in enumerate(turns)]
        good = [place for place, turn in enumerate(results) if is_good(turn)]
        found: dict[str, Any] = {
            "gather": gather.kind,
            "reached": gather.is_reached(len(good), len(answers.found)),
            "results": results,
            "best": None,
        }
        if judge is not None and good:
            chosen = [results[place] for place in good]
            found["best"] = await self._judged(owner_uid, judge, message, chosen, criterion)
        return found

    async def _told(self, owner_uid: int, name: str, message: Message) -> dict[str, Any]:
        """What became of the message at one agent."""
        try:
            sent = await self._asking.cast(owner_uid, name, message)
        except Refused as refused:
            return {"agent": name, "status": "refused", **refused.to_dict()}
        return sent.to_dict()

    async def _gather(
        self,
        owner_uid: int,
        names: Sequence[str],
        turns: Sequence[dict[str, Any]],
        answers: _Answers,
        deadline: float,
        timeout_s: float | None,
    ) -> None:
        async def one(place: int) -> None:
            turn = turns[place]
            if "turn" in turn:
                try:
                    turn = await self._asking.settled(
                        owner_uid, names[place], turn["turn"], deadline=deadline, timeout_s=timeout_s
                    )
                except Refused as refused:  # its conversation was deleted
                    turn = {"agent": names[place], "status": "refused", **refused.to_dict()}
            answers.add(place, turn)

        async with trio.open_nursery() as nursery:
            for place in range(len(names)):
                nursery.start_soon(one, place)
            await answers.over.wait()
            await self._cancel_rest(owner_uid, turns, answers)

    async def _cancel_rest(self, owner_uid: int, turns: Sequence[dict[str, Any]], answers: _Answers) -> None:
        """End those that are not wanted any more: their waiters then see them end."""
        for place, turn in enumerate(turns):
            if place not in answers.found:
                await self._env.sessions.cancel_turn(turn["turn"], Viewer(uid=owner_uid), reason=_ENOUGH)

    async def _judged(
        self, owner_uid: int, judge: str, message: Message, chosen: Sequence[dict[str, Any]], criterion: str | None
    ) -> dict[str, Any]:
        text = judge_text(message.text, [text_of(turn) for turn in chosen], criterion=criterion)
        key = None if message.key is None else f"{message.key}:judge"[:255]
        asked = replace(message, text=text, key=key, options=None, schema=None, files=(), force=False)
        turn = await self._asking.ask(owner_uid, judge, asked)
        if not is_good(turn):
            why = ((turn.get("result") or {}).get("error") or {}).get("message") or f"its turn is {turn['status']}"
            raise Refused(
                "conflict",
                f"the judge {judge!r} gave no answer: {why}",
                details={"reason": "judge_failed", "turn": turn["turn"]},
            )
        number = chosen_by(text_of(turn), len(chosen))
        if number is None:
            raise Refused(
                "conflict",
                f"the judge {judge!r} answered with no number from 1 to {len(chosen)}; nothing is guessed. Its answer "
                f"is that of turn {turn['turn']}",
                details={"reason": "no_choice", "turn": turn["turn"]},
            )
        return {"agent": chosen[number - 1]["agent"], "number": number, "turn": turn["turn"]}


def _no_result(source: str, reason: str, why: str) -> Refused:
    return Refused("conflict", f"agent {source!r} {why}", details={"reason": reason})
