"""The skilld daemon: process, wiring, socket, command line."""

from skill_actors import __version__

__all__ = ["__version__"]
