"""Actors, sessions, skills, models and backends: everything of skilld that needs no daemon.

Import from the sub-packages (`skill_actors.runtime`, `skill_actors.sessions`, ...); this module
holds the version only, so that importing it costs nothing.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
