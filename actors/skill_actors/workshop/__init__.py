"""The workshop: agents with names, a board of work, workflows and schedules over conversations, and what they share.

Each module holds one noun; import from there what is not named here. Knows no socket.
"""

from skill_actors.workshop.names import check_name, document_id

__all__ = ["check_name", "document_id"]
