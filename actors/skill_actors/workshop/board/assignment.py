"""What a worker's agent is told about an item, and what its turn means for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.workshop.board.item import Item
from skill_actors.workshop.board.outcome import Outcome, cut_result

__all__ = ["NotDone", "assignment_text", "outcome_of_turn"]

_MAX_INPUT_CHARS: Final = 20_000  # of one result that an item builds on
_MAX_INPUTS_CHARS: Final = 100_000  # of all of them
_NOT_DONE: Final = "NOT DONE:"
_MAX_REASON_CHARS: Final = 2_000
_NEVER_BEGUN: Final = frozenset({"agent_overloaded", "backend_unavailable"})  # where no model has answered
_WHOLE: Final = frozenset({None, "end_turn", "stop_sequence", "completed", "success"})


class NotDone(Exception):
    """An attempt that did not succeed; the message says why."""


def assignment_text(item: Item, inputs: Sequence[Item]) -> str:
    """The message for the agent: title, spec, results of what the item builds on, how its answer is judged.

    A text that begins with `/` would run a skill's command; a title never stands at the beginning.
    """
    parts = [f"Work item {item.id}: {item.title}"]
    if item.spec:
        parts.append(item.spec)
    parts += _results(inputs)
    if item.verify is not None and item.verify.schema is not None:
        parts.append("Answer with one JSON value as the schema asks, and nothing else.")
    if item.verify is not None and item.verify.argv:
        parts.append(f"It counts as done when this command, run where you work, ends with 0: {item.verify.argv!r}")
    if item.verify is None or item.verify.schema is None:
        parts.append(f"If it cannot be done, begin your answer with {_NOT_DONE} and say why.")
    if item.attempts > 1 and item.error:
        parts.append(
            f"This is attempt {item.attempts} of {item.max_attempts}. "
            f"The one before did not succeed, and may have left something behind: {item.error}"
        )
    return "\n\n".join(parts)


def _results(inputs: Sequence[Item]) -> list[str]:
    left, parts = _MAX_INPUTS_CHARS, []
    for item in inputs:
        text = (item.result or "(it left no text)")[: min(_MAX_INPUT_CHARS, left)]
        left -= len(text)
        cut = " (cut)" if len(text) < len(item.result or "") else ""
        parts.append(f"Result of {item.id} ({item.title}){cut}:\n{text}")
    return parts


def outcome_of_turn(item: Item, turn: Mapping[str, Any]) -> Outcome:
    """What the agent has done. Raises NotDone unless its turn came to a good end.

    An agent that is idle again has not thereby done anything: only a turn that was finished, with an answer that does
    not say otherwise, counts.

    Raises:
        Refused: backend_unavailable, where the turn could not even be begun: that is no attempt.

    """
    result = turn.get("result") or {}
    if turn["status"] != "finished":
        error = result.get("error") or {}
        if error.get("code") in _NEVER_BEGUN and not result.get("iterations"):
            raise Refused("backend_unavailable", f"its turn could not be begun: {error.get('message')}")
        why = f": {error['message']}" if error.get("message") else ""
        raise NotDone(f"its turn {turn['turn']} {_ENDINGS.get(turn['status'], 'has not ended')}{why}")
    stop_reason = result.get("stop_reason")
    if stop_reason not in _WHOLE:
        raise NotDone(f"its turn {turn['turn']} ended with {stop_reason}, and its answer is not whole")
    text = str(result.get("text") or "")
    if not text.strip():
        raise NotDone(f"its turn {turn['turn']} ended without an answer")
    if text.lstrip().startswith(_NOT_DONE):
        reason = text.lstrip().removeprefix(_NOT_DONE).strip()
        raise NotDone(f"its agent says that it is not done: {reason[:_MAX_REASON_CHARS] or 'without a reason'}")
    asks_json = item.verify is not None and item.verify.schema is not None
    return Outcome(result=text if asks_json else cut_result(text))


_ENDINGS: Final[Mapping[str, str]] = {
    "failed": "failed",
    "cancelled": "was cancelled",
    "interrupted": "was interrupted by a restart",
}
