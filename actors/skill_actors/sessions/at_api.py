"""What a conversation has at the API besides its messages: files that code in containers made, and files sent there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skill_actors.models.base import Block

__all__ = ["AtApi"]


@dataclass(slots=True)
class AtApi:
    """Files at the API, as events have told of them.

    Args:
        files: those that code has made, by name.
        unnamed: ids of those that no event has named yet, in their order.
        uploads: those that the messages give to the container, by id.
        waiting: uploads that no message has given yet.

    """

    files: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    unnamed: dict[str, None] = field(default_factory=dict)
    uploads: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)

    def made(self, data: Mapping[str, Any]) -> None:
        """An event has named a file that code has made."""
        self.unnamed.pop(str(data["file_id"]), None)
        self.files[str(data["name"])] = data

    def sent(self, data: Mapping[str, Any]) -> None:
        """A file was sent, which the next message gives to the container."""
        file_id = str(data["file_id"])
        self.uploads[file_id] = data
        self.waiting.append(file_id)

    def keep(self, kept: Collection[str]) -> None:
        """Forget uploads, but for those of these ids."""
        self.uploads = {id: self.uploads[id] for id in kept if id in self.uploads}
        self.waiting = [id for id in self.waiting if id in kept]

    def take_waiting(self) -> Sequence[Block]:
        """Blocks for a message of the user's, which is about to come."""
        taken, self.waiting = self.waiting, []
        return [{"type": "container_upload", "file_id": id} for id in taken]

    def give_again(self) -> None:
        """The messages that gave files to the container are not sent any more: another one has to."""
        self.waiting = list(self.uploads)
