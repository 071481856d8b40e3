"""Making a long conversation shorter by a summary of its earlier part, and when that is due."""

from skill_actors.sessions.compaction.perform import CompactionReason, compact
from skill_actors.sessions.compaction.when import (
    CompactionMode,
    CompactionSettings,
    compact_at_tokens,
    compacts_there,
    compacts_when_full,
    needs_compaction,
)

__all__ = [
    "CompactionMode",
    "CompactionReason",
    "CompactionSettings",
    "compact",
    "compact_at_tokens",
    "compacts_there",
    "compacts_when_full",
    "needs_compaction",
]
