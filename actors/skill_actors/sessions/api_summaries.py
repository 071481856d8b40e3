"""Summaries that the API has put into answers, for a model that cannot read them in that form. Pure.

Such a block is taken with the API's beta, and by models that make such blocks. A conversation may go on with another
model, so there the summary is a text of the user's side, as one of ours would be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skill_actors.models.base import Message
from skill_actors.sessions.dialogue import text_block
from skill_actors.sessions.notes import summary_text

__all__ = ["is_api_summary", "with_told_summaries"]


def is_api_summary(block: Mapping[str, Any]) -> bool:
    """Whether a block is one, also if it came to nothing."""
    return block.get("type") == "compaction"


def with_told_summaries(messages: Sequence[Message], files: Sequence[str]) -> list[Message]:
    """The messages with each summary as a text of the message before its answer. What was passed is not changed.

    Args:
        messages: with roles that alternate, a user's first.
        files: names of those that came with messages; the summary says them, as it does not know them.

    """
    told: list[Message] = []
    for message in messages:
        summaries = [block["content"] for block in message["content"] if is_api_summary(block) and block.get("content")]
        if summaries and told:
            texts = [text_block(summary_text(str(summary), files)) for summary in summaries]
            told[-1] = {**told[-1], "content": [*told[-1]["content"], *texts]}
        told.append({**message, "content": [block for block in message["content"] if not is_api_summary(block)]})
    return told
