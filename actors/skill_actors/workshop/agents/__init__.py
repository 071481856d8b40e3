"""Agents: conversations under names, with profiles and queues, and ways to speak to one, to several, to one another."""

from skill_actors.workshop.agents.desk import AgentDesk
from skill_actors.workshop.agents.surroundings import AgentSurroundings

__all__ = ["AgentDesk", "AgentSurroundings"]
