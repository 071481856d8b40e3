"""Conversations: events, the turn engine, the Session actor (`session`) and the manager in front of them (`manager`).

Only the events are imported here: the store is made of them, and everything else here stands on the store.
"""

from skill_actors.sessions.events import Event, Position

__all__ = ["Event", "Position"]
