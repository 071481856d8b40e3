"""Agent backends: whole agents that perform turns of a conversation. `base` is the contract."""

from .base import (
    QUIET,
    AgentBackend,
    AgentCapabilities,
    AgentError,
    AgentRequest,
    AgentResult,
    AgentSession,
    AgentSpec,
    PermissionQuestion,
    Permitted,
    Refusal,
    Watch,
)
from .registry import ENTRY_POINT_GROUP, AgentFactory, agent_factory, known_agents
from .turns_kept import KeepsTurns

__all__ = [
    "ENTRY_POINT_GROUP",
    "QUIET",
    "AgentBackend",
    "AgentCapabilities",
    "AgentError",
    "AgentFactory",
    "AgentRequest",
    "AgentResult",
    "AgentSession",
    "AgentSpec",
    "KeepsTurns",
    "PermissionQuestion",
    "Permitted",
    "Refusal",
    "Watch",
    "agent_factory",
    "known_agents",
]
