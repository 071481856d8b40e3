"""What the configuration says of sessions that say nothing else."""

from __future__ import annotations

from skill_actors.sessions.compaction import CompactionSettings
from skill_actors.sessions.surroundings import SessionDefaults
from skilld.config import Config
from skilld.config.policy import policy_rules

__all__ = ["session_defaults"]


def session_defaults(config: Config) -> SessionDefaults:
    """What holds for a session that says nothing else."""
    limits = config.limits
    return SessionDefaults(
        iterations=limits.iterations,
        tool_timeout_s=limits.tool_timeout_s,
        turn_timeout_s=limits.turn_timeout_s,
        tool_output_chars=limits.tool_output_chars,
        queued_messages=limits.queued_messages,
        queued_total=limits.queued_total,
        max_tokens=config.model.max_tokens,
        compaction=CompactionSettings(compact_at=config.model.compact_at, mode=config.model.context_management),
        pauses=config.backends.anthropic.max_pauses,
        hand_over_bytes=config.limits.hand_over_bytes,
        workspace_bytes=limits.workspace_bytes,
        idle_unload_s=limits.idle_unload_s,
        catalogue_tokens=config.skills.catalogue_tokens,
        restrict_to_allowed_tools=config.skills.restrict_to_allowed_tools,
        policy=policy_rules(config.policy),
        approval_timeout_s=config.policy.approval_timeout_s,
    )
