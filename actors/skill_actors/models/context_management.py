"""What the API is asked to do itself about a conversation that grows: clear old tool results, and compact. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from skill_actors.models.facts import ModelFacts

__all__ = ["COMPACTION_BETA", "EDITING_BETA", "MIN_COMPACTION_TOKENS", "context_management"]

COMPACTION_BETA: Final = "compact-2026-01-12"
EDITING_BETA: Final = "context-management-2025-06-27"
MIN_COMPACTION_TOKENS: Final = 50_000
"""The API compacts nothing below this, and refuses to be told so."""


def context_management(
    facts: ModelFacts,
    *,
    compact_at_tokens: int | None,
    clear_at_tokens: int | None = None,
    keep_tool_uses: int = 3,
    clear_at_least_tokens: int | None = None,
    instructions: str | None = None,
    pause: bool = False,
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The fields for `ModelRequest.extra` and `ModelRequest.betas`; both empty where the model offers nothing of it.

    Clearing is off unless it is asked for: the API clears anew in each call, from the whole history, so that beyond
    the threshold each call has another prefix, and nothing behind the first cleared result is read from its cache.

    Args:
        compact_at_tokens: input of a call from which on it is compacted; None for never, raised to what the API takes.
        clear_at_tokens: input of a call from which on results of old tool uses are cleared; None for never.
        keep_tool_uses: the last so many tool uses are kept whole.
        clear_at_least_tokens: nothing is cleared where it would be less than this.
        instructions: replaces what the API tells the model for its summary.
        pause: end the answer after the summary, with the stop reason "compaction".

    """
    edits: list[dict[str, Any]] = []
    betas: list[str] = []
    if clear_at_tokens is not None and facts.context_editing:
        edits.append(_clearing(clear_at_tokens, keep_tool_uses, clear_at_least_tokens))
        betas.append(EDITING_BETA)
    if compact_at_tokens is not None and facts.compaction:
        edits.append(_compaction(max(compact_at_tokens, MIN_COMPACTION_TOKENS), instructions, pause=pause))
        betas.append(COMPACTION_BETA)
    return ({"context_management": {"edits": edits}} if edits else {}), tuple(betas)


def _clearing(at_tokens: int, keep: int, at_least_tokens: int | None) -> dict[str, Any]:
    edit: dict[str, Any] = {
        "type": "clear_tool_uses_20250919",
        "trigger": {"type": "input_tokens", "value": at_tokens},
        "keep": {"type": "tool_uses", "value": keep},
    }
    if at_least_tokens is not None:
        edit["clear_at_least"] = {"type": "input_tokens", "value": at_least_tokens}
    return edit


def _compaction(at_tokens: int, instructions: str | None, *, pause: bool) -> dict[str, Any]:
    edit: dict[str, Any] = {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": at_tokens}}
    if instructions is not None:
        edit["instructions"] = instructions
    if pause:
        edit["pause_after_compaction"] = True
    return edit
