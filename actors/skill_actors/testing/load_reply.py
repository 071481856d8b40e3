"""What the fake API answers when nobody scripts it: enough for load tests, driven by the text of the message.

The last thing the user said is answered in words that quote it, so that a test can tell whose answer it got.
Lines of it that begin with # are directions:

    #call NAME {"json": "input"}    call this tool first; calls in neighbouring lines run in parallel
    #then                           the calls after this line belong to the next round
    #words N                        answer with N more words
    #delay S                        wait S seconds before each delta

The final answer repeats the beginning of each result of the last round.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from skill_actors.testing.replies import Answer, HttpError, Part, Reply, Text, ToolUse

__all__ = ["default_reply"]

_QUOTED_CHARS: Final = 200


@dataclass(slots=True)
class _Directions:
    said: list[str] = field(default_factory=list)
    rounds: list[list[ToolUse]] = field(default_factory=lambda: [[]])
    words: int = 0
    delay_s: float = 0.0


def default_reply(body: Mapping[str, Any]) -> Answer:
    """Answer a request as its last user message directs; a direction that is not understood is a 400."""
    text, results, rounds_done = _conversation(body["messages"])
    try:
        directions = _read(text)
    except ValueError as error:
        return HttpError(400, message=f"direction not understood: {error}")
    rounds = [calls for calls in directions.rounds if calls]
    if rounds_done < len(rounds):
        blocks: list[Part] = [Text(f"Round {rounds_done + 1} of {len(rounds)}."), *rounds[rounds_done]]
        return Reply(blocks, delay_s=directions.delay_s)
    said = f"You said: {' '.join(directions.said)}"
    parts = [said, *(f"Result: {result[:_QUOTED_CHARS]}" for result in results)]
    parts += [" ".join(f"word{number}" for number in range(directions.words))] if directions.words else []
    return Reply([Text("\n".join(parts))], delay_s=directions.delay_s)


def _read(text: str) -> _Directions:
    directions = _Directions()
    for line in text.splitlines():
        match line.split(maxsplit=2):
            case ["#call", name, *rest]:
                directions.rounds[-1].append(ToolUse(name, json.loads(rest[0]) if rest else {}))
            case ["#then"]:
                directions.rounds.append([])
            case ["#words", number]:
                directions.words = int(number)
            case ["#delay", seconds]:
                directions.delay_s = float(seconds)
            case _:
                directions.said.append(line)
    return directions


def _conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[str, Sequence[str], int]:
    """The last question, the results that came last after it, and how many rounds of tools it has had."""
    rounds: list[list[str]] = []
    for message in reversed(messages):
        if message["role"] != "user":
            continue
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        results = [_text_of(block) for block in blocks if block["type"] == "tool_result"]
        if not results:
            question = "\n".join(block["text"] for block in blocks if block["type"] == "text")
            return question, rounds[0] if rounds else (), len(rounds)
        rounds.append(results)
    return "", rounds[0] if rounds else (), len(rounds)


def _text_of(result: Mapping[str, Any]) -> str:
    content = result.get("content", "")
    return content if isinstance(content, str) else "".join(str(block.get("text", "")) for block in content)
