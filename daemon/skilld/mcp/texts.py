"""What the tools answer, in words. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from skilld.mcp.tool import ToolFailure

__all__ = ["agent_line", "answer_of", "as_json", "item_line", "money", "still_busy", "turn_text", "unless_none"]

_OPEN: Final = frozenset({"queued", "running"})


def answer_of(turn: Mapping[str, Any], agent: str | None = None) -> str:
    """The answer of a turn that has ended well.

    Raises:
        ToolFailure: it has ended otherwise; with what it had said by then.

    """
    if turn["status"] == "finished":
        return turn_text(turn) or "(no text)"
    raise ToolFailure(_failure(turn, agent))


def still_busy(turn: str, status: str, agent: str | None = None) -> str:
    """That a turn is not over, and how to go on."""
    who = f"agent {agent}: " if agent else ""
    return f"{who}turn {turn} is still {status}; it goes on. Call await with turn={turn} for its answer."


def turn_text(turn: Mapping[str, Any]) -> str:
    """What a turn has said."""
    return str((turn.get("result") or {}).get("text") or "")


def _failure(turn: Mapping[str, Any], agent: str | None) -> str:
    error = (turn.get("result") or {}).get("error") or turn.get("error") or {}
    who = f"agent {agent}: " if agent else ""
    said = turn_text(turn)
    partial = f"\nWhat it had said by then:\n{said}" if said else ""
    number = f"turn {turn['turn']} " if turn.get("turn") else ""
    return f"{who}{number}{turn['status']}: {error.get('message') or 'no reason given'}{partial}"


def agent_line(agent: Mapping[str, Any]) -> str:
    """One agent of a list."""
    backend = f", {agent['backend']}" if agent.get("backend") else ""
    role = str(agent.get("role") or "").strip().splitlines()
    waiting = f", {agent['queue_depth']} waiting" if agent.get("queue_depth") else ""
    about = f" - {role[0][:100]}" if role else ""
    return f"{agent['name']}: {agent['status']}{waiting}{backend}, {agent['turns']} turns, {money(agent)}{about}"


def money(cost: Mapping[str, Any]) -> str:
    """What something cost, as well as it is known."""
    if cost.get("cost_usd") is not None:
        return f"${cost['cost_usd']:.4f}"
    return f"${cost.get('known_usd') or 0:.4f} and what has no price"


def item_line(item: Mapping[str, Any]) -> str:
    """One item of the board."""
    holder = f", held by {item['claimed_by']}" if item.get("claimed_by") else ""
    needs = f", after {', '.join(item['depends_on'])}" if item.get("depends_on") else ""
    error = f", error: {str(item['error']).splitlines()[0][:100]}" if item.get("error") else ""
    return (
        f"{item['id']}: {item['status']}, {item['type']}, P{item['priority']}{holder}{needs}{error} - {item['title']}"
    )


def as_json(value: Any) -> str:
    """JSON for a model to read."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def unless_none(lines: Iterable[str], otherwise: str) -> str:
    """The lines, or a sentence where there are none."""
    return "\n".join(lines) or otherwise
