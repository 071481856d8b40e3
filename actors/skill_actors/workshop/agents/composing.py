"""What an agent's conversation is made with. Pure."""

from __future__ import annotations

from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.workshop.agents.settings import AgentSettings

__all__ = ["AGENT_LABEL", "cap_of", "lineage_of", "session_settings", "system_prompt"]

AGENT_LABEL: Final = "workshop.agent"


def system_prompt(*parts: str | None) -> str:
    """The parts that say something, in this order, with a blank line between: a skill's text, the context, the role."""
    return "\n\n".join(part.strip() for part in parts if part is not None and part.strip())


def session_settings(name: str, settings: AgentSettings, system: str, folder: str | None) -> dict[str, Any]:
    """As `SessionManager.create` takes them.

    Args:
        system: the whole text of the system prompt; "" for none.
        folder: where it works; None for a workspace of the conversation's own.

    Raises:
        Refused: bad_request, where there are options and no backend that they are for.

    """
    limits = {"iterations": settings.max_turns, "turn_timeout_s": settings.timeout_s}
    chosen: dict[str, Any] = {
        "title": f"agent {name}",
        "system": system or None,
        "model": settings.model,
        "backends": _backends(settings),
        "skills": settings.skills,
        "limits": {key: value for key, value in limits.items() if value is not None} or None,
        "policy": settings.policy_setting(),
        "labels": {**settings.labels, AGENT_LABEL: name},
        "cwd": folder,
    }
    return {key: value for key, value in chosen.items() if value is not None}


def _backends(settings: AgentSettings) -> list[dict[str, Any]] | None:
    """Its backend, with its options. An agent program adds our system prompt to its own unless it is told otherwise."""
    if settings.backend is None:
        if settings.options or settings.fallback or settings.system == "replace":
            raise Refused("bad_request", "backend: name the one that options, fallback and system are for")
        return None
    options = dict(settings.options)
    if settings.system == "replace":
        options.setdefault("system_prompt", "replace")
    chosen: dict[str, Any] = {"backend": settings.backend, "options": options, "fallback": list(settings.fallback)}
    return [{key: value for key, value in chosen.items() if value}]


def lineage_of(owner_uid: int, name: str) -> str:
    """The agent's name in the ledger, where agents of all owners are: what it spends counts under it for ever."""
    return f"{owner_uid}.{name}"


def cap_of(owner_uid: int, name: str) -> str:
    """The name of the cap over all that the agent may ever spend."""
    return f"agent/{lineage_of(owner_uid, name)}"
