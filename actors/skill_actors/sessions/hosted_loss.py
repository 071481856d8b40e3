"""What the API has lost of a hosted conversation, as its refusals tell: the container, or a file that was sent. Pure.

A history that names either would be refused for ever; with the event for it, the next request names it no more.
"""

from __future__ import annotations

import re
from typing import Final

from skill_actors.backends.anthropic import HostedError
from skill_actors.backends.anthropic.turn import is_container_lost
from skill_actors.models.base import ModelError
from skill_actors.sessions.history import History
from skill_actors.sessions.log import Draft

__all__ = ["hosted_loss"]

_WORD: Final = re.compile(r"[\w-]+")
_FILE_STATUS: Final = frozenset({400, 404, 410})


def hosted_loss(error: ModelError, history: History, turn: str) -> Draft | None:
    """The event that tells of the loss for which a request with this history was refused; None if it was not for one.

    Args:
        turn: its id, which sent the request.

    """
    failure = HostedError("anthropic_api_error", str(error), details={"status": error.status})
    container = history.container
    if container is not None and is_container_lost(failure, container):
        return Draft("session.container_lost", None, {"container": container})
    if error.status not in _FILE_STATUS:
        return None
    named = set(_WORD.findall(str(error)))
    lost = next((upload for id, upload in history.uploads.items() if id in named), None)
    return None if lost is None else Draft("file.deleted", turn, {**lost, "size": None, "checksum": None})
