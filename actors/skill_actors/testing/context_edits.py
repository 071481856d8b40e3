"""What the fake API does about a long conversation when a request asks for it, and which requests it refuses. Pure.

clear_tool_uses_20250919 and clear_thinking_20251015 leave out what is old, anew in each request; compact_20260112 says
from which size on a summary takes the place of everything before. Each needs its beta.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from skill_actors.testing.tokens import block_tokens

__all__ = ["CLEARED", "check_context", "compaction_of", "edited"]

CLEARED: Final = "[This tool result has been cleared to save context]"
_CLEAR_TOOLS: Final = "clear_tool_uses_20250919"
_CLEAR_THINKING: Final = "clear_thinking_20251015"
_COMPACT: Final = "compact_20260112"
_BETAS: Final[Mapping[str, str]] = {
    _CLEAR_TOOLS: "context-management-2025-06-27",
    _CLEAR_THINKING: "context-management-2025-06-27",
    _COMPACT: "compact-2026-01-12",
}
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    _CLEAR_TOOLS: frozenset({"type", "trigger", "keep", "clear_at_least", "exclude_tools", "clear_tool_inputs"}),
    _CLEAR_THINKING: frozenset({"type", "keep"}),
    _COMPACT: frozenset({"type", "trigger", "pause_after_compaction", "instructions"}),
}
_UNITS: Final[Mapping[tuple[str, str], Collection[str]]] = {
    (_CLEAR_TOOLS, "trigger"): ("input_tokens", "tool_uses"),
    (_CLEAR_TOOLS, "keep"): ("tool_uses",),
    (_CLEAR_TOOLS, "clear_at_least"): ("input_tokens",),
    (_CLEAR_THINKING, "keep"): ("thinking_turns", "all"),
    (_COMPACT, "trigger"): ("input_tokens",),
}
_MIN_COMPACTION_TOKENS: Final = 50_000
_DEFAULT_COMPACTION_TOKENS: Final = 150_000
_DEFAULT_CLEARING_TOKENS: Final = 100_000
_DEFAULT_KEEP: Final = 3
_THINKING: Final = frozenset({"thinking", "redacted_thinking"})

Json = Mapping[str, Any]


def check_context(body: Json, betas: Collection[str]) -> str | None:
    """Why the API would refuse what a well-formed request asks of its context, or a summary in it; None if not."""
    return next(_problems(body, betas), None)


def edited(body: Json, tokens: int) -> tuple[Json, list[dict[str, Any]]]:
    """The body as the model reads it, and what was done to it in the words of the answer.

    Args:
        tokens: of the input as it was sent.

    """
    applied: list[dict[str, Any]] = []
    for edit in _edits(body):
        messages, done = body["messages"], None
        if edit["type"] == _CLEAR_TOOLS:
            messages, done = _without_tool_uses(body["messages"], edit, tokens)
        elif edit["type"] == _CLEAR_THINKING:
            messages, done = _without_thinking(body["messages"], edit)
        if done is not None:
            body = {**body, "messages": messages}
            tokens -= done["cleared_input_tokens"]
            applied.append({"type": edit["type"], **done})
    return body, applied


def compaction_of(body: Json, tokens: int) -> Json | None:
    """The edit that has this input compacted, if there is one and its threshold is reached."""
    edit = next((edit for edit in _edits(body) if edit["type"] == _COMPACT), None)
    if edit is None or tokens < _value(edit, "trigger", _DEFAULT_COMPACTION_TOKENS):
        return None
    return edit


def _edits(body: Json) -> Sequence[Json]:
    return (body.get("context_management") or {}).get("edits") or ()


def _value(edit: Json, field: str, default: int) -> int:
    return int((edit.get(field) or {}).get("value", default))


def _problems(body: Json, betas: Collection[str]) -> Iterator[str]:
    for number, message in enumerate(body["messages"]):
        for position, block in enumerate(message["content"] if isinstance(message["content"], list) else ()):
            if block["type"] == "compaction" and not any(beta.startswith("compact-") for beta in betas):
                yield f"messages.{number}.content.{position}: Input tag 'compaction' needs the beta compact-2026-01-12"
    management = body.get("context_management")
    if management is None:
        return
    if not any(beta.startswith(("compact-", "context-management-")) for beta in betas):
        yield "context_management: Extra inputs are not permitted"
    if not isinstance(management, Mapping) or management.keys() - {"edits"}:
        yield "context_management: Input should be an object with `edits`"
    edits = management.get("edits") or []
    if not isinstance(edits, list) or not all(isinstance(edit, Mapping) for edit in edits):
        yield "context_management.edits: Input should be a valid list"
    for number, edit in enumerate(edits):
        yield from _edit_problems(f"context_management.edits.{number}", edit, betas)
    kinds = [edit["type"] for edit in edits]
    if len(set(kinds)) != len(kinds):
        yield "context_management.edits: each strategy may be given once"
    if _CLEAR_THINKING in kinds[1:]:
        yield f"context_management.edits: `{_CLEAR_THINKING}` must come first"


def _edit_problems(where: str, edit: Json, betas: Collection[str]) -> Iterator[str]:
    kind = str(edit.get("type"))
    if kind not in _FIELDS:
        yield f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
    if _BETAS[kind] not in betas:
        yield f"{where}: `{kind}` needs the beta {_BETAS[kind]}"
    for field in sorted(edit.keys() - _FIELDS[kind]):
        yield f"{where}.{kind}.{field}: Extra inputs are not permitted"
    for field in ("trigger", "keep", "clear_at_least"):
        if edit.get(field) is not None and not _is_amount(edit[field], _UNITS[kind, field]):
            yield f"{where}.{kind}.{field}: Input should be one of {', '.join(_UNITS[kind, field])} with a value"
    if kind == _COMPACT and _value(edit, "trigger", _DEFAULT_COMPACTION_TOKENS) < _MIN_COMPACTION_TOKENS:
        yield f"{where}.{kind}.trigger.value: Input should be greater than or equal to {_MIN_COMPACTION_TOKENS}"
    if not isinstance(edit.get("pause_after_compaction", False), bool):
        yield f"{where}.{kind}.pause_after_compaction: Input should be a valid boolean"


def _is_amount(value: object, units: Collection[str]) -> bool:
    if value == "all" and "all" in units:
        return True
    if not isinstance(value, Mapping) or value.get("type") not in units:
        return False
    return value["type"] == "all" or (type(value.get("value")) is int and value["value"] >= 0)


def _without_tool_uses(
    messages: Sequence[Json], edit: Json, tokens: int
) -> tuple[Sequence[Json], dict[str, int] | None]:
    """The messages with old results cleared, and how much that was; None where nothing is to be cleared."""
    calls = [block for block in _all_blocks(messages) if block["type"] == "tool_use"]
    by_count = (edit.get("trigger") or {}).get("type") == "tool_uses"
    reached = len(calls) if by_count else tokens
    if reached <= _value(edit, "trigger", _DEFAULT_CLEARING_TOKENS):
        return messages, None
    keep = _value(edit, "keep", _DEFAULT_KEEP)
    spared = set(edit.get("exclude_tools") or ())
    old = {call["id"]: call["name"] for call in calls[: max(0, len(calls) - keep)] if call["name"] not in spared}
    inputs = edit.get("clear_tool_inputs") or ()
    cleared = [
        {**message, "content": [_cleared(block, old, inputs) for block in _blocks(message)]} for message in messages
    ]
    saved = _content_tokens(messages) - _content_tokens(cleared)
    if saved <= 0 or saved < _value(edit, "clear_at_least", 0):
        return messages, None
    return cleared, {"cleared_tool_uses": len(old), "cleared_input_tokens": saved}


def _cleared(block: Json, old: Mapping[str, str], inputs: bool | Collection[str]) -> Json:
    if block["type"] == "tool_result" and block["tool_use_id"] in old:
        return {**block, "content": CLEARED}
    if block["type"] == "tool_use" and block["id"] in old and (inputs is True or (inputs and block["name"] in inputs)):
        return {**block, "input": {}}
    return block


def _without_thinking(messages: Sequence[Json], edit: Json) -> tuple[Sequence[Json], dict[str, int] | None]:
    """The messages without the thinking of all but the last turns."""
    keep = edit.get("keep") or {"type": "thinking_turns", "value": 1}
    if keep == "all" or keep["type"] == "all":
        return messages, None
    turns = [number for number, message in enumerate(messages) if any(b["type"] in _THINKING for b in _blocks(message))]
    old = set(turns[: max(0, len(turns) - keep["value"])])
    kept = [
        {**message, "content": [block for block in _blocks(message) if block["type"] not in _THINKING]}
        if number in old
        else message
        for number, message in enumerate(messages)
    ]
    saved = _content_tokens(messages) - _content_tokens(kept)
    return (
        (kept, {"cleared_thinking_turns": len(old), "cleared_input_tokens": saved}) if saved > 0 else (messages, None)
    )


def _blocks(message: Json) -> Sequence[Json]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _all_blocks(messages: Sequence[Json]) -> Iterator[Json]:
    for message in messages:
        yield from _blocks(message)


def _content_tokens(messages: Sequence[Json]) -> int:
    return sum(block_tokens(block) for block in _all_blocks(messages))
