"""Readers of what Cylestio Monitor left behind: its files and its data base, of both generations, as our events.

source (which kind, opened safely) -> generation_a | generation_b | sqlite_a -> pairs (two records, one span) -> sender
"""

__all__ = []
