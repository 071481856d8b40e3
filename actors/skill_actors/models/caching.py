"""Where a request asks the API to keep the beginning of its prompt, so that the next call reads it from there. Pure.

The API goes by the prompt as it reads it: tools, then the system prompt, then messages. At a block with `cache_control`
it keeps all that comes before and the block itself, and looks for what an earlier call has kept at this block or at one
of the 19 before it. So a breakpoint finds another one only if no more than 19 blocks were added, and a model may add
many in one answer. Therefore each request has its breakpoints at

- the last tool that can have one, which holds while the system prompt changes;
- the end of the system prompt;
- the end of the user message before the last answer, where the request before this one had its last one. There it is
  found without looking back, however long the answer and its results are;
- the end of the last user message, for the request after this one.

What is lost: what comes behind the last block that can carry a breakpoint, what the API has answered and not yet seen
as input, and the part of a paused answer, which must go back unchanged. A message that is joined to one that was sent
before finds it by looking back, if it has no more than 19 blocks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["LOOK_BACK_BLOCKS", "MAX_BREAKPOINTS", "with_breakpoints"]

MAX_BREAKPOINTS: Final = 4
LOOK_BACK_BLOCKS: Final = 20
"""How many blocks the API looks at from a breakpoint backwards, its own included."""

_TOOLS_TOKENS: Final = 1000  # at most so many the API adds itself where there are tools
_MARK: Final = {"type": "ephemeral"}
_CARRIERS: Final = frozenset({"text", "image", "document", "tool_result"})

Json = dict[str, Any]


def with_breakpoints(body: Mapping[str, Any], min_tokens: int) -> Json:
    """The body of a request with its breakpoints, at most four with those it has. What it holds is not changed.

    A body that leaves it to the API, by a `cache_control` of its own, stays as it is. No breakpoint is set where the
    prompt up to it has fewer bytes than the model's minimum has tokens: it could not be kept.

    Args:
        body: as `request_body` makes it; messages are lists of blocks.
        min_tokens: the shortest prefix that the model's cache takes.

    """
    made = dict(body)
    left = MAX_BREAKPOINTS - _marked(body)
    if left <= 0 or body.get("cache_control"):
        return made
    tools = list(body.get("tools") or ())
    short = _Short(min_tokens - (_TOOLS_TOKENS if tools else 0))
    if left and short.reached(tools) and _mark_last(tools, _takes_mark):
        made["tools"], left = tools, left - 1
    system = _blocks_of(body.get("system"))
    if left and short.reached(system) and _mark_last(system, _is_carrier):
        made["system"], left = system, left - 1
    made["messages"] = list(_marked_messages(body["messages"], short, left))
    return made


class _Short:
    """Whether a growing prefix is too short to be kept. Nothing is measured once it is long enough."""

    def __init__(self, min_bytes: int) -> None:
        self._missing_bytes = min_bytes

    def reached(self, blocks: Sequence[object]) -> bool:
        """Add these; True if the prefix with them is long enough."""
        for block in blocks:
            if self._missing_bytes <= 0:
                break
            self._missing_bytes -= len(json.dumps(block, ensure_ascii=False).encode("utf-8", "replace"))
        return self._missing_bytes <= 0


def _marked_messages(messages: Sequence[Json], short: _Short, left: int) -> Iterator[Json]:
    chosen = [number for number, message in enumerate(messages) if message["role"] == "user"][-min(2, left) :]
    for number, message in enumerate(messages):
        content = _blocks_of(message["content"])
        long_enough = short.reached(content)
        if left and number in chosen and long_enough and _mark_last(content, _is_carrier):
            yield {**message, "content": content}
        else:
            yield message


def _mark_last(blocks: list[Json], takes: Callable[[Json], bool]) -> bool:
    """Put a breakpoint at the last block that takes one and has none; False if there is none."""
    for number in reversed(range(len(blocks))):
        if takes(blocks[number]):
            if blocks[number].get("cache_control"):
                return False
            blocks[number] = {**blocks[number], "cache_control": dict(_MARK)}
            return True
    return False


def _takes_mark(tool: Mapping[str, Any]) -> bool:
    """Tools of the API are left alone, and those that are not part of the prompt until they are searched for."""
    return tool.get("type", "custom") == "custom" and not tool.get("defer_loading")


def _is_carrier(block: Mapping[str, Any]) -> bool:
    return block.get("type") in _CARRIERS


def _blocks_of(content: object) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content) if isinstance(content, Sequence) else []


def _marked(body: Mapping[str, Any]) -> int:
    """How many breakpoints there are already."""
    blocks = [*(body.get("tools") or ()), *_blocks_of(body.get("system"))]
    for message in body["messages"]:
        blocks += _blocks_of(message["content"])
    return sum(bool(block.get("cache_control")) for block in blocks)
