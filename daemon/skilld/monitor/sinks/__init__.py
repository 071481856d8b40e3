"""Where reported events go besides the store: a log in files, and receivers on other hosts.

Each is a follower of the store with a cursor of its own, so that what it could not deliver waits there, as long as the
store keeps it, and one that is stuck holds up nobody.
"""

__all__ = []
